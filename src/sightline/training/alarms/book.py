"""Following a run: every alarm is told once, when it begins to hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sightline.training.alarms.gradients import exploding_gradients, zero_gradients
from sightline.training.alarms.loss import (
    abnormal_start,
    loss_not_falling,
    nothing_supervised,
    validation_rising,
)
from sightline.training.alarms.record import Alarm, History, RunFacts

KINDS: tuple[Callable[[History, RunFacts], Iterator[Alarm]], ...] = (
    abnormal_start,
    loss_not_falling,
    zero_gradients,
    exploding_gradients,
    nothing_supervised,
    validation_rising,
)


class Alarms:
    """Follows a run and tells every alarm when it begins to hold.

    Args:
        facts: What is known of the run.
        lines: Metrics of the steps before a resume; their alarms were told then.
    """

    def __init__(self, facts: RunFacts, lines: Sequence[Mapping[str, Any]] = ()) -> None:
        self._facts = facts
        self._history = History()
        self._holding: set[tuple[str, str | None]] = set()
        for line in lines:
            self.update(line)

    def update(self, line: Mapping[str, Any]) -> list[Alarm]:
        """Alarms that hold since this line of metrics, and did not before it."""
        self._history.add(line)
        holding = [alarm for kind in KINDS for alarm in kind(self._history, self._facts)]
        new = [alarm for alarm in holding if (alarm.id, alarm.tower) not in self._holding]
        self._holding = {(alarm.id, alarm.tower) for alarm in holding}
        return new
