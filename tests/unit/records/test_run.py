"""The run directory: its states, and what it refuses to overwrite."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from sightline.errors import RunError
from sightline.records import RunDirectory, collect_versions, read_json

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")


def _run(path: Path, *, checkpoint: bool = False, merged: bool = False) -> RunDirectory:
    run = RunDirectory.create(path)
    run.write_state(state="training", family="qwen2_vl", model="m", device="cpu")
    run.plan.write_text("{}")
    if checkpoint:
        (run.checkpoints / "checkpoint-1").mkdir(parents=True)
    if merged:
        run.merged.mkdir()
    return run


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _refusal(path: Path, *, overwrite: bool = False) -> str:
    before = sorted(path.rglob("*"))
    with pytest.raises(RunError) as refused:
        RunDirectory.create(path, overwrite=overwrite)
    assert sorted(path.rglob("*")) == before
    return str(refused.value)


def test_files_have_their_names(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    names = {name: value.name for name, value in vars(run).items() if name != "path"}
    assert names == {
        "state_file": "run.json",
        "config": "config.yaml",
        "ledger": "ledger.jsonl",
        "quarantine": "quarantine.jsonl",
        "probe_media": "probe-media",
        "plan": "plan.json",
        "logs": "logs",
        "metrics": "metrics.jsonl",
        "alarms": "alarms.jsonl",
        "proof": "proof.json",
        "loss_plot": "loss.png",
        "tensorboard": "tensorboard",
        "checkpoints": "checkpoints",
        "adapter": "adapter",
        "merged": "merged",
        "probe": "probe.json",
        "probe_tensors": "probe.safetensors",
        "certificate": "certificate.json",
        "predictions": "predictions.json",
        "report": "report.html",
    }
    assert all(value.parent == tmp_path for name, value in vars(run).items() if name != "path")


def test_the_state_grows_and_keeps_what_was_said(tmp_path: Path) -> None:
    run = _run(tmp_path / "run")
    first = run.read_state()
    assert first["schema"] == 1
    assert first["state"] == "training"
    assert first["family"] == "qwen2_vl"
    assert ISO.fullmatch(first["started"])
    assert first["finished"] is None
    assert first["seconds"] is None
    assert first["versions"] == collect_versions()

    run.write_state(state="trained", finished=True, seconds=1.5, steps=7)
    second = run.read_state()
    assert ISO.fullmatch(second["finished"])
    assert second == first | {
        "state": "trained",
        "finished": second["finished"],
        "seconds": 1.5,
        "steps": 7,
    }
    run.write_state(state="verified")
    assert run.read_state() == second | {"state": "verified"}
    assert read_json(run.state_file) == run.read_state()


def test_versions_name_python_and_what_changes_results() -> None:
    versions = collect_versions()
    assert set(versions) == {
        "python",
        "sightline",
        "torch",
        "transformers",
        "peft",
        "accelerate",
        "torchvision",
        "pillow",
        "simplejpeg",
        "av",
    }
    assert all(re.match(r"\d+\.\d+", version) for version in versions.values()), versions


def test_a_new_run_makes_its_folders(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "runs" / "one")
    assert _names(run.path) == ["run.json"]
    assert run.read_state()["state"] == "training"
    assert RunDirectory.open(run.path).path == run.path


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert RunDirectory.create(tmp_path / "run").path == tmp_path / "run"


def test_a_file_of_that_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("mine")
    for overwrite in (False, True):
        assert _refusal(path, overwrite=overwrite) == (
            f"{path}: a file of that name is in the way. Choose another output."
        )
    assert path.read_text() == "mine"


def test_a_folder_of_something_else_is_refused_even_with_overwrite(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for overwrite in (False, True):
        assert _refusal(tmp_path, overwrite=overwrite) == (
            f"{tmp_path}: the folder is not empty and not a run of Sightline.\n"
            "Choose another output."
        )


def test_a_run_that_was_killed_as_it_began_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(Path, "replace", lambda *_: os._exit(9))
        RunDirectory.create(path)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    [left] = _names(path)
    assert left.startswith(".run.json.")
    (path / ".run.json.mine").write_text("mine")
    assert "not a run of Sightline" in _refusal(path)
    (path / ".run.json.mine").unlink()
    RunDirectory.create(path)
    assert _names(path) == ["run.json"]


def test_a_finished_run_is_refused(tmp_path: Path) -> None:
    path = _run(tmp_path / "run", checkpoint=True, merged=True).path
    assert _refusal(path) == (
        f"{path}: a finished run is there.\nChoose another output, or replace it with --overwrite."
    )


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    path = _run(tmp_path / "run", checkpoint=True).path
    assert _refusal(path) == (
        f"{path}: an unfinished run with checkpoints is there.\n"
        f"Go on with sightline resume {path}, or replace it with --overwrite."
    )


def test_a_run_that_never_reached_a_checkpoint_gives_way(tmp_path: Path) -> None:
    path = _run(tmp_path / "run").path
    assert _names(RunDirectory.create(path).path) == ["run.json"]


@pytest.mark.parametrize("state", ["trained", "verified", "failed"])
def test_a_run_that_ended_is_finished_whatever_is_left_of_it(tmp_path: Path, state) -> None:
    run = _run(tmp_path / "run")
    run.write_state(state=state, finished=True)
    assert _refusal(run.path).startswith(f"{run.path}: a finished run is there.\n")


def test_an_adapter_alone_is_a_finished_run(tmp_path: Path) -> None:
    run = _run(tmp_path / "run")
    run.adapter.mkdir()
    assert _refusal(run.path).startswith(f"{run.path}: a finished run is there.\n")


def test_a_run_that_goes_on_is_not_finished(tmp_path: Path) -> None:
    run = _run(tmp_path / "run")
    run.write_state(state="trained", finished=True)
    run.write_state(state="training")
    assert run.read_state()["finished"] is None


def test_a_run_that_was_stopped_is_not_finished(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", checkpoint=True)
    run.write_state(state="stopped", steps=3)
    state = run.read_state()
    assert (state["state"], state["steps"], state["finished"]) == ("stopped", 3, None)
    assert "an unfinished run with checkpoints is there" in _refusal(run.path)


@pytest.mark.parametrize("merged", [False, True])
def test_overwrite_replaces_a_run(tmp_path: Path, merged: bool) -> None:
    path = _run(tmp_path / "run", checkpoint=True, merged=merged).path
    replaced = RunDirectory.create(path, overwrite=True)
    assert _names(replaced.path) == ["run.json"]
    assert "family" not in replaced.read_state()


def test_asking_whether_a_folder_is_free_changes_nothing(tmp_path: Path) -> None:
    path = _run(tmp_path / "run", checkpoint=True).path
    before = sorted(path.rglob("*"))
    RunDirectory.refuse_occupied(path, overwrite=True)
    RunDirectory.refuse_occupied(tmp_path / "new")
    assert sorted(path.rglob("*")) == before
    assert not (tmp_path / "new").exists()


def test_opening_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunError) as refused:
        RunDirectory.open(tmp_path / "none")
    advice = "Name the folder that `output` of the configuration names."
    assert str(refused.value) == f"{tmp_path / 'none'}: there is no such run directory.\n{advice}"
    with pytest.raises(RunError) as refused:
        RunDirectory.open(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}: not a run directory; run.json is missing.\n{advice}"
    )


def test_a_broken_state_is_refused(tmp_path: Path) -> None:
    run = _run(tmp_path / "run")
    run.state_file.write_text('{"schema": 1, ')
    with pytest.raises(RunError, match=r"run\.json: the file is broken"):
        RunDirectory.open(run.path).read_state()
    for content in ("[]", "{}", "null"):
        run.state_file.write_text(content)
        with pytest.raises(RunError, match=r"run\.json: the file is broken: it has no state"):
            run.read_state()


def test_metrics_that_are_not_there_are_none(tmp_path: Path) -> None:
    run = _run(tmp_path / "run")
    assert run.read_metrics() == []
    run.metrics.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    assert run.read_metrics() == [{"step": 1, "loss": 0.5}]


def test_a_linked_folder_can_be_a_run(tmp_path: Path) -> None:
    """A link to a folder on a data disk: the run goes there, and the link stays."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    run = _run(tmp_path / "run")
    assert (tmp_path / "run").is_symlink()
    assert (tmp_path / "disk" / "run.json").is_file()
    RunDirectory.create(run.path, overwrite=True)
    assert _names(tmp_path / "disk") == ["run.json"]


def test_a_mounted_folder_can_be_a_run(tmp_path: Path) -> None:
    """A container's volume: it can be filled, but not removed."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    path = tmp_path / "run"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=65536", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        _run(path)
        assert (path / "run.json").is_file()
        assert os.path.ismount(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
