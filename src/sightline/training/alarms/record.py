"""What an alarm says, and what it is told from."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

FIRST_LOOK_LINES = 24
"""Logged losses before the first look; then at twice as many, and so on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """Something in a run that a person should look at.

    Attributes:
        id: Its kind.
        step: The optimizer step at which it was seen.
        seen: What was seen, with figures.
        cause: The likely cause.
        remedy: What to do.
        tower: The tower it is about; None for the whole run.
    """

    id: str
    step: int
    seen: str
    cause: str
    remedy: str
    tower: str | None = None

    @property
    def text(self) -> str:
        """The alarm for a terminal."""
        return f"step {self.step}: {self.seen}\n  cause   {self.cause}\n  remedy  {self.remedy}"

    def record(self) -> dict[str, Any]:
        """A line of ``alarms.jsonl``."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """What the alarms know of a run besides its metrics.

    Attributes:
        vocabulary: Tokens that the model can predict.
        is_random: Whether its weights are random and not pre-trained.
        towers: Towers that train in each stage.
        trainable_share: Share of the model's weights that trains in any stage, 0 to 1.
        learning_rate: The highest peak learning rate.
        warmup_steps: Steps in which the rate rises; known when training begins.
    """

    vocabulary: int
    is_random: bool
    towers: Sequence[frozenset[str]]
    trainable_share: float
    learning_rate: float
    warmup_steps: int = 0

    def trains(self, stage: int) -> frozenset[str]:
        """Towers that train in a stage, from 1."""
        return self.towers[min(stage, len(self.towers)) - 1]


class Look(NamedTuple):
    """The first quarter of the losses so far beside their last.

    Attributes:
        size: Logged losses that it looked at.
        start: Mean of the first quarter.
        now: Mean of the last.
        noise: Two standard errors of their difference, as a share of the start.
    """

    size: int
    start: float
    now: float
    noise: float

    @property
    def fall(self) -> float:
        """How much lower the last quarter is, as a share of the start."""
        return (self.start - self.now) / self.start if self.start else 0.0


@dataclass(slots=True)
class History:
    """The lines of ``metrics.jsonl`` so far, as the alarms look at them.

    Attributes:
        lines: Lines with a training loss.
        evaluations: Lines with a validation loss.
        looks: A look at the losses after 24 of them, after 48, 96, and so on.
    """

    lines: list[Mapping[str, Any]] = field(default_factory=list)
    evaluations: list[Mapping[str, Any]] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)

    def add(self, line: Mapping[str, Any]) -> None:
        """One more line."""
        if line.get("loss") is not None:
            self.lines.append(line)
            if len(self.lines) == FIRST_LOOK_LINES * 2 ** len(self.looks):
                self.looks.append(_look([line["loss"] for line in self.lines]))
        if line.get("eval_loss") is not None:
            self.evaluations.append(line)


def _look(losses: Sequence[float]) -> Look:
    quarter = len(losses) // 4
    first, last = losses[:quarter], losses[-quarter:]
    start = statistics.fmean(first)
    error = math.sqrt((statistics.variance(first) + statistics.variance(last)) / quarter)
    noise = 2 * error / start if start else 0.0
    return Look(len(losses), start, statistics.fmean(last), noise)
