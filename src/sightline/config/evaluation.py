"""Section ``evaluation``: what is measured of answers to held-out data while a run trains."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from sightline.config.base import Section, key, refuse_twice

Measure = Literal[
    "map",
    "map_50",
    "map_75",
    "box_precision",
    "box_recall",
    "box_iou",
    "grounding",
    "point_precision",
    "point_recall",
    "exact_match",
    "anls",
    "relaxed_accuracy",
    "rouge_l",
]
Best = Literal[
    "eval_loss",
    "eval_map",
    "eval_map_50",
    "eval_map_75",
    "eval_box_precision",
    "eval_box_recall",
    "eval_box_iou",
    "eval_grounding",
    "eval_point_precision",
    "eval_point_recall",
    "eval_exact_match",
    "eval_anls",
    "eval_relaxed_accuracy",
    "eval_rouge_l",
]
LOWEST = ("eval_loss",)
"""Of what the lowest is the best; of the others it is the highest."""


class EvaluationConfig(Section):
    """Answers to held-out data, made whenever the loss on them is computed."""

    metrics: list[Measure] = key(
        [],
        "Measures of answers to data.eval, each written to metrics.jsonl as eval_NAME whenever the "
        "loss on them is; none: the loss alone. docs/evaluation.md says what each is.",
    )
    samples: int | None = key(
        100,
        "Held-out samples that are answered, evenly over all of them; null is each.",
        unit="samples",
        gt=0,
    )
    batch_size: int = key(8, "Answers made at once, on each device.", unit="samples", gt=0)
    max_new_tokens: int = key(512, "Bound on an answer.", unit="tokens", gt=0)
    iou: float = key(
        0.5, "Least overlap at which a box counts as found, but for the measures map_*.", gt=0, le=1
    )

    @field_validator("metrics")
    @classmethod
    def _each_metric_once(cls, given: list[Measure]) -> list[Measure]:
        refuse_twice(given, "measure")
        return given
