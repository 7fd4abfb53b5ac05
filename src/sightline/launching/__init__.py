"""The processes of a run on this machine: started, watched and ended together."""

from sightline.launching.environment import (
    is_launched,
    is_ours,
    rank_of,
    refuse_shared_gpus,
    without_ranks,
)
from sightline.launching.error_file import errors_told
from sightline.launching.launch import Launch, launch
from sightline.launching.lifeline import end_with_launcher

__all__ = [
    "Launch",
    "end_with_launcher",
    "errors_told",
    "is_launched",
    "is_ours",
    "launch",
    "rank_of",
    "refuse_shared_gpus",
    "without_ranks",
]
