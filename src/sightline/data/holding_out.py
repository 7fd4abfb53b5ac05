"""A share of the samples that does not train: chosen by what they are about, not by their place.

Samples about one picture or video stay on one side: a picture that trained is no test. So do
samples that say the same. Which they are follows from the data, the share and the seed alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from sightline.data.index import IndexedFile
from sightline.errors import ConfigError


def held_out_samples(files: Sequence[IndexedFile], *, share: float, seed: int) -> np.ndarray:
    """Which samples are held out.

    Args:
        files: The index, file by file.
        share: How many of the samples that can be used, over 0 and under 1.
        seed: The run's seed.

    Returns:
        (num_samples,) bool, in the order of the files. At least one is held out, and no more than
        the share says unless the fewest that belong together are more.

    Raises:
        ConfigError: They are more than half of all samples.
    """
    names = list(_names(files))
    groups = _groups(names)
    held_out = np.zeros(len(names), dtype=bool)
    num_usable = sum(map(len, groups.values()))
    wanted = max(round(share * num_usable), 1)
    num_held_out = 0
    ranked = [groups[name] for name in sorted(groups, key=lambda name: _rank(name, seed))]
    for group in ranked:
        # One that is too large is left: it would hold out far more than was asked for.
        if num_held_out + len(group) <= wanted:
            held_out[group] = True
            num_held_out += len(group)
    if num_held_out == 0 and groups:
        smallest = min(ranked, key=len)
        held_out[smallest] = True
        num_held_out = len(smallest)
    if 2 * num_held_out > num_usable and num_held_out > wanted:
        raise ConfigError(
            f"data.eval_share is {share:g}: of {num_usable:,} samples {wanted:,} would be held "
            f"out, and the fewest that share no picture with others are {num_held_out:,}.\n"
            "Name held-out data in data.eval."
        )
    return held_out


def _names(files: Sequence[IndexedFile]) -> Iterator[list[str]]:
    """What each sample is about: its media, or its words; nothing where it cannot be used."""
    for file in files:
        for table in file.tables():
            columns = (table.column(name).to_pylist() for name in ("what", "media", "digest"))
            for what, media, digest in zip(*columns, strict=True):
                if what is not None:
                    yield []
                else:
                    # Bytes that stand in rows have no file: such samples are told by their words.
                    files_of = [one["path"] for one in media if one["num_bytes"] is not None]
                    yield files_of or [digest.hex()]


def _groups(names: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """Samples that are about the same, directly or by way of others, by a name of theirs."""
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        path = []
        while parents.setdefault(name, name) != name:
            path.append(name)
            name = parents[name]
        for one in path:
            parents[one] = name
        return name

    for own in names:
        # The smallest name is the root, so that the order of the data has no effect.
        roots = sorted({root(name) for name in own})
        for other in roots[1:]:
            parents[other] = roots[0]
    groups: dict[str, list[int]] = {}
    for sample, own in enumerate(names):
        if own:
            groups.setdefault(root(own[0]), []).append(sample)
    return groups


def _rank(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed} {name}".encode("utf-8", "replace"), digest_size=16).digest()
