"""Several devices: what a run does where its processes share weights, gradients or steps."""

from sightline.training.parallel.sharding import (
    is_sharded,
    never_wrapped,
    roomy_device,
    shard,
    take_values,
)
from sightline.training.parallel.values import (
    any_nonzero,
    clip_gradients,
    largest,
    norms,
    of_first,
    over_slices,
    whole,
)

__all__ = [
    "any_nonzero",
    "clip_gradients",
    "is_sharded",
    "largest",
    "never_wrapped",
    "norms",
    "of_first",
    "over_slices",
    "roomy_device",
    "shard",
    "take_values",
    "whole",
]
