"""`sightline predict`: answers in batches, gone on with, and back in the pixels of the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

NUM_PICTURES = 7
NEW_TOKENS = ("--max-new-tokens", 12)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Pictures of 100 x 140 pixels, which no model sees at their own size, boxes in pixels."""
    from sightline.data.shapes import write_shapes

    folder = tmp_path / "pictures"
    write_shapes(folder, num_images=NUM_PICTURES, multi_image=1, height=100, width=140)
    return folder / "train.jsonl"


@pytest.fixture
def predict(command: Callable[..., Any], tiny_folder, tmp_path: Path, pictures: Path):
    """The command on a tiny model and these pictures; returns what it wrote."""

    def run(*arguments: object, family: str = "qwen2_5_vl", output: str = "out.jsonl") -> Path:
        source = f"{{path: {pictures}, text_boxes: pixels}}"
        path = tmp_path / output
        given = (tiny_folder(family), "--data", source, "--output", path, *NEW_TOKENS)
        outcome = command("predict", *given, *arguments)
        assert outcome.code == 0, outcome.out + outcome.err
        return path

    return run


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_answers_in_batches_are_those_one_by_one(predict, family: str) -> None:
    alone = _lines(predict("--batch-size", 1, family=family, output="alone.jsonl"))
    batched = _lines(predict("--batch-size", 5, family=family, output="batched.jsonl"))
    assert len(alone) == NUM_PICTURES + 1
    assert [row["sample"] for row in batched] == list(range(NUM_PICTURES + 1))
    for one, other in zip(alone, batched, strict=True):
        assert one["likelihood"] == pytest.approx(other.pop("likelihood"), abs=1e-5)
        del one["likelihood"]
        assert one == other


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_annotated_boxes_are_the_pixels_of_the_file(predict, pictures: Path, family: str) -> None:
    """In words they are in the family's space; as numbers they are exactly what was annotated."""
    truth = {row["file"]: row for row in _lines(pictures.with_name("boxes.jsonl"))}
    rows = _lines(predict(family=family))[:NUM_PICTURES]
    for row in rows:
        name = str(Path(row["media"][0]["path"]).relative_to(pictures.parent))
        shapes = truth[name]["shapes"]
        assert [one["box"] for one in row["annotated"]] == [one["box"] for one in shapes]
        assert [one["label"] for one in row["annotated"]] == [one["label"] for one in shapes]
    assert any(
        str([round(side) for side in one["box"]]) not in row["annotation"]
        for row in rows
        for one in row["annotated"]
    )


def test_what_was_interrupted_is_gone_on_with(predict, tmp_path: Path) -> None:
    whole = predict(output="whole.jsonl")
    path = predict()
    assert path.read_bytes() == whole.read_bytes()
    lines = path.read_bytes().splitlines(keepends=True)
    # Killed while it wrote the fourth line; and the third was another's answer, to see it kept.
    kept = [*lines[:2], lines[2].replace(b'"likelihood"', b'"seen": true, "likelihood"')]
    path.write_bytes(b"".join(kept) + lines[3][:40])
    predict()
    again = _lines(path)
    assert again[2].pop("seen") is True
    wanted = _lines(whole)
    # Others stand beside them in their batches now: float32 sums in another order.
    for one, other in zip(again, wanted, strict=True):
        assert one.pop("likelihood") == pytest.approx(other.pop("likelihood"), abs=2e-6)
    assert again == wanted


def test_another_run_of_it_changes_nothing(predict, command, tmp_path: Path) -> None:
    path = predict()
    before = path.read_bytes()
    path.write_bytes(before)
    assert predict().read_bytes() == before


def test_other_settings_are_refused_with_both_values(
    predict, command, tiny_folder, pictures: Path
) -> None:
    path = predict()
    before = path.read_bytes()
    source = f"{{path: {pictures}, text_boxes: pixels}}"
    given = (tiny_folder("qwen2_5_vl"), "--data", source, "--output", path)
    outcome = command("predict", *given, "--max-new-tokens", 13)
    assert outcome.code == 2
    assert "max_new_tokens: 12 then, 13 now" in outcome.err
    assert "--overwrite" in outcome.err
    assert path.read_bytes() == before
    assert command("predict", *given, "--max-new-tokens", 13, "--overwrite").code == 0


