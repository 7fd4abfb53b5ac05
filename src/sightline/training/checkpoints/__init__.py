"""Checkpoints: whole or not there, verified when they are read, for any number of processes."""

from sightline.training.checkpoints.folder import Found, newest_good
from sightline.training.checkpoints.going_on import go_on_from, refuse_changed_keys
from sightline.training.checkpoints.origin import Origin
from sightline.training.checkpoints.trainer import CheckpointingTrainer

__all__ = [
    "CheckpointingTrainer",
    "Found",
    "Origin",
    "go_on_from",
    "newest_good",
    "refuse_changed_keys",
]
