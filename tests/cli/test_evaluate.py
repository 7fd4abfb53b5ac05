"""`sightline evaluate`, and answers to held-out data while a run trains, on a model that learns."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

NUM_PICTURES = 6
MEASURES = ("map", "map_50", "map_75", "box_precision", "box_recall", "box_iou", "grounding")
NEW_TOKENS = 48


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _record(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _sightline(*arguments: object) -> Any:
    from sightline.cli.main import app

    outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    return outcome


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detection set, and a configuration that learns it and answers it on the way."""
    from sightline.data.shapes import write_shapes

    folder = tmp_path_factory.mktemp("evaluate")
    write_shapes(folder / "set", num_images=NUM_PICTURES, max_shapes=1, height=112, width=112)
    towers = ("language", "projector", "head", "embeddings")
    settings = {
        "model": "tiny:qwen2_5_vl",
        "data": {"train": str(folder / "set/train.jsonl"), "eval": str(folder / "set/train.jsonl")},
        "tuning": dict.fromkeys(towers, "full") | {"vision": "freeze"},
        "training": {
            "max_steps": 90,
            "learning_rate": 4e-3,
            "scheduler": "linear",
            "batch_size": NUM_PICTURES,
            "gradient_accumulation": 1,
            "gradient_checkpointing": False,
            "save_every": 1000,
            "log_every": 10,
            "eval_every": 45,
            "best_by": "eval_map_50",
        },
        "evaluation": {"metrics": ["map", "map_50", "box_iou"], "max_new_tokens": 48},
        "verify": {"enabled": False},
        "output": str(folder / "run"),
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """The trained run."""
    outcome = _sightline("train", folder / "run.yaml")
    assert outcome.exit_code == 0, outcome.output
    return folder / "run"


@pytest.fixture(scope="module")
def evaluated(run: Path) -> str:
    """What the command says of it, before and after."""
    outcome = _sightline(
        "evaluate", run, "--before", "--batch-size", 6, "--max-new-tokens", NEW_TOKENS
    )
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def _reference(rows: list[dict[str, Any]]) -> np.ndarray:
    """pycocotools' figures, from the lines of the file alone."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    labels = sorted({one["label"] for row in rows for one in row["annotated"]})
    wanted, given = [], []
    for image, row in enumerate(rows, start=1):
        for key, found in (("annotated", wanted), ("predicted", given)):
            for one in row[key]:
                x1, y1, x2, y2 = one["box"]
                if one["label"] in labels:
                    found.append(
                        {
                            "id": len(found) + 1,
                            "image_id": image,
                            "category_id": labels.index(one["label"]) + 1,
                            "bbox": [x1, y1, x2 - x1, y2 - y1],
                            "area": (x2 - x1) * (y2 - y1),
                            "iscrowd": 0,
                            "score": one.get("score", 1.0),
                        }
                    )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(1, len(rows) + 1)],
            "annotations": wanted,
            "categories": [{"id": k} for k in range(1, len(labels) + 1)],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(given), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def test_the_report_of_a_run_shows_its_evaluation(run: Path, evaluated: str) -> None:
    assert f"report  {run / 'report.html'}" in evaluated.splitlines()
    page = (run / "report.html").read_text(encoding="utf-8")
    found = next(one for one in _record(run / "evaluation.json")["metrics"])
    assert f'<td class="num strong">{found["value"]:.3f}' in page
    assert page.count("<article") == NUM_PICTURES
    assert page.count("Before, the base</p>") == NUM_PICTURES
    # What was measured while it trained is a chart.
    assert '"title":"Answers to held-out data"' in page
    assert '"name":"box IoU"' in page


def test_a_trained_model_finds_more_than_its_base(run: Path, evaluated: str) -> None:
    measures = {one["name"]: one for one in _record(run / "evaluation.json")["metrics"]}
    assert tuple(measures) == MEASURES
    found = measures["map_50"]
    assert found["before"]["value"] == 0
    assert found["value"] > 0.5
    assert found["change"]["value"] == pytest.approx(found["value"])
    assert 0 < found["change"]["low"] <= found["change"]["value"] <= found["change"]["high"]
    assert max(map(len, evaluated.splitlines()[:-1])) <= 80


def test_its_map_is_that_of_the_reference_implementation(run: Path, evaluated: str) -> None:
    stats = _reference(_lines(run / "evaluation/after.jsonl"))
    found = {one["name"]: one["value"] for one in _record(run / "evaluation.json")["metrics"]}
    assert found["map"] == pytest.approx(stats[0], abs=1e-12)
    assert found["map_50"] == pytest.approx(stats[1], abs=1e-12)
    assert found["map_75"] == pytest.approx(stats[2], abs=1e-12)


def test_answers_on_the_way_are_measured_as_those_of_the_finished_run(
    run: Path, evaluated: str
) -> None:
    lines = [line for line in _lines(run / "metrics.jsonl") if "eval_loss" in line]
    assert [line["step"] for line in lines] == [45, 90]
    best = max(lines, key=lambda line: line["eval_map_50"])
    found = {one["name"]: one["value"] for one in _record(run / "evaluation.json")["metrics"]}
    for name in ("map", "map_50", "box_iou"):
        assert best[f"eval_{name}"] == pytest.approx(found[name], abs=1e-6)


def test_the_best_checkpoint_is_the_one_with_the_highest_measure(run: Path) -> None:
    lines = [line for line in _lines(run / "metrics.jsonl") if "eval_loss" in line]
    best = max(lines, key=lambda line: line["eval_map_50"])
    [newest] = sorted((run / "checkpoints").glob("checkpoint-90"))
    state = _record(newest / "trainer_state.json")
    assert state["best_global_step"] == best["step"]
    assert state["best_metric"] == pytest.approx(best["eval_map_50"])


def test_what_is_predicted_already_is_not_predicted_again(run: Path, evaluated: str) -> None:
    again = _sightline("evaluate", run, "--max-new-tokens", NEW_TOKENS)
    assert f"{NUM_PICTURES} answered already" in again.stdout
    assert "answering" not in again.stdout


def test_other_data_stand_beside_the_runs_own(folder: Path, run: Path, evaluated: str) -> None:
    before = (run / "evaluation.json").read_bytes()
    source = f"{{path: {folder / 'set/train.jsonl'}, num_samples: 2}}"
    outcome = _sightline(
        "evaluate", run, "--data", source, "--max-new-tokens", NEW_TOKENS, "--resamples", 0
    )
    assert outcome.exit_code == 0, outcome.output
    assert len(_lines(run / "evaluation/train.after.jsonl")) == 2
    assert _record(run / "evaluation/train.json")["num_predictions"] == 2
    assert (run / "evaluation.json").read_bytes() == before


def test_every_process_answers_a_share(folder: Path, run: Path, evaluated: str, process) -> None:
    """Two processes, of which one has a question more, measure what one does.

    The question of the second has an annotation that no model knows.
    """
    rows = (folder / "set/train.jsonl").read_text(encoding="utf-8").splitlines()[:3]
    [label] = {one["label"] for one in _lines(run / "evaluation/after.jsonl")[1]["annotated"]}
    rows[1] = rows[1].replace(label, "comet")
    (folder / "set/three.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    settings = yaml.safe_load((folder / "run.yaml").read_text(encoding="utf-8"))
    settings |= {"model": str(run / "merged"), "output": str(folder / "shared")}
    settings["data"] |= {"eval": str(folder / "set/three.jsonl")}
    settings["training"] |= {"max_steps": 1, "eval_every": 1, "learning_rate": 1e-30}
    settings["training"] |= {"batch_size": NUM_PICTURES // 2, "best_by": None}
    (folder / "shared.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    outcome = process("train", folder / "shared.yaml", "--processes", 2)
    assert outcome.code == 0, outcome.err
    [line] = [one for one in _lines(folder / "shared/metrics.jsonl") if "eval_loss" in one]
    alone = _sightline(
        "evaluate", run / "merged", "--data", folder / "set/three.jsonl",
        "--max-new-tokens", NEW_TOKENS, "--output", folder / "three.json", "--resamples", 0,
    )  # fmt: skip
    assert alone.exit_code == 0, alone.output
    record = _record(folder / "three.json")
    found = {one["name"]: one["value"] for one in record["metrics"]}
    assert 0 < found["box_iou"] <= 2 / 3
    assert line["eval_box_iou"] == pytest.approx(found["box_iou"], abs=1e-6)
    assert line["eval_map"] == pytest.approx(found["map"], abs=1e-6)


def test_a_run_that_held_out_a_share_is_asked_exactly_that(folder: Path) -> None:
    settings = yaml.safe_load((folder / "run.yaml").read_text(encoding="utf-8"))
    settings["data"] |= {"eval": "34%", "images": {"max_pixels": 112 * 112}}
    settings["training"] |= {"max_steps": 1, "batch_size": 1, "eval_every": 1}
    settings |= {"output": str(folder / "divided")}
    (folder / "divided.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    trained = _sightline("train", folder / "divided.yaml")
    assert trained.exit_code == 0, trained.output
    assert "2 conversations held out" in trained.output
    outcome = _sightline(
        "evaluate", folder / "divided", "--max-new-tokens", NEW_TOKENS, "--resamples", 0
    )
    assert outcome.exit_code == 0, outcome.output
    ledger = _lines(folder / "divided/ledger.jsonl")
    asked = _lines(folder / "divided/evaluation/after.jsonl")
    assert {row["line"] for row in asked} == {row["line"] for row in ledger if row["held_out"]}
    assert len(asked) == 2


def test_a_measure_of_what_is_not_annotated_is_refused_before_a_run_begins(
    folder: Path, workbench
) -> None:
    config = workbench(
        data__eval=[{"path": str(workbench._folder / "train.jsonl"),
                     "media_root": str(workbench._media)}],
        evaluation__metrics=["map"],
    )  # fmt: skip
    outcome = _sightline("train", config)
    assert outcome.exit_code == 2
    assert "none of the 1 held-out answers that are asked for has boxes" in outcome.stderr
    assert not (workbench._folder / "run").exists()


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


ROWS = (
    {"annotation": "12", "answer": "12.1", "source": "charts"},
    {"annotation": "12", "answer": "15", "source": "charts"},
    {"annotation": "a cat", "answer": "a cat", "source": "words"},
    {"annotation": "a cat", "answer": "a bat", "source": "words"},
)


def test_measures_are_chosen_by_what_the_answers_are(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    outcome = command("evaluate", _write(tmp_path / "a.jsonl", *ROWS), "--resamples", 100)
    assert outcome.code == 0, outcome.err
    record = _record(tmp_path / "evaluation.json")
    assert record["kinds"] == {"number": 2, "short": 2}
    values = {one["name"]: (one["num"], one["value"]) for one in record["metrics"]}
    assert values == {
        "exact_match": (4, 0.25),
        "anls": (2, pytest.approx((1 + 0.8) / 2)),
        "relaxed_accuracy": (2, 0.5),
    }
    by_source = {one["source"]: one["metrics"] for one in record["sources"]}
    assert by_source["charts"]["exact_match"] == {"num": 2, "value": 0.0, "before": None}
    assert by_source["words"]["exact_match"] == {"num": 2, "value": 0.5, "before": None}


def test_measures_that_are_named_are_of_all_answers(command, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", *ROWS)
    outcome = command("evaluate", path, "--metrics", "rouge_l", "--metrics", "exact_match")
    assert outcome.code == 0, outcome.err
    record = _record(tmp_path / "evaluation.json")
    assert [(one["name"], one["num"]) for one in record["metrics"]] == [
        ("exact_match", 4),
        ("rouge_l", 4),
    ]


def test_two_files_are_compared_question_by_question(command, tmp_path: Path) -> None:
    rows = [row | {"file": "data.jsonl", "line": line} for line, row in enumerate(ROWS, start=1)]
    after = _write(tmp_path / "after.jsonl", *rows)
    worse = [row | {"answer": "nothing"} for row in rows]
    before = _write(tmp_path / "before.jsonl", *reversed(worse))
    assert command("evaluate", after, "--against", before).code == 0
    found = {one["name"]: one for one in _record(tmp_path / "evaluation.json")["metrics"]}
    assert found["exact_match"]["change"]["value"] == 0.25
    assert found["exact_match"]["before"]["value"] == 0
    other = _write(tmp_path / "other.jsonl", *worse[1:])
    refused = command("evaluate", after, "--against", other)
    assert refused.code == 2
    assert "1 of 4 are answered in the first alone" in refused.err
    assert "data.jsonl:1" in refused.err


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"annotation": "a"}, "answer: a text is wanted, and nothing is there"),
        ({"annotation": "a", "answer": 3}, "answer: a text is wanted, and 3 is there"),
        ({"annotation": "a", "answer": "b", "predicted": [{"box": [1, 2, 3]}]}, "predicted[0]"),
        (
            {"annotation": "a", "answer": "b", "predicted": [{"box": [1, 2, 3, 4], "score": "x"}]},
            "predicted[0].score",
        ),
        ({"annotation": "a", "answer": "b", "line": "2"}, "line: a whole number"),
        ([1], "a prediction is an object"),
    ],
)
def test_a_line_that_is_no_prediction_is_named(
    command, tmp_path: Path, row: Any, said: str
) -> None:
    outcome = command("evaluate", _write(tmp_path / "a.jsonl", ROWS[0], row))
    assert outcome.code == 2
    assert f"{tmp_path}/a.jsonl:2" in outcome.err
    assert said in outcome.err
    assert not (tmp_path / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a.jsonl", "--metrics", "mAP"), "there is no such measure"),
        (("a.jsonl", "--before"), "--before: a.jsonl is a file of predictions"),
        (("a.jsonl", "--batch-size", 4), "--batch-size: a.jsonl is a file of predictions"),
        (("none.jsonl",), "there is no such file"),
        (("model", "--against", "a.jsonl"), "model is a model, not a file"),
        (("model", "--before", "--data", "a.jsonl"), "model"),
        (("twice.jsonl",), "answered in line 1 already"),
    ],
)
def test_what_disagrees_gets_one_message(
    command, tmp_path: Path, arguments: tuple, said: str
) -> None:
    _write(tmp_path / "a.jsonl", *ROWS)
    _write(tmp_path / "twice.jsonl", *(row | {"line": 1, "row": 0, "file": "x"} for row in ROWS))
    outcome = command("evaluate", *arguments)
    assert outcome.code == 2
    assert said in outcome.err
    assert "Traceback" not in outcome.err
