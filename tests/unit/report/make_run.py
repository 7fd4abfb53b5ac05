"""Writes run directories as a training writes them, with real small pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

SIDE = 224
BOXES = (
    [("red circle", (24, 30, 96, 102)), ("blue square", (130, 120, 196, 186))],
    [("green triangle", (57, 3, 105, 51))],
    [("yellow square", (12, 140, 80, 208)), ("red triangle", (120, 24, 204, 108))],
    [("blue circle", (88, 90, 150, 152))],
)
_COLOURS = {"red": "#d62728", "blue": "#1f5fbf", "green": "#2a9d3a", "yellow": "#e8b500"}

Boxes = list[tuple[str, tuple[int, int, int, int]]]


def make_run(
    directory: Path, *, family: str = "qwen2_5_vl", control: bool = True, fails: bool = False
) -> Path:
    """A verified run on four pictures."""
    directory.mkdir(parents=True)
    write(directory / "run.json", _state(family))
    (directory / "config.yaml").write_text(_CONFIG, encoding="utf-8")
    write_lines(directory / "ledger.jsonl", ledger_rows())
    write(directory / "plan.json", plan_record())
    write_lines(directory / "metrics.jsonl", metrics_lines())
    write(directory / "certificate.json", certificate_record(family, fails=fails))
    write(directory / "predictions.json", predictions_record(directory, control=control))
    return directory


def make_two(folder: Path) -> tuple[Path, Path]:
    """A proven run, and one of another family and length of which a check fails."""
    first = make_run(folder / "first")
    second = make_run(folder / "second", family="qwen3_vl", fails=True)
    write_lines(
        second / "metrics.jsonl",
        [line | {"tokens_per_second": 1000.0} for line in metrics_lines(20, evaluation=False)],
    )
    return first, second


def plan_record() -> dict[str, Any]:
    """A plan of LoRA on 36 layers and the head, a full projector and a frozen vision tower."""
    rows = [plan_row("vision", "patch_embed", "embedding", 1_505_280)]
    for block in range(32):
        rows += [
            plan_row("vision", f"blocks.{block}", "norm", 2560),
            plan_row("vision", f"blocks.{block}", "attention", 6_558_720),
            plan_row("vision", f"blocks.{block}", "mlp", 13_188_720),
        ]
    rows += [plan_row("projector", "merger", "merger", 36_707_584, 36_707_584, "full", [1e-5])]
    for block in range(36):
        name = f"layers.{block}"
        rows += [
            plan_row("language", name, "attention", 9_439_744, 229_376, "lora", [1e-4]),
            plan_row("language", name, "mlp", 67_629_056, 602_112, "lora", [1e-4]),
            plan_row("language", name, "norm", 4096),
        ]
    rows += [plan_row("language", "norm", "norm", 2048)]
    rows += [plan_row("embeddings", "embed_tokens", "embedding", 311_164_928)]
    rows += [plan_row("head", "lm_head", "head", 311_164_928, 2_463_744, "lora", [1e-4])]
    return plan_of(rows, [plan_stage("the whole run")])


def staged_plan_record() -> dict[str, Any]:
    """Three stages over two vision blocks and four layers: projector, upper layers, everything."""
    rows = [
        plan_row("vision", "patch_embed", "embedding", 100, rates=[None] * 3),
        plan_row("vision", "blocks.0", "attention", 100, 20, "lora", [None, None, 1e-6]),
        plan_row("vision", "blocks.0", "mlp", 100, rates=[None] * 3),
        plan_row("vision", "blocks.1", "attention", 100, 20, "lora", [None, None, 1e-6]),
        plan_row("vision", "blocks.1", "mlp", 100, rates=[None] * 3),
        plan_row("projector", "merger", "merger", 50, 50, "full", [1e-3, 1e-3, 1e-4]),
        plan_row("projector", "deepstack_merger_list.0", "deepstack", 50, 50, "full", [1e-3] * 3),
    ]
    rows[-1]["reads_from"] = 0
    for block in range(4):
        rates = [None, 1e-4 if block > 1 else None, 1e-5]
        rows += [
            plan_row("language", f"layers.{block}", "attention", 200, 10, "lora", rates),
            plan_row("language", f"layers.{block}", "mlp", 400, 30, "lora", rates),
            plan_row("language", f"layers.{block}", "norm", 4, rates=[None] * 3),
        ]
    rows += [plan_row("embeddings", "embed_tokens", "embedding", 1000, rates=[None] * 3)]
    stages = [
        plan_stage("projector", share=0.25),
        plan_stage("upper", step=30),
        plan_stage("everything"),
    ]
    return plan_of(rows, stages, is_tied=True) | {"schedule": {"num_steps": 60}}


def plan_row(
    tower: str,
    block: str,
    kind: str,
    size: int,
    trainable: int = 0,
    how: str = "freeze",
    rates: Sequence[float | None] = (None,),
) -> dict[str, Any]:
    """A row of ``plan.json``: bfloat16, what trains in float32."""
    return {
        "tower": tower,
        "block": block,
        "kind": kind,
        "num_parameters": size,
        "num_trainable": trainable,
        "how": how,
        "rank": 16 if how == "lora" else None,
        "alpha": 32 if how == "lora" else None,
        "dtype": "bfloat16",
        "learning_rates": list(rates),
        "weight_decay": 0.0 if trainable else None,
        "weight_bytes": 2 * size + 4 * trainable,
        "gradient_bytes": 4 * trainable,
        "optimizer_bytes": 8 * trainable,
        "reads_from": None,
    }


def plan_stage(name: str, **ends: Any) -> dict[str, Any]:
    """A stage of ``plan.json``; ``share``, ``step`` or ``plateau`` say where it ends."""
    return {
        "name": name,
        "share": None,
        "step": None,
        "plateau": False,
        "patience": 2,
        "min_delta": 0.01,
        "learning_rate_factor": 1.0,
    } | ends


def plan_of(
    rows: list[dict[str, Any]], stages: list[dict[str, Any]], *, is_tied: bool = False
) -> dict[str, Any]:
    """``plan.json`` with these rows and stages."""
    keys = "num_parameters", "num_trainable", "weight_bytes", "gradient_bytes", "optimizer_bytes"
    return {
        "schema": 2,
        "rows": rows,
        "totals": {key: sum(row[key] for row in rows) for key in keys},
        "lora": {
            "rank": 16,
            "alpha": 32,
            "dropout": 0.0,
            "dora": False,
            "rslora": False,
            "target_modules": ["q_proj"] * 253,
        },
        "full_modules": ["model.visual.merger"],
        "quantization": "none",
        "targets": [],
        "is_tied": is_tied,
        "stages": stages,
    }


def map_record(plan: dict[str, Any]) -> dict[str, Any]:
    """What ``sightline inspect model --json`` prints of a model with this plan."""
    tree: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in plan["rows"]:
        leaf = row | {"modules": ["one", "two"], "tied_to": None}
        tree.setdefault(row["tower"], {}).setdefault(row["block"], []).append(leaf)
    if plan["is_tied"]:
        rates = [None] * len(plan["stages"])
        head = plan_row("head", "lm_head", "head", 0, rates=rates)
        tree["head"] = {"lm_head": [head | {"modules": [], "tied_to": "embed_tokens"}]}
    return {
        "schema": 1,
        "model": "runs/tiny/a",
        "family": {"key": "a", "title": "A"},
        "dtype": "bfloat16",
        "is_tied": plan["is_tied"],
        "totals": plan["totals"],
        "notes": [],
        "plan": {"path": "run.yaml", "num_steps": 60}
        | {key: plan[key] for key in ("stages", "targets", "quantization")},
        "tree": [
            {
                "name": tower,
                "children": [{"name": name, "children": leaves} for name, leaves in blocks.items()],
            }
            for tower, blocks in tree.items()
        ],
    }


def metrics_lines(num_steps: int = 50, *, evaluation: bool = True) -> list[dict[str, Any]]:
    """A loss from 6 down to 6.4e-4, with a warm-up and a held-out loss."""
    lines: list[dict[str, Any]] = []
    for step in range(1, num_steps + 1):
        part = (step - 1) / (num_steps - 1)
        wave = 1 + 0.35 * (((step * 7) % 5) / 4 - 0.5) * (1 - part)
        lines.append(
            {
                "step": step,
                "epoch": step / 4,
                "loss": 6.0 * (6.4e-4 / 6.0) ** part * wave,
                "grad_norm": 1.0,
                "learning_rate": 8e-3 * min(1, step / 5) * (1 - part),
                "seconds": step * 0.05,
            }
        )
        if evaluation and step % 10 == 0:
            lines.append(
                {"step": step, "epoch": step / 4, "eval_loss": 2.0 * 0.005 ** (step / num_steps)}
            )
    lines[num_steps - 1 + (num_steps // 10 if evaluation else 0) - bool(evaluation)]["loss"] = (
        6.4e-4
    )
    return lines


def check_record(number: int, *, holds: bool | None = True, **values: Any) -> dict[str, Any]:
    """One check of a certificate."""
    return {
        "id": f"room.check_{number}",
        "title": f"Check {number}",
        "holds": holds,
        "severity": "info" if holds is None else "error",
        "measured": "0 of 4 samples differ",
        "tolerance": "0 samples",
        "figures": {},
        "detail": "",
        "advice": "",
    } | values


def certificate_record(family: str = "qwen2_5_vl", *, fails: bool = False) -> dict[str, Any]:
    """A certificate of seven checks, the fifth failing where that is asked for."""
    checks = [
        check_record(1, id="tokens.same_ids", title="Token ids equal those of plain transformers"),
        check_record(
            2,
            id="labels.on_answers",
            title="Labels cover answers and their closing token, nothing else",
            measured="0 of 4 samples at fault",
        ),
        check_record(3, id="positions.same_as_training", title="Positions equal those of training"),
        check_record(
            4,
            holds=None,
            id="positions.plain_transformers",
            title="Plain transformers places these samples as trained",
            measured="0 of 4 samples are placed differently by transformers 5.23.0",
            tolerance="",
        ),
        check_record(
            5,
            id="logits.cache_equals_whole",
            title="With the cache as without it",
            measured="logits differ by 4.1e-06 at most, over 4 samples",
            tolerance="0.0001",
        ),
        check_record(
            6,
            id="weights.bit_identical",
            title="The reloaded model is bit-identical to the merged one",
            measured="0 of 713 tensors differ",
            tolerance="0 tensors",
        ),
        check_record(
            7,
            id="answers.annotated",
            title="Answers equal the annotation",
            measured="4 of 4 answers are equal",
            tolerance="4 of 4",
        ),
    ]
    if fails:
        checks[4] |= {
            "holds": False,
            "measured": "logits differ by 5.8 at most, over 4 samples",
            "detail": "train.jsonl:2: token 107 of 131",
            "advice": "Training and inference place tokens differently. This is the fault behind "
            "a loss of zero and wrong answers.",
        }
    return {
        "schema": 1,
        "verdict": "fails" if fails else "holds",
        "created": "2026-01-01T12:00:00+00:00",
        "family": family,
        "versions": {"transformers": "5.23.0"},
        "checks": checks,
    }


def predictions_record(directory: Path, *, control: bool = True) -> dict[str, Any]:
    """Four pictures, drawn and answered; the control answers two of them wrongly."""
    for index, boxes in enumerate(BOXES):
        draw_picture(directory.parent / "pictures" / f"{index:04}.png", boxes)
    samples = [sample_record(index, boxes, boxes) for index, boxes in enumerate(BOXES)]
    moved = [
        sample_record(0, BOXES[0], [("red circle", (24, 30, 96, 102))]),
        sample_record(1, BOXES[1], [("green triangle", (5, 3, 51, 41))]),
        *samples[2:],
    ]
    served = {
        "title": "The same weights, served with 1-D positions",
        "num_equal": 2,
        "num_samples": 4,
        "samples": moved,
    }
    return {"samples": samples, "control": served if control else None}


def sample_record(index: int, annotated: Boxes, predicted: Boxes) -> dict[str, Any]:
    """A sample of one picture."""
    annotation, answer = answer_text(annotated), answer_text(predicted)
    return {
        "index": index,
        "file": "shapes/train.jsonl",
        "line": index + 1,
        "question": "Find every shape. Answer with a JSON list of boxes and labels.",
        "annotation": annotation,
        "answer": answer,
        "equal": annotation == answer,
        "media": [{"kind": "image", "path": f"../pictures/{index:04}.png", "frame_seconds": None}],
        "annotated_boxes": [{"label": name, "box": list(box)} for name, box in annotated],
        "predicted_boxes": [{"label": name, "box": list(box)} for name, box in predicted],
    }


def draw_picture(path: Path, boxes: Boxes, *, side: int = SIDE) -> Path:
    """A PNG with the shapes that the boxes name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (side, side), "#f2efe8")
    pen = ImageDraw.Draw(image)
    for name, (x1, y1, x2, y2) in boxes:
        colour, _, shape = name.partition(" ")
        fill = _COLOURS[colour]
        if shape == "circle":
            pen.ellipse((x1, y1, x2, y2), fill=fill)
        elif shape == "square":
            pen.rectangle((x1, y1, x2, y2), fill=fill)
        else:
            pen.polygon([(x1, y2), ((x1 + x2) / 2, y1), (x2, y2)], fill=fill)
    image.save(path)
    return path


