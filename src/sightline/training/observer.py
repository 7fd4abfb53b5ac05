"""What a run tells the one who started it."""

from __future__ import annotations

from typing import Any, Protocol

from sightline.model import Checkpoint
from sightline.preparation import PreparedData
from sightline.training.alarms import Alarm
from sightline.tuning import PlannedStage


class Observer(Protocol):
    """Told of a run as it goes."""

    def stage(self, text: str) -> None:
        """A new stage of the work begins."""

    def prepared(self, data: PreparedData, checkpoint: Checkpoint) -> None:
        """All data is measured and fitted."""

    def batched(self, record: dict[str, Any]) -> None:
        """The steps are planned; ``batches`` of ``run.json``."""

    def planned(self, record: dict[str, Any]) -> None:
        """The parameter table is known."""

    def stage_began(self, number: int, stage: PlannedStage, step: int) -> None:
        """Another stage of the plan begins, numbered from 1, after so many steps."""

    def samples_read(self, count: int) -> None:
        """So many more samples are known."""

    def note(self, text: str) -> None:
        """How the run goes on, where that is not as its user would think."""

    def alarm(self, alarm: Alarm) -> None:
        """Something in the run should be looked at."""

    def trainer_callbacks(self) -> list[Any]:
        """Callbacks for the Trainer, for a progress bar."""
        return []


class SilentObserver(Observer):
    """An observer that says nothing; a subclass says what it wants to."""
