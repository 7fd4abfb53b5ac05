"""Going on with a run: from the newest good checkpoint, and never as another run."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from sightline.config import RunConfig
from sightline.data.shapes import write_shapes
from sightline.errors import RunError, StoppedError
from sightline.records import RunDirectory, read_json, write_json
from sightline.training import SilentObserver, train
from sightline.training.checkpoints.manifest import write_manifest
from sightline.training.exporting import Export

NUM_STEPS = 6
# A rate so high that the last evaluation is not the best.
WORSE = {
    "best_by": "eval_loss",
    "eval_every": 1,
    "save_total_limit": 1,
    "learning_rate": 0.3,
    "warmup_ratio": 0.0,
    "scheduler": "constant",
}


class Noting(SilentObserver):
    """Remembers what is said of how the run goes on; ends it after a step where it is to."""

    def __init__(self, stop_after: int | None = None, signal_after: int | None = None) -> None:
        self.notes: list[str] = []
        self._stop_after = stop_after
        self._signal_after = signal_after

    def note(self, text: str) -> None:
        self.notes.append(text)

    def trainer_callbacks(self) -> list[Any]:
        if self._signal_after is not None:
            return [_Stopping(self._signal_after, by_signal=True)]
        return [] if self._stop_after is None else [_Stopping(self._stop_after, by_signal=False)]


class _Stopping(TrainerCallback):
    def __init__(self, after: int, *, by_signal: bool) -> None:
        self._after = after
        self._by_signal = by_signal

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._after and self._by_signal:
            os.kill(os.getpid(), signal.SIGTERM)
        elif state.global_step == self._after:
            raise RuntimeError("ended for the test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_folder) -> Path:
    """Data of five pictures, three steps an epoch, and a model."""
    root = tmp_path_factory.mktemp("resume")
    write_shapes(root / "data", num_images=5, height=56, width=56)
    shutil.copytree(tiny_folder("qwen2_vl"), root / "model")
    return root


def _config(folder: Path, output: Path, **training: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": str(folder / "model"),
            "data": {
                "train": str(folder / "data" / "train.jsonl"),
                "eval": str(folder / "data" / "train.jsonl"),
                "index_folder": str(folder / "index"),
            },
            "tuning": {"language": "lora", "vision": "freeze", "lora": {"dropout": 0.2}},
            "training": {
                "epochs": 2,
                "batch_size": 1,
                "gradient_accumulation": 2,
                "learning_rate": 1e-3,
                "save_every": 1,
                "save_total_limit": 3,
                "log_every": 2,
                "gradient_checkpointing": False,
            }
            | training,
            "export": {"merged": False},
            "verify": {"samples": 1, "max_new_tokens": 2},
            "output": str(output),
        }
    )


@pytest.fixture(scope="module")
def whole(folder: Path) -> tuple[RunConfig, Path]:
    """A run that nobody ended."""
    config = _config(folder, folder / "whole")
    train(config, Noting())
    return config, folder / "whole"


@pytest.fixture(scope="module")
def whole_by_steps(folder: Path) -> Path:
    """One that evaluates every second step."""
    train(_config(folder, folder / "by steps", eval_every=2), Noting())
    return folder / "by steps"


@pytest.fixture
def again(whole, tmp_path: Path) -> Callable[..., tuple[RunConfig, Path]]:
    """A copy of the run as it was when it was ended after a step."""

    def made(step: int = NUM_STEPS, **changes: Any) -> tuple[RunConfig, Path]:
        config, run = whole
        output = tmp_path / "run"
        shutil.copytree(run, output)
        for name in ("adapter", "probe-media"):
            shutil.rmtree(output / name, ignore_errors=True)
        for number in range(step + 1, NUM_STEPS + 1):
            shutil.rmtree(output / "checkpoints" / f"checkpoint-{number}")
        state = read_json(output / "run.json") | {"state": "training", "finished": None}
        write_json(output / "run.json", state)
        training = config.training.model_copy(update=changes)
        return config.model_copy(update={"output": str(output), "training": training}), output

    return made


def _is_same(one: Path, other: Path) -> bool:
    first, second = (
        load_file(run / "adapter" / "adapter_model.safetensors") for run in (one, other)
    )
    assert _metrics(one) == _metrics(other)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def _plain(name: str) -> str:
    """The name of a factor in a checkpoint, from that in an adapter's file."""
    return name.removeprefix("base_model.model.").removesuffix(".weight")


def _metrics(run: Path) -> list[Any]:
    keys = ("step", "loss", "eval_loss", "grad_norm", "learning_rate")
    return [[line.get(key) for key in keys] for line in RunDirectory(run).read_metrics()]