def test_every_answer_of_a_conversation(predict) -> None:
    last, every = _lines(predict()), _lines(predict("--turns", "all", output="all.jsonl"))
    assert [row["turn"] for row in last if row["sample"] == NUM_PICTURES] == [3]
    several = [row for row in every if row["sample"] == NUM_PICTURES]
    assert [row["turn"] for row in several] == [1, 3]
    first, second = several
    assert len(first["media"]) == len(second["media"]) == 2
    assert "Detect every shape" in first["prompt"]
    assert second == last[-1]


def test_some_samples_evenly_over_all(predict) -> None:
    assert [row["sample"] for row in _lines(predict("--samples", 3))] == [0, 4, 7]


def test_samples_that_cannot_be_asked_are_told_and_listed(
    command, workbench, tiny_folder, tmp_path: Path
) -> None:
    config = workbench([workbench.row(), workbench.row(image="images/none.png")])
    path = tmp_path / "out.jsonl"
    source = f"{{path: {config.with_name('train.jsonl')}, media_root: {workbench._media}}}"
    model = tiny_folder("qwen2_5_vl")
    outcome = command("predict", model, "--data", source, "--output", path, *NEW_TOKENS)
    assert outcome.code == 0, outcome.err
    assert "1 of 2 samples are not asked" in outcome.out.replace("\n", " ")
    [row] = _lines(path)
    assert row["line"] == 1
    [bad] = _lines(tmp_path / "out.quarantine.jsonl")
    assert bad["line"] == 2


def test_an_adapter_is_asked_on_its_base_and_the_base_alone(
    command, tiny_folder, shapes_folder: Path, tmp_path: Path
) -> None:
    """A run that wrote no merged model; pictures, videos and questions about several pictures."""
    data = str(shapes_folder / "train.jsonl")
    settings = {
        "model": str(tiny_folder("qwen3_vl")),
        "data": {"train": data, "eval": data, "images": {"min_pixels": 4096, "max_pixels": 12544}},
        "tuning": {"language": "lora", "head": "lora", "lora": {"rank": 8, "alpha": 128}},
        "training": {"max_steps": 2, "learning_rate": 2e-2, "gradient_accumulation": 4},
        "export": {"merged": False},
        "verify": {"enabled": False},
        "output": str(tmp_path / "run"),
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert command("train", tmp_path / "run.yaml").code == 0

    def answers(name: str, *arguments: object) -> list[dict[str, Any]]:
        path = tmp_path / f"{name}.jsonl"
        outcome = command("predict", *arguments, "--output", path, *NEW_TOKENS)
        assert outcome.code == 0, outcome.err
        return _lines(path)

    run = answers("run", tmp_path / "run")
    assert run == answers("adapter", tmp_path / "run/adapter", "--data", data)
    base = answers("base", tmp_path / "run", "--base")
    assert [row["answer"] for row in base] != [row["answer"] for row in run]
    # Seen as the run saw them, at its own limit on pixels.
    assert [row["media"] for row in base] == [row["media"] for row in run]
    assert run[0]["media"][0]["seen_width"] < run[0]["media"][0]["width"]
    assert {medium["kind"] for row in run for medium in row["media"]} == {"image", "video"}
    plain = answers("plain", tiny_folder("qwen3_vl"), "--data", data)
    assert plain[0]["media"][0]["seen_width"] > run[0]["media"][0]["seen_width"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--data FILE"),
        (("--data", "none.jsonl"), "none.jsonl"),
        (("--data", "{path: a.jsonl, text_boxes: pixel}"), "text_boxes"),
        (("--data", "a.jsonl", "--base"), "no run and no adapter"),
        (("--data", "a.jsonl", "--turns", "some"), "last or all"),
        (("--data", "a.jsonl", "--precision", "fp16"), "auto, bf16 or fp32"),
    ],
)
def test_bad_input_gets_one_message_and_leaves_nothing(
    command, tiny_folder, tmp_path: Path, monkeypatch, arguments: tuple, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = command("predict", tiny_folder("qwen2_5_vl"), *arguments)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.startswith("sightline: ")
    assert "Traceback" not in outcome.err
    assert not Path("predictions.jsonl").exists()
    assert not Path("predictions.settings.json").exists()


def test_a_file_that_is_none_of_ours_is_not_written_to(
    command, tiny_folder, tmp_path: Path, pictures: Path
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("{}\n", encoding="utf-8")
    outcome = command("predict", tiny_folder("qwen2_5_vl"), "--data", pictures, "--output", path)
    assert outcome.code == 2
    assert "mine.settings.json is not beside it" in outcome.err
    assert path.read_text(encoding="utf-8") == "{}\n"
