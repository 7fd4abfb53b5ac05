"""The loss curve as numbers, read from the lines of ``metrics.jsonl``."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Points = tuple[tuple[float, float], ...]

# Below this a curve is its own trend; above, single steps hide where it goes.
_TREND_FROM_POINTS = 120
# A median of a sixtieth of 100,000 steps is not taken at each of them.
_TREND_POINTS = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class LossCurve:
    """What was logged over the steps of a run.

    Attributes:
        loss: (step, training loss) of every logged step.
        evaluation: (step, evaluation loss); empty where nothing was held out.
        rate: (step, learning rate); empty where it was not logged.
        trend: The running median of a long curve; empty for a short one.
    """

    loss: Points
    evaluation: Points
    rate: Points
    trend: Points = ()

    @property
    def final_loss(self) -> float | None:
        """Training loss of the last logged step."""
        return self.loss[-1][1] if self.loss else None

    @property
    def losses(self) -> list[float]:
        """Every loss that is drawn."""
        return [value for _, value in (*self.loss, *self.evaluation)]

    @property
    def is_logarithmic(self) -> bool:
        """Whether the losses span more than two decades."""
        positive = [value for value in self.losses if value > 0]
        return bool(positive) and max(positive) > 100 * min(positive)


def read_curve(metrics: Sequence[Mapping[str, Any]]) -> LossCurve:
    """The curve of a run. A step that a resumed run logged again counts once, the later one."""
    loss: dict[float, float] = {}
    evaluation: dict[float, float] = {}
    rate: dict[float, float] = {}
    for line in metrics:
        step = float(line["step"])
        for series, key in ((loss, "loss"), (evaluation, "eval_loss"), (rate, "learning_rate")):
            value = line.get(key)
            if value is not None and math.isfinite(value):
                series[step] = float(value)
    points = tuple(sorted(loss.items()))
    return LossCurve(
        loss=points,
        evaluation=tuple(sorted(evaluation.items())),
        rate=tuple(sorted(rate.items())),
        trend=_trend(points),
    )


def _trend(loss: Points) -> Points:
    """The running median, at a thousand steps at most."""
    if len(loss) < _TREND_FROM_POINTS:
        return ()
    reach = len(loss) // 60
    values = [value for _, value in loss]
    last, num = len(loss) - 1, min(len(loss), _TREND_POINTS)
    places = [round(number * last / (num - 1)) for number in range(num)]
    return tuple(
        (loss[place][0], statistics.median(values[max(0, place - reach) : place + reach + 1]))
        for place in places
    )


def thinned(points: Points, limit: int = 600) -> Points:
    """At most about ``limit`` points: the lowest and the highest of every stretch, and the ends."""
    if len(points) <= limit:
        return points
    length = math.ceil(2 * len(points) / limit)
    kept = {points[0], points[-1]}
    for start in range(0, len(points), length):
        stretch = points[start : start + length]
        kept.add(min(stretch, key=lambda point: point[1]))
        kept.add(max(stretch, key=lambda point: point[1]))
    return tuple(sorted(kept))
