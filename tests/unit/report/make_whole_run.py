"""Writes run directories with everything that a page can show: stages, proof, evaluation."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any


def _maker() -> ModuleType:
    """The module make_run beside this file: tests are no package."""
    spec = importlib.util.spec_from_file_location(
        "make_run", Path(__file__).with_name("make_run.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = _maker()


def watched_lines(num_steps: int = 60) -> list[dict[str, Any]]:
    """The same with what is watched by tower, three stages, and measures of held-out answers."""
    lines = maker.metrics_lines(num_steps)
    for line in lines:
        part = line["step"] / num_steps
        if "eval_loss" in line:
            line |= {"eval_box_iou": round(part * 0.8, 3), "eval_map_50": round(part**2, 3)}
            continue
        line["stage"] = 1 + int(3 * (line["step"] - 1) / num_steps)
        line |= {"tokens_per_second": 1000 + line["step"], "memory_mib": 900.0}
        for key, size in (("grad_norm", 1.0), ("weight_change", 0.1), ("learning_rate", 1e-4)):
            line[f"{key}_by_tower"] = {
                "projector": size * part,
                "language": size * part / 2,
            }
    return lines


def proof_record(*, fault: str = "") -> dict[str, Any]:
    """A proof that reached everything, or where one tensor got no gradient."""
    rows = [
        ("projector", "merger", "merger", "full", 4, 4, 0, 2.5),
        ("language", "layers.0", "attention", "lora", 8, 4, 4, 30.0),
        ("language", "layers.1", "attention", "lora", 8, 4, 4, 40.0),
    ]
    names = "tower", "block", "kind", "how", "num_tensors", "num_reached", "num_waiting"
    made = [dict(zip((*names, "gradient_norm"), row, strict=True)) for row in rows]
    faults = [{"name": fault, "tower": "language", "what": "no gradient"}] if fault else []
    ends = [
        {key: row[key] for key in names[:5]} | {"num_moved": row["num_tensors"], "change": 0.1}
        for row in made
    ]
    return {
        "schema": 1,
        "before": {
            "samples": ["shapes/train.jsonl:1"],
            "num_images": 1,
            "num_videos": 0,
            "num_supervised_tokens": 65,
            "loss": 8.32,
            "checkpointing": "off",
            "rows": made,
            "num_frozen": 69,
            "faults": faults,
            "cause": "Checkpointing with reentrant halts it." if fault else "",
        },
        "stages": [{"stage": 1, "step": 4, "rows": ends, "unmoved": []}],
        "end": {"step": 50, "rows": ends, "unmoved": []},
        "entered": [0],
        "without_gradient": [],
    }


def add_evaluation(run: Path, num: int = 4) -> None:
    """Answers to held-out pictures before and after, and what was measured of them."""
    moves = (0, 3, 40, 0, 12, 60)
    after, before = [], []
    for place in range(num):
        boxes = maker.BOXES[place % len(maker.BOXES)]
        by = moves[place % len(moves)]
        moved = [(name, (x1 + by, y1, x2 + by, y2)) for name, (x1, y1, x2, y2) in boxes]
        after.append(prediction_record(place, boxes, moved))
        before.append(prediction_record(place, boxes, [("circle", (0, 0, 60, 60))]))
    (run / "evaluation").mkdir()
    maker.write_lines(run / "evaluation" / "after.jsonl", after)
    maker.write_lines(run / "evaluation" / "before.jsonl", before)
    maker.write(run / "evaluation.json", evaluation_record(num))


def prediction_record(place: int, annotated: Any, predicted: Any) -> dict[str, Any]:
    """A line of predictions about a picture of `predictions_record`."""
    return {
        "sample": place,
        "turn": 1,
        "source": "eval.jsonl",
        "file": "shapes/eval.jsonl",
        "line": place + 1,
        "row": place,
        "place": "",
        "prompt": "<image>Find every shape.",
        "annotation": maker.answer_text(annotated),
        "answer": maker.answer_text(predicted),
        "num_tokens": 30,
        "is_cut": False,
        "likelihood": 0.9,
        "media": [
            {
                "kind": "image",
                "path": f"../pictures/{place % len(maker.BOXES):04}.png",
                "width": maker.SIDE,
                "height": maker.SIDE,
            }
        ],
        "annotated": [{"label": name, "box": list(box)} for name, box in annotated],
        "predicted": [{"label": name, "box": list(box), "score": 0.9} for name, box in predicted],
        "repairs": [],
        "lost": [],
        "is_readable": True,
    }


def evaluation_record(num: int = 4) -> dict[str, Any]:
    """``evaluation.json`` of two measures, two sources and two labels."""
    reading = {
        "num_answers": num,
        "as_they_are": num,
        "mended": 0,
        "partly_lost": 0,
        "unreadable": 0,
        "repairs": {},
        "lost": {},
        "cut_at_limit": 0,
        "unknown_labels": {},
    }
    measures = [
        {"name": name, "title": title, "num": num, "value": now, "low": now - 0.1}
        | {"high": now + 0.1, "before": {"value": 0.1, "low": 0.0, "high": 0.2}}
        | {"change": {"value": now - 0.1, "low": now - 0.2, "high": now}}
        for name, title, now in (
            ("map_50", "mAP 0.50", 0.75),
            ("box_iou", "boxes, mean IoU", 0.7),
        )
    ]
    own = {one["name"]: {"num": num, "value": 0.7, "before": 0.1} for one in measures}
    shares = {"map": 0.5, "map_50": 0.75, "precision": 0.8, "recall": None}
    return {
        "predictions": "runs/first/evaluation/after.jsonl",
        "against": "runs/first/evaluation/before.jsonl",
        "schema": 1,
        "num_predictions": num,
        "num_samples": num,
        "settings": {
            "metrics": [],
            "iou": 0.5,
            "resamples": 1000,
            "seed": 0,
            "confidence": 0.95,
        },
        "kinds": {"boxes": num},
        "metrics": measures,
        "box_sizes": None,
        "sources": [
            {"source": f"data/{name}.jsonl", "num": num // 2, "metrics": own}
            for name in ("signs", "plates")
        ],
        "labels": [
            {"label": label, "num_annotated": 2, **shares, "before": shares}
            for label in ("red circle", "blue square")
        ],
        "reading": reading,
        "reading_before": reading,
    }


def make_whole_run(directory: Path) -> Path:
    """A run with everything that a page can show: stages, alarms, proof, evaluation."""
    run = maker.make_run(directory)
    maker.write_lines(run / "metrics.jsonl", watched_lines())
    maker.write(run / "plan.json", maker.staged_plan_record())
    maker.write(run / "proof.json", proof_record())
    alarm = {
        "step": 12,
        "rule": "loss_jump",
        "seen": "the loss is 8 times its median",
        "cause": "A learning rate that is too high.",
        "remedy": "Lower training.learning_rate.",
    }
    maker.write_lines(run / "alarms.jsonl", [alarm])
    fates = [("dropped", "longer than 4096 tokens"), ("fitted", "fewer pixels")]
    rows = [
        maker.ledger_rows()[0]
        | {"line": place + 5, "fate": fate, "reason": why, "policies": ["shrink"]}
        for place, (fate, why) in enumerate(fates)
    ]
    maker.write_lines(run / "ledger.jsonl", [*maker.ledger_rows(), *rows])
    certificate = maker.certificate_record()
    certificate["checks"][4]["figures"] = {"largest_difference": 4.1e-6, "per_sample": [1e-6] * 4}
    maker.write(run / "certificate.json", certificate)
    add_evaluation(run, 6)
    return run
