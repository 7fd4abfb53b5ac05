"""What is watched while a run trains: metrics by tower, alarms, and values that are not finite."""

from sightline.training.watching.gradients import gradient_norms, learning_rates
from sightline.training.watching.run_watch import RunWatch
from sightline.training.watching.start import facts_of, watch_run, watch_weights
from sightline.training.watching.throughput import Throughput
from sightline.training.watching.weight_change import WeightChange

__all__ = [
    "RunWatch",
    "Throughput",
    "WeightChange",
    "facts_of",
    "gradient_norms",
    "learning_rates",
    "watch_run",
    "watch_weights",
]
