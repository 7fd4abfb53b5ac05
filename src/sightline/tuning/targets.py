"""Explicit names: ``target_modules`` and ``modules_to_save``, and what they hit by tower.

Towers say where, names say what. A name picks among what its tower sets to lora or full, so that
``gate_proj`` does not adapt the vision tower of a model whose vision is frozen.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from sightline.config import TuningConfig
from sightline.errors import PlanError
from sightline.families import MappedFamily
from sightline.tuning.selection import (
    ALL_LINEAR,
    TargetHits,
    count_by_tower,
    hits_saved,
    hits_target,
    is_adaptable,
    is_adapted,
    refuse_without_hit,
)
from sightline.tuning.towers import TOWERS, Place

Owners = Mapping[str, tuple[nn.Module, Place]]


def picked_by_names(
    owners: Owners,
    known: Mapping[str, nn.Module],
    modes: Mapping[str, str],
    tuning: TuningConfig,
    family: MappedFamily,
) -> tuple[set[str], tuple[TargetHits, ...]]:
    """Modules that train, of those that towers let train, and what every explicit name hits.

    Args:
        owners: Modules that own parameters, by name.
        known: All modules of the model, by name.
        modes: What the towers say of every owner.
        tuning: The configuration's section.
        family: The model's family.

    Raises:
        PlanError: A name picks nothing, or a tower is left with nothing to train.
    """
    adapted, lora_hits = _adapted(owners, known, modes, tuning)
    saved, full_hits = _saved(owners, modes, tuning)
    for mode, picked, key in (
        ("lora", adapted, "target_modules"),
        ("full", saved, "modules_to_save"),
    ):
        wanted = {owners[name][1].tower for name, own in modes.items() if own == mode}
        empty = wanted - {owners[name][1].tower for name in picked}
        for tower in TOWERS:
            if tower not in empty:
                continue
            if getattr(tuning.lora, key) is None:
                raise PlanError(
                    f"tuning.{tower} is lora, but it has no linear layer in {family.title}.\n"
                    f"Set tuning.{tower}: full or freeze."
                )
            raise PlanError(
                f"tuning.{tower} is {mode}, but tuning.lora.{key} hits nothing in it.\n"
                f"Set tuning.{tower}: freeze, or name what is to train there."
            )
    return adapted | saved, (*lora_hits, *full_hits)


def _adapted(
    owners: Owners,
    known: Mapping[str, nn.Module],
    modes: Mapping[str, str],
    tuning: TuningConfig,
) -> tuple[set[str], list[TargetHits]]:
    under_lora = {name for name, mode in modes.items() if mode == "lora"}
    given = tuning.lora.target_modules
    if given is None or given == ALL_LINEAR:
        return {name for name in under_lora if is_adapted(*_kind(owners[name]))}, []
    is_expression = isinstance(given, str)
    found: set[str] = set()
    hits: list[TargetHits] = []
    for one in [given] if isinstance(given, str) else given:
        reached = {
            name
            for name, (module, _) in owners.items()
            if is_adaptable(module) and hits_target(one, name, is_expression=is_expression)
        }
        target = _target("target_modules", one, reached, under_lora, owners)
        refuse_without_hit(target, "lora", _what_it_is(one, known, is_expression=is_expression))
        hits.append(target)
        found |= reached & under_lora
    return found, hits


def _saved(
    owners: Owners, modes: Mapping[str, str], tuning: TuningConfig
) -> tuple[set[str], list[TargetHits]]:
    in_full = {name for name, mode in modes.items() if mode == "full"}
    given = tuning.lora.modules_to_save
    if given is None:
        return in_full, []
    found: set[str] = set()
    hits: list[TargetHits] = []
    for one in given:
        reached = {name for name in owners if hits_saved(one, name)}
        target = _target("modules_to_save", one, reached, in_full, owners)
        refuse_without_hit(target, "full", "")
        hits.append(target)
        found |= reached & in_full
    return found, hits


def _kind(owner: tuple[nn.Module, Place]) -> tuple[nn.Module, str]:
    return owner[0], owner[1].tower


def _target(
    key: str, given: str, reached: set[str], allowed: set[str], owners: Owners
) -> TargetHits:
    return TargetHits(
        key=key,
        given=given,
        hits=count_by_tower(owners[name][1] for name in sorted(reached & allowed)),
        left_out=count_by_tower(owners[name][1] for name in sorted(reached - allowed)),
    )


def _what_it_is(given: str, known: Mapping[str, nn.Module], *, is_expression: bool) -> str:
    """What a name is that is no layer: a block that holds some."""
    if is_expression:
        return ""
    blocks = [name for name in known if name == given or name.endswith(f".{given}")]
    if not blocks:
        return ""
    inside = [name for name, _ in known[blocks[0]].named_modules() if name]
    holds = ", ".join(inside[:3])
    return f"; {given} is no layer but a block that holds {holds}"
