"""Training: the Trainer with an exact loss, from configuration to exported model."""

from sightline.training.alarms import Alarm
from sightline.training.observer import Observer, SilentObserver
from sightline.training.rehearsal import Rehearsal
from sightline.training.run import TrainingResult, train

__all__ = ["Alarm", "Observer", "Rehearsal", "SilentObserver", "TrainingResult", "train"]
