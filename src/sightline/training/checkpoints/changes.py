"""What is not as it was when a run began: refused where the result would be another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sightline.errors import RunError
from sightline.training.checkpoints.origin import Origin, SourceFile

# Where checkpoints, indices and reports stand, and how often they are written.
_FREE = (
    "output",
    "export",
    "verify",
    "training.save_every",
    "training.save_total_limit",
    "training.report_to",
    "training.num_workers",
    "data.index_folder",
    "data.patch_cache",
    "data.processes",
    "data.max_download_mib",
    "data.media_check",
    "evaluation.batch_size",
)
# How a step is computed: the same sum in another order.
_ROUNDING = (
    "training.batch_size",
    "training.gradient_accumulation",
    "training.tokens_per_row",
    "training.packing",
    "training.parallel",
    "training.compile",
    "training.head_loss",
    "training.gradient_checkpointing",
)
_LIBRARIES = ("python", "torch", "transformers", "peft", "accelerate")


class Change(NamedTuple):
    """A key with two values.

    Attributes:
        key: Its dotted name.
        then: The value at the start of the run.
        now: The value now.
    """

    key: str
    then: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key}: {_said(self.then)} then, {_said(self.now)} now"


def changed_keys(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Keys of two configurations that differ, but for those that cannot change what is trained.

    Args:
        then: The resolved configuration of the run.
        now: That with which it is to go on.
    """
    before, after = dict(_flat(then, "")), dict(_flat(now, ""))
    return [
        Change(key, before.get(key), after.get(key))
        for key in [*before, *(key for key in after if key not in before)]
        if before.get(key) != after.get(key) and not _is_below(key, _FREE)
    ]


def refuse_other_configuration(then: Mapping[str, Any], now: Mapping[str, Any], run: str) -> None:
    """Refuse to go on with a configuration that would train otherwise.

    Args:
        then: The resolved configuration of the run.
        now: That with which it is to go on.
        run: The run directory, for the message.

    Raises:
        RunError: It names every key with both values.
    """
    changes = _changes(then, now)
    if changes:
        told = "\n".join(f"  {change}" for change in changes)
        raise RunError(
            f"{run}: the run was started with another configuration:\n{told}\n"
            "Set them back (sightline resume takes the run's own), or start the run anew with "
            "--overwrite."
        )


def refuse_other_origin(then: Origin, now: Origin, run: str) -> list[str]:
    """Refuse to go on from what would not be the same run.

    Args:
        then: The origin that the checkpoint has.
        now: That of the run as it is now.
        run: The run directory, for the message.

    Returns:
        What is otherwise, and changes at most the rounding.

    Raises:
        RunError: Configuration, data or base are others; it names both.
    """
    refuse_other_configuration(then.config, now.config, run)
    _refuse_other_steps(then, now, run)
    notes = _refuse_other_data(then, now, run)
    if then.base != now.base:
        raise RunError(
            f"{run}: the weights of {now.config['model']} are not those that the run was started "
            f"from (digest {then.base} then, {now.base} now).\n"
            "Put the model of then back, or start the run anew with --overwrite."
        )
    rounding = [
        str(one) for one in changed_keys(then.config, now.config) if _is_below(one.key, _ROUNDING)
    ]
    if then.world_size != now.world_size:
        rounding.append(f"processes: {then.world_size} then, {now.world_size} now")
    rounding += [
        str(Change(name, then.versions.get(name), now.versions.get(name)))
        for name in _LIBRARIES
        if then.versions.get(name) != now.versions.get(name)
    ]
    if rounding:
        notes.append(
            "The run goes on, but not bit by bit as it would have: " + "; ".join(rounding) + "."
        )
    return notes


def foreign_to(config: Mapping[str, Any], state: Mapping[str, Any]) -> str | None:
    """Why a checkpoint is not of a run; None where it is.

    Args:
        config: The resolved configuration of the run.
        state: The ``state.json`` of the checkpoint.
    """
    try:
        then = Origin.read(state["origin"])
    except (KeyError, TypeError) as error:
        return f"its state.json is broken: {error}"
    changes = _changes(then.config, config)
    if not changes:
        return None
    return "it is of another run: " + "; ".join(
        f"{one.key} is {_said(one.then)} in it, {_said(one.now)} in this one" for one in changes
    )


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Keys that differ, and change more than the rounding."""
    return [one for one in changed_keys(then, now) if not _is_below(one.key, _ROUNDING)]


def _refuse_other_steps(then: Origin, now: Origin, run: str) -> None:
    before, after = _samples_per_step(then), _samples_per_step(now)
    if before != after:
        raise RunError(
            f"{run}: a step was {before} samples and would now be {after} (training.batch_size "
            f"times training.gradient_accumulation times processes: {_product(then)} then, "
            f"{_product(now)} now).\n"
            "Set both so that it stays the same, or count steps in tokens "
            "(training.tokens_per_step) in a new run."
        )


def _samples_per_step(origin: Origin) -> int | None:
    training = origin.config["training"]
    if training["tokens_per_step"] is not None:
        return None
    return training["batch_size"] * training["gradient_accumulation"] * origin.world_size


def _product(origin: Origin) -> str:
    training = origin.config["training"]
    numbers = (training["batch_size"], training["gradient_accumulation"], origin.world_size)
    return " x ".join(map(str, numbers))


def _refuse_other_data(then: Origin, now: Origin, run: str) -> list[str]:
    before, after = ({file.path: file for file in one.files} for one in (then, now))
    told = [
        line for path in dict.fromkeys([*before, *after]) for line in _told(path, before, after)
    ]
    if told or then.fingerprint != now.fingerprint:
        told = told or ["  no file has changed, but they are measured otherwise: another processor"]
        raise RunError(
            f"{run}: the data are not those that the run was started with (fingerprint "
            f"{then.fingerprint} then, {now.fingerprint} now):\n"
            + "\n".join(told)
            + "\nPut the data of then back, or start the run anew with --overwrite."
        )
    touched = [path for path in before if before[path].newest_ns != after[path].newest_ns]
    return [
        f"Media of {path} were written again since the run began; their sizes are the same."
        for path in touched
    ]


def _told(
    path: str, before: Mapping[str, SourceFile], after: Mapping[str, SourceFile]
) -> Iterator[str]:
    if path not in after:
        yield f"  {path}: it is no longer among them"
    elif path not in before:
        yield f"  {path}: it was not among them"
    elif before[path].rows != after[path].rows:
        yield f"  {path}: its rows have changed"
    elif before[path].media != after[path].media:
        yield f"  {path}: pictures or videos that it names have changed"


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    match value:
        case dict() if value:
            for key, inner in value.items():
                yield from _flat(inner, f"{name}.{key}" if name else str(key))
        case list() | tuple() if value:
            for index, inner in enumerate(value):
                yield from _flat(inner, f"{name}[{index}]")
        case _:
            yield name, value


def _is_below(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith((f"{name}.", f"{name}[")) for name in names)


def _said(value: Any) -> str:
    return "nothing" if value is None else str(value)