# Which checkpoint.


def test_the_newest_that_is_good_is_used_and_what_is_not_is_named(whole, again) -> None:
    config, run = again()
    newest = run / "checkpoints" / "checkpoint-6" / "optimizer.safetensors"
    os.truncate(newest, 1000)
    observer = Noting()
    train(config, observer, resume=True)
    [note] = observer.notes
    size = (whole[1] / "checkpoints" / "checkpoint-6" / newest.name).stat().st_size
    assert f"optimizer.safetensors has 1,000 bytes, the manifest says {size:,}" in note
    assert "The one of step 5 is whole" in note
    assert _is_same(whole[1], run)
    # The broken one was written anew.
    assert newest.stat().st_size == size


def test_where_none_is_good_the_run_is_refused_and_nothing_written(again) -> None:
    config, run = again()
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / "manifest.json").unlink()
    before = (run / "config.yaml").stat().st_mtime_ns, _metrics(run)
    with pytest.raises(RunError) as refused:
        train(config, Noting(), resume=True)
    assert all(f"checkpoint-{step} cannot be used" in str(refused.value) for step in (4, 5, 6))
    assert (run / "config.yaml").stat().st_mtime_ns, _metrics(run) == before


def test_without_a_checkpoint_the_run_begins_anew_and_says_so(whole, again) -> None:
    config, run = again()
    shutil.rmtree(run / "checkpoints")
    (run / "ledger.jsonl").unlink()
    observer = Noting()
    train(config, observer, resume=True)
    assert observer.notes == [
        "The run was ended before its first checkpoint: it begins anew, at step 0."
    ]
    assert _is_same(whole[1], run)
    assert (run / "ledger.jsonl").is_file()


def test_a_checkpoint_of_another_run_is_passed_over(whole, again, folder, tmp_path) -> None:
    other = _config(folder, tmp_path / "other", seed=7)
    train(other, Noting())
    config, run = again(5)
    shutil.copytree(
        tmp_path / "other" / "checkpoints" / "checkpoint-6", run / "checkpoints" / "checkpoint-6"
    )
    observer = Noting()
    train(config, observer, resume=True)
    assert "training.seed is 7 in it, 42 in this one" in observer.notes[0]
    assert _is_same(whole[1], run)


def test_what_killed_saves_and_exports_left_goes(whole, again) -> None:
    config, run = again(5)
    shutil.copytree(
        run / "checkpoints" / "checkpoint-5", run / "checkpoints" / ".checkpoint-6.0123abcd"
    )
    (run / "checkpoints" / ".checkpoint-6.0123abcd" / "manifest.json").unlink()
    (run / ".adapter.0123abcd").mkdir()
    train(config, Noting(), resume=True)
    assert not [
        path
        for path in (*run.iterdir(), *(run / "checkpoints").iterdir())
        if path.name.startswith(".")
    ]
    assert _is_same(whole[1], run)


def test_what_a_killed_save_did_not_come_to_remove_goes_without_another_save(again) -> None:
    config, run = again(save_total_limit=1)
    train(config, Noting(), resume=True)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["checkpoint-6"]


# Where in the run it was.


def test_a_run_that_was_ended_after_its_last_step_makes_no_more(whole, again) -> None:
    """Also in the middle of an epoch, where the Trainer by itself makes one step more."""
    config, run = again()
    observer = Noting()
    result = train(config, observer, resume=True)
    assert (result.num_steps, observer.notes) == (NUM_STEPS, [])
    assert _is_same(whole[1], run)


def test_one_that_ends_in_the_middle_of_an_epoch_does_not_go_past_its_end(folder, tmp_path) -> None:
    configs = [_config(folder, tmp_path / name, max_steps=4) for name in ("straight", "resumed")]
    for config in configs:
        train(config, Noting())
    shutil.rmtree(tmp_path / "resumed" / "adapter")
    assert train(configs[1], Noting(), resume=True).num_steps == 4
    assert _is_same(tmp_path / "straight", tmp_path / "resumed")
    # The evaluation at the end is in it, and was not made twice.
    assert [line[0] for line in _metrics(tmp_path / "resumed") if line[2] is not None] == [3, 4]


