"""Training: the Trainer with an exact loss, from configuration to exported model."""

from sightline.training.alarms import Alarm
from sightline.training.run import Observer, TrainingResult, train

__all__ = ["Alarm", "Observer", "TrainingResult", "train"]
