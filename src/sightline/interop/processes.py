"""How many processes a training of another tool has, and the command that starts as many here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from sightline.interop.given_values import as_count
from sightline.interop.ledger import Ledger

_ON_A_MACHINE = ("NPROC_PER_NODE", "nproc_per_node", "num_gpus")
_IN_ALL = ("num_processes", "ray_num_workers")
_MACHINES = ("NNODES", "nnodes", "num_nodes", "num_machines")
_UNSAID = ("auto", "gpu", "cpu")
_START = "No key of run.yaml: sightline train run.yaml --processes"
_SEVERAL = (
    "No key of run.yaml: on each machine torchrun --nnodes {machines} --nproc_per_node {each} "
    "-m sightline train run.yaml, with its rendezvous options."
)


def launched(words: Sequence[str]) -> dict[str, str]:
    """How many processes a launcher's own options ask for.

    Args:
        words: What stands before a program's arguments: the launcher, its options, the program.

    >>> launched(["torchrun", "--nproc-per-node=4", "--nnodes", "2", "train.py"])
    {'nproc_per_node': '4', 'nnodes': '2'}
    """
    known = (*_ON_A_MACHINE, *_IN_ALL, *_MACHINES)
    found: dict[str, str] = {}
    for word, following in pairwise([*words, ""]):
        name, equals, value = word.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if word.startswith("--") and name in known:
            found[name] = value if equals else following
    return found


def is_one_unless_said(words: Sequence[str]) -> bool:
    """Whether a launcher starts one process where no number is given.

    Args:
        words: As in `launched`. accelerate and deepspeed ask a file or count GPUs instead.
    """
    programs = {word.rsplit("/", 1)[-1] for word in words}
    return not programs & {"accelerate", "deepspeed"}


def carry_processes(ledger: Ledger, unless_said: int | None) -> int | None:
    """Say how as many processes are started here.

    Args:
        ledger: What is filled.
        unless_said: Processes where no key says how many; None where that cannot be told.

    Returns:
        Processes over all machines; None where the file does not tell.

    Raises:
        ConfigError: A number is none, or below 1.
    """
    own = _take_counts(ledger, _ON_A_MACHINE)
    whole = _take_counts(ledger, _IN_ALL)
    machines = _take_counts(ledger, _MACHINES)
    each = _first(own) if own else 1
    places = _first(machines) if machines else 1
    for key, (value, number) in {**own, **whole}.items():
        ledger.none(key, value, _how_to_start(key, number) if places == 1 else _many(places, each))
    for key, (value, number) in machines.items():
        note = "One machine: nothing to be set." if number == 1 else _many(places, each)
        ledger.none(key, value, note)
    forced = ledger.take("FORCE_TORCHRUN")
    if forced is not None:
        ledger.none("FORCE_TORCHRUN", forced, f"{_START} N. One process a GPU is usual.")
    if whole:
        return _first(whole)
    if not own:
        each = unless_said
    return None if each is None or places is None else each * places


def _how_to_start(key: str, number: int | None) -> str:
    if number == 1:
        return "One process is what sightline train starts."
    ray = " --ray" if key == "ray_num_workers" else ""
    unknown = " The file does not say how many." if number is None else ""
    return f"{_START} {number or 'N'}{ray}.{unknown}"


def _many(machines: int | None, each: int | None) -> str:
    return _SEVERAL.format(machines=machines or "M", each=each or "N")


def _take_counts(ledger: Ledger, keys: Sequence[str]) -> dict[str, tuple[Any, int | None]]:
    """Value and number of each key that is given; None where the file does not hold the number."""
    found: dict[str, tuple[Any, int | None]] = {}
    for key in keys:
        value = ledger.take(key)
        if value is None:
            continue
        text = str(value)
        is_said = text not in _UNSAID and not any(sign in text for sign in "$`:")
        found[key] = (value, ledger.convert(key, value, as_count) if is_said else None)
    return found


def _first(found: dict[str, tuple[Any, int | None]]) -> int | None:
    return next(iter(found.values()))[1]
