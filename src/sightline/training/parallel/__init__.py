"""Several devices: what a run does where its processes share weights, gradients or steps."""

from sightline.training.parallel.agreeing import anywhere, from_all, of_first
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
    "anywhere",
    "clip_gradients",
    "from_all",
    "is_sharded",
    "is_shared_out",
    "largest",
    "never_wrapped",
    "norms",
    "of_first",
    "over_slices",
    "own_part",
    "roomy_device",
    "shard",
    "take_values",
    "whole",
]
