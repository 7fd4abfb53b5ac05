"""The key that was meant: near in spelling, or right but in the wrong section."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from sightline.config.explain import key_names

_INDEX = re.compile(r"\[\d+\]")
_MAX_SUGGESTIONS = 2
# Keys that went to another section under another name.
_MOVED = {
    "training.projector_learning_rate": "tuning.projector.learning_rate",
    "training.vision_learning_rate": "tuning.vision.learning_rate",
}


def suggestion(name: str) -> str:
    """What to do about a key that does not exist: the nearest keys, or where all are listed.

    >>> suggestion("learning_rate")
    'Did you mean `training.learning_rate` or `tuning.language.learning_rate`?'
    >>> suggestion("training.learning_rat")
    'Did you mean `training.learning_rate`?'
    """
    found = _nearest(in_schema(name))
    if not found:
        return "`sightline config --explain` lists all keys."
    return f"Did you mean {' or '.join(f'`{known}`' for known in found)}?"


def in_schema(name: str) -> str:
    """A key as `key_names` writes it: without the index of a list's item.

    >>> in_schema("data.train[3].path")
    'data.train.path'
    """
    return _INDEX.sub("", name)


def _nearest(wanted: str) -> list[str]:
    if wanted in _MOVED:
        return [_MOVED[wanted]]
    names = key_names()
    last = _last(wanted)
    same = [known for known in names if _last(known) == last]
    if same:
        ranked = sorted(same, key=lambda known: (known.count("."), -_likeness(wanted, known)))
        return ranked[:_MAX_SUGGESTIONS]
    beside = [known for known in names if _section(known) == _section(wanted)]
    return (
        _spelled_like(last, beside, 0.6)
        or _spelled_like(last, names, 0.75)
        or _worded_like(last, names)
    )


def _spelled_like(last: str, names: Sequence[str], cutoff: float) -> list[str]:
    near = difflib.get_close_matches(last, {_last(known) for known in names}, n=1, cutoff=cutoff)
    return [known for known in names if _last(known) in near][:_MAX_SUGGESTIONS]


def _worded_like(last: str, names: Sequence[str]) -> list[str]:
    """Keys that other tools keep in one flat list: ``lora_rank`` is ``tuning.lora.rank``."""
    words = {_words(known): known for known in reversed(names)}
    near = difflib.get_close_matches(_words(last), words, n=1, cutoff=0.65)
    return [words[known] for known in near]


def _words(name: str) -> str:
    return " ".join(re.split(r"\W+|_", name)).strip()


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _section(name: str) -> str:
    return name.rpartition(".")[0]
