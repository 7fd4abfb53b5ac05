"""Curves that grow with a run: what a page has not seen of them yet, and where they begin anew."""

from __future__ import annotations

import math
import secrets
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

from sightline.report.curves import Points, thinned

_PLAIN = ("loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_mib")
_BY_TOWER = {
    "grad_norm_by_tower": "grad_norm",
    "weight_change_by_tower": "weight_change",
    "learning_rate_by_tower": "learning_rate",
}
NUM_POINTS = 1000
"""Points of a curve that a page gets when it is opened, at most about."""


class Curve:
    """One curve, 24 bytes a point: step, value, and the line that it came with."""

    def __init__(self) -> None:
        self._steps = array("d")
        self._values = array("d")
        self._lines = array("L")

    def add(self, step: float, value: float, line: int) -> bool:
        """One more point; False where points had to give way, since their steps were done again."""
        keep = bisect_left(self._steps, step)
        is_after = keep == len(self._steps)
        if not is_after:
            del self._steps[keep:], self._values[keep:], self._lines[keep:]
        self._steps.append(step)
        self._values.append(value)
        self._lines.append(line)
        return is_after

    def since(self, line: int) -> Points:
        """Points that came with this line of the file, counted from 0, or after it."""
        start = bisect_left(self._lines, line)
        return tuple(zip(self._steps[start:], self._values[start:], strict=True))


class GrowingCurves:
    """Every curve of a run by its name: ``loss``, ``eval_map``, ``grad_norm/vision``.

    Attributes:
        num_lines: Lines of ``metrics.jsonl`` that were added.
        generation: Another number where points that were there were taken back, and in another
            process.
    """

    def __init__(self) -> None:
        self._curves: dict[str, Curve] = {}
        self.num_lines = 0
        self.generation = secrets.randbelow(10**8)

    def clear(self) -> None:
        """Begin anew: the file is another one."""
        self._curves.clear()
        self.num_lines = 0
        self.generation += 1

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Lines of ``metrics.jsonl``, in their order."""
        for line in lines:
            is_after = True
            for name, value in _values(line):
                curve = self._curves.setdefault(name, Curve())
                is_after &= curve.add(float(line["step"]), value, self.num_lines)
            self.generation += not is_after
            self.num_lines += 1

    def since(self, line: int) -> dict[str, Points]:
        """Points that came with line number `line`, from 0, or after it; none where none did."""
        found = {name: curve.since(line) for name, curve in self._curves.items()}
        return {name: points for name, points in found.items() if points}

    def whole(self) -> dict[str, Points]:
        """Every curve, thinned to what a page can show; its extremes are kept."""
        return {name: thinned(points, NUM_POINTS) for name, points in self.since(0).items()}


def _values(line: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The finite numbers of a line with the names of their curves."""
    named = [(name, line.get(name)) for name in _PLAIN]
    named += [(name, value) for name, value in line.items() if name.startswith("eval_")]
    for key, name in _BY_TOWER.items():
        towers = line.get(key)
        if isinstance(towers, Mapping):
            named += [(f"{name}/{tower}", value) for tower, value in towers.items()]
    return [
        (name, float(value))
        for name, value in named
        if isinstance(value, int | float) and math.isfinite(value)
    ]
