"""Several devices: what a run does where its processes share weights, gradients or steps."""

from sightline.training.parallel.sharding import (
    is_sharded,
    is_shared_out,
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
    over_slices,
    own_part,
    whole,
)

__all__ = [
    "any_nonzero",
    "clip_gradients",
    "is_sharded",
    "is_shared_out",
    "largest",
    "never_wrapped",
    "norms",
    "over_slices",
    "own_part",
    "roomy_device",
    "shard",
    "take_values",
    "whole",
]
