"""How often an epoch sees each conversation, by the weights of the sources."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sightline.config import Source


def choose(
    sources: Sequence[Source], source_of_items: np.ndarray, *, seed: int
) -> np.ndarray | None:
    """The conversations of an epoch, as indices into all of them, in order.

    A source gives ``num_samples`` of its conversations, or all, times its ``weight``; every one of
    them as often as the others, give or take one, and the seed says which of them once more.

    Args:
        sources: The sources.
        source_of_items: (num_items,) Number of the source of every conversation.
        seed: The run's seed.

    Returns:
        (num_chosen,) int64; None where every conversation is seen once.
    """
    chosen: list[np.ndarray] = []
    for number, source in enumerate(sources):
        items = np.flatnonzero(source_of_items == number)
        if len(items) == 0:
            continue
        # A stream was cut at num_samples when it was read.
        asked = None if source.streaming else source.num_samples
        wanted = round((len(items) if asked is None else asked) * source.weight)
        whole, rest = divmod(wanted, len(items))
        more = np.random.default_rng([seed, number]).choice(items, rest, replace=False)
        chosen.append(np.sort(np.concatenate([np.repeat(items, whole), more])))
    everything = np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)
    once = np.arange(len(source_of_items))
    return None if np.array_equal(everything, once) else everything.astype(np.int64)
