"""The figures of a run that trains: the last of each, its pace, and where its stages began."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from sightline.report.quantities import (
    count_text,
    duration_text,
    number_text,
    short_count,
)
from sightline.report.tower_charts import measure_title

# Logged lines from which pace and time left are told: a few, so that a change is soon seen.
_NUM_RECENT = 50
# A line every so often is expected; nobody is told of less than half a minute.
_LEAST_QUIET_SECONDS = 30.0
_QUIET_FACTOR = 10
# Before the first line a large model compiles, and is proven on a batch.
_FIRST_QUIET_SECONDS = 300.0


class LiveFigures:
    """What the last lines of ``metrics.jsonl`` say.

    Attributes:
        step: The last step that was logged; 0 where none was.
        borders: (step before it, number) of every stage that began, where there are several.
    """

    def __init__(self) -> None:
        self.step = 0
        self._last: Mapping[str, Any] = {}
        self._evaluations: dict[str, tuple[int, float]] = {}
        self._best_held_out: tuple[int, float] | None = None
        self._recent: deque[tuple[float, int]] = deque(maxlen=_NUM_RECENT)
        self._stages: list[list[int]] = []

    @property
    def borders(self) -> list[list[int]]:
        """Where each stage began; none where there was only one."""
        return self._stages if len(self._stages) > 1 else []

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Lines of ``metrics.jsonl``, in their order."""
        for line in lines:
            step = line["step"]
            for name, value in line.items():
                if name.startswith("eval_"):
                    self._evaluations[name] = (step, value)
            held_out = line.get("eval_loss")
            if held_out is not None and (
                self._best_held_out is None or held_out < self._best_held_out[1]
            ):
                self._best_held_out = (step, held_out)
            if line.get("loss") is not None:
                self._logged(line)

    def _logged(self, line: Mapping[str, Any]) -> None:
        step, stage = line["step"], line.get("stage", 1)
        if not self._stages or stage > self._stages[-1][1]:
            self._stages.append([self.step or step, stage])
        # A step without pictures says nothing of their speed; what was said stays.
        self.step, self._last = step, {**self._last, **line}
        seconds = line.get("seconds")
        if seconds is None:
            return
        if self._recent and seconds < self._recent[-1][0]:
            # A resumed run counts its time from its own start.
            self._recent.clear()
        self._recent.append((seconds, step))

    @property
    def _seconds_a_step(self) -> float | None:
        if len(self._recent) < 2:
            return None
        (began, first), (ended, last) = self._recent[0], self._recent[-1]
        return (ended - began) / (last - first) if last > first else None

    @property
    def quiet_after(self) -> float:
        """Seconds without a record after which a run that trains may have ended."""
        if len(self._recent) < 2:
            return _FIRST_QUIET_SECONDS
        times = [seconds for seconds, _ in self._recent]
        between = [later - earlier for earlier, later in pairwise(times)]
        return max(
            _LEAST_QUIET_SECONDS, _QUIET_FACTOR * statistics.median(between), 2 * max(between)
        )

    def progress(self, num_steps: int | None, *, age: float, is_going: bool) -> dict[str, Any]:
        """How far the run is.

        Args:
            num_steps: Steps of the whole run, or None.
            age: Seconds since the run wrote something.
            is_going: Whether it is expected to go on.
        """
        pace = self._seconds_a_step
        left = None
        if is_going and pace is not None and num_steps:
            left = max(pace * (num_steps - self.step) - age, 0.0)
        return {
            "step": self.step,
            "num_steps": num_steps,
            "share": min(self.step / num_steps, 1.0) if num_steps else None,
            "seconds_left": left,
        }

    def table(self, stages: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
        """Names and texts of the figures, in the order in which they are shown.

        Args:
            stages: The stages of ``plan.json``.
        """
        last, held_out = self._last, self._evaluations.get("eval_loss")
        pace = self._seconds_a_step
        values = (
            ("Stage", _stage(last, stages)),
            ("Epoch", f"{last['epoch']:.2f}" if "epoch" in last else None),
            ("Loss", _number(last.get("loss"))),
            ("Held-out loss", held_out and f"{number_text(held_out[1])}, step {held_out[0]:,}"),
            ("Lowest held-out loss", self._best_text(held_out)),
            ("Gradient norm", _number(last.get("grad_norm"))),
            ("Learning rate", _number(last.get("learning_rate"))),
            ("A step", None if pace is None else _step_time(pace)),
            ("Tokens a second", _count(last.get("tokens_per_second"))),
            ("Images a second", _count(last.get("images_per_second"))),
            ("Videos a second", _count(last.get("videos_per_second"))),
            ("Memory", "memory_mib" in last and f"{last['memory_mib'] / 1024:.3g} GiB"),
            ("Trained for", "seconds" in last and duration_text(last["seconds"])),
        )
        return [(name, str(value)) for name, value in values if value]

    def _best_text(self, last: tuple[int, float] | None) -> str:
        best = self._best_held_out
        if best is None or last is None or best[1] >= last[1]:
            return ""
        return f"{number_text(best[1])}, step {best[0]:,}"

    def measures(self) -> list[dict[str, Any]]:
        """The latest measures of answers to held-out questions."""
        found = {name: self._evaluations[f"eval_{name}"] for name in self.measured}
        return [
            {"title": measure_title(name), "value": value, "step": step}
            for name, (step, value) in found.items()
        ]

    @property
    def measured(self) -> list[str]:
        """Names of the measures that were taken while it trained."""
        names = (name.removeprefix("eval_") for name in self._evaluations)
        return [name for name in names if name != "loss"]


def _stage(last: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]) -> str:
    number = last.get("stage")
    if number is None or len(stages) < 2 or number > len(stages):
        return ""
    return f"{number} of {len(stages)}: {stages[number - 1].get('name')}"


def _step_time(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else duration_text(seconds)


def _number(value: float | None) -> str:
    return "" if value is None else number_text(float(value))


def _count(value: float | None) -> str:
    if value is None:
        return ""
    return short_count(round(value)) if value >= 1000 else count_text(round(value))