def rewrite(path: Path, **values: Any) -> None:
    """Change keys of a JSON file."""
    write(path, json.loads(path.read_text(encoding="utf-8")) | values)


def answer_text(boxes: Boxes) -> str:
    return json.dumps([{"bbox_2d": list(box), "label": name} for name, box in boxes])


def _state(family: str) -> dict[str, Any]:
    return {
        "schema": 1,
        "state": "verified",
        "family": family,
        "model": f"tiny:{family}",
        "started": "2026-01-01T11:58:00+00:00",
        "finished": "2026-01-01T11:59:12+00:00",
        "seconds": 72.4,
        "versions": {
            "sightline": "0.1.0",
            "torch": "2.15.0",
            "transformers": "5.23.0",
            "peft": "0.21.2",
            "python": "3.11.9",
        },
        "device": "cpu",
        "preparation": {
            "kind": "lean",
            "compared": {"num_samples": 4, "num_values": 2_088_576, "largest_share": 9e-6},
        },
    }


def ledger_rows() -> list[dict[str, Any]]:
    return [
        {
            "sample": index,
            "file": "shapes/train.jsonl",
            "line": index + 1,
            "row": index,
            "fate": "kept",
            "policies": [],
            "reason": None,
            "num_tokens": 131 + index,
            "num_image_tokens": 64,
            "num_video_tokens": 0,
            "num_supervised_tokens": 40,
            "num_images": 1,
            "num_videos": 0,
        }
        for index in range(4)
    ]


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2), encoding="utf-8")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


_CONFIG = """\
model: tiny:qwen2_5_vl
data:
  train: shapes/train.jsonl
  max_length: 4096
tuning:
  language: lora
  projector: full
  vision: freeze
  head: lora
training:
  epochs: 50
  learning_rate: 0.008
  projector_learning_rate: 0.001
  batch_size: 1
  gradient_accumulation: 1
  precision: fp32
  seed: 0
output: runs/first
"""
