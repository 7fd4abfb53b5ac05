"""Training: the Trainer with an exact loss, from configuration to exported model."""

from sightline.training.callbacks import ProgressBar
from sightline.training.run import Observer, TrainingResult, train

__all__ = ["Observer", "ProgressBar", "TrainingResult", "train"]