def _end_in(owner: type, method: str, config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until a method is called, and no further."""
    with monkeypatch.context() as patch:

        def ended(*_: Any, **__: Any) -> None:
            raise RuntimeError(f"ended in {method}")

        patch.setattr(owner, method, ended)
        with pytest.raises(RuntimeError, match=f"ended in {method}"):
            train(config, Noting())


def test_the_evaluation_of_an_epoch_is_not_lost_where_the_run_is_ended_in_it(
    whole, folder, tmp_path, monkeypatch
) -> None:
    """Its last step is due to be saved, too: the checkpoint has to come after it."""
    from sightline.training.trainer import SightlineTrainer

    config = _config(folder, tmp_path / "run")
    _end_in(SightlineTrainer, "evaluate", config, monkeypatch)
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["checkpoint-1", "checkpoint-2"]
    train(config, Noting(), resume=True)
    assert _is_same(whole[1], tmp_path / "run")


@pytest.mark.parametrize(
    ("step", "evaluates"), [(2, "epochs"), (3, "epochs"), (6, "epochs"), (2, "steps"), (6, "steps")]
)
def test_a_stop_takes_no_evaluation_away(
    whole, whole_by_steps, folder, tmp_path, step: int, evaluates: str
) -> None:
    """A run that is told to stop saves at once; what was due is made when it goes on."""
    every = {"eval_every": 2} if evaluates == "steps" else {}
    config = _config(folder, tmp_path / "run", **every)
    with pytest.raises(StoppedError):
        train(config, Noting(signal_after=step))
    assert max(line[0] for line in _metrics(tmp_path / "run")) <= step
    state = read_json(tmp_path / "run" / "checkpoints" / f"checkpoint-{step}" / "state.json")
    assert state["evaluation_due"] == (step != 2 or evaluates == "steps")
    observer = Noting()
    train(config, observer, resume=True)
    assert observer.notes == []
    straight = whole_by_steps if evaluates == "steps" else whole[1]
    assert _is_same(straight, tmp_path / "run")


def test_an_evaluation_that_is_made_again_stands_in_the_record_once(
    whole, folder, tmp_path, monkeypatch
) -> None:
    from sightline.training.trainer import SightlineTrainer

    config = _config(folder, tmp_path / "run")
    with pytest.raises(StoppedError):
        train(config, Noting(signal_after=3))
    with monkeypatch.context() as patch:

        def ended(self: Any, *args: Any) -> None:
            raise RuntimeError("ended behind the evaluation")

        patch.setattr(SightlineTrainer, "_save_checkpoint", ended)
        with pytest.raises(RuntimeError, match="ended behind the evaluation"):
            train(config, Noting(), resume=True)
    train(config, Noting(), resume=True)
    assert _is_same(whole[1], tmp_path / "run")


def test_one_ended_while_it_was_exported_is_exported_again(
    whole, folder, tmp_path, monkeypatch
) -> None:
    config = _config(folder, tmp_path / "run")
    _end_in(Export, "write", config, monkeypatch)
    assert not (tmp_path / "run" / "adapter").exists()
    train(config, Noting(), resume=True)
    assert _is_same(whole[1], tmp_path / "run")


def test_a_run_that_was_moved_exports_its_best(folder, tmp_path, monkeypatch) -> None:
    """The Trainer keeps the whole path of the best checkpoint, and forgets one that is not there.

    The run has no step left, so that nothing is saved that would set it right.
    """
    config = _config(folder, tmp_path / "there", **WORSE)
    _end_in(Export, "write", config, monkeypatch)
    (tmp_path / "there").rename(tmp_path / "here")
    train(config.model_copy(update={"output": str(tmp_path / "here")}), Noting(), resume=True)
    train(config.model_copy(update={"output": str(tmp_path / "straight")}), Noting())
    assert _is_same(tmp_path / "straight", tmp_path / "here")
    best = read_json(tmp_path / "here" / "checkpoints" / "checkpoint-6" / "trainer_state.json")
    assert best["best_global_step"] < NUM_STEPS


def test_the_best_stays_beside_the_last_ones(folder, tmp_path) -> None:
    run = tmp_path / "run"
    train(_config(folder, run, **WORSE), Noting())
    losses = {line[0]: line[2] for line in _metrics(run) if line[2] is not None}
    best = min(losses, key=lambda step: losses[step])
    assert best < NUM_STEPS
    kept = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert kept == [f"checkpoint-{best}", f"checkpoint-{NUM_STEPS}"]
    # And it is what is exported.
    exported = load_file(run / "adapter" / "adapter_model.safetensors")
    for step in (best, NUM_STEPS):
        held = load_file(run / "checkpoints" / f"checkpoint-{step}" / "weights.safetensors")
        factors = [name for name in exported if ".lora_" in name]
        assert factors
        is_same = all(torch.equal(exported[name], held[_plain(name)]) for name in factors)
        assert is_same == (step == best)


# What is otherwise than it was.


def test_how_often_is_saved_may_be_otherwise(whole, again) -> None:
    config, run = again(4, save_every=50, save_total_limit=9)
    observer = Noting()
    train(config, observer, resume=True)
    assert observer.notes == []
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "checkpoint-4",
        "checkpoint-6",
    ]
    assert _is_same(whole[1], run)


def test_another_rate_is_refused_before_anything_is_read(again, monkeypatch) -> None:
    config, _ = again(5, learning_rate=5e-4)
    monkeypatch.setattr("sightline.training.run.get_ready", pytest.fail)
    with pytest.raises(RunError, match=r"training\.learning_rate: 0\.001 then, 0\.0005 now"):
        train(config, Noting(), resume=True)


def test_an_answer_of_the_same_length_is_another(again, folder, tmp_path) -> None:
    """The index finds it, and its file is named; the lengths are all the same."""
    shutil.copytree(folder / "data", tmp_path / "data")
    path = tmp_path / "data" / "train.jsonl"
    config = _config(folder, tmp_path / "run")
    sources = [config.data.train[0].model_copy(update={"path": str(path)})]
    config = config.model_copy(update={"data": config.data.model_copy(update={"train": sources})})
    with pytest.raises(RuntimeError, match="ended for the test"):
        train(config, Noting(stop_after=3))
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n", encoding="utf-8")
    with pytest.raises(RunError) as refused:
        train(config, Noting(), resume=True)
    assert f"  {path}: its rows have changed" in str(refused.value)
    assert str(folder / "data" / "train.jsonl") not in str(refused.value)


def test_another_picture_under_the_same_name_is_named(folder, tmp_path) -> None:
    shutil.copytree(folder / "data", tmp_path / "data")
    config = _config(folder, tmp_path / "run")
    path = str(tmp_path / "data" / "train.jsonl")
    sources = [config.data.train[0].model_copy(update={"path": path})]
    config = config.model_copy(update={"data": config.data.model_copy(update={"train": sources})})
    with pytest.raises(RuntimeError, match="ended for the test"):
        train(config, Noting(stop_after=3))
    pictures = sorted((tmp_path / "data").rglob("*.png")) or sorted(
        (tmp_path / "data").rglob("*.jpg")
    )
    # Bytes behind the end of a picture are read by nobody; it is another file all the same.
    with pictures[0].open("ab") as file:
        file.write(b"more")
    with pytest.raises(RunError, match="pictures or videos that it names have changed"):
        train(config, Noting(), resume=True)


def test_another_base_is_refused(again, folder, tmp_path, monkeypatch) -> None:
    config, _ = again(5)
    weights = folder / "model" / "model.safetensors"
    before = weights.read_bytes()
    tensors = load_file(weights)
    name = next(name for name in tensors if "mlp.up_proj" in name)
    tensors[name][0, 0] += 1.0
    save_file(tensors, str(weights), metadata={"format": "pt"})
    try:
        with pytest.raises(RunError, match=r"the weights of .*model are not those .*digest"):
            train(config, Noting(), resume=True)
    finally:
        weights.write_bytes(before)


def test_other_versions_are_told(whole, again) -> None:
    config, run = again(5)
    checkpoint = run / "checkpoints" / "checkpoint-5"
    state = read_json(checkpoint / "state.json")
    state["origin"]["versions"]["torch"] = "2.0"
    (checkpoint / "manifest.json").unlink()
    write_json(checkpoint / "state.json", state)
    write_manifest(checkpoint)
    observer = Noting()
    train(config, observer, resume=True)
    [note] = observer.notes
    assert "torch: 2.0 then, " in note
    assert _is_same(whole[1], run)


# A full disk.


def test_a_full_disk_ends_the_run_and_leaves_the_older_checkpoints(
    whole, folder, tmp_path, monkeypatch
) -> None:
    from sightline.training.checkpoints.tensors import TensorWriter

    config = _config(folder, tmp_path / "run")
    write, count = TensorWriter.write, [0]

    def full(self: Any, tensor: torch.Tensor) -> None:
        count[0] += 1
        if count[0] > most:
            raise OSError(28, "No space left on device")
        write(self, tensor)

    # In the middle of the third checkpoint.
    most = 10_000
    with monkeypatch.context() as patch:
        patch.setattr(TensorWriter, "write", full)
        with pytest.raises(RuntimeError, match="ended for the test"):
            train(config, Noting(stop_after=2))
        most = 5 * count[0] // 2
        shutil.rmtree(tmp_path / "run")
        count[0] = 0
        with pytest.raises(RunError, match=r"(?s)no space left on the device.*Free some space"):
            train(config, Noting())
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["checkpoint-1", "checkpoint-2"]
    train(config, Noting(), resume=True)
    assert _is_same(whole[1], tmp_path / "run")
