"""Explicit LoRA targets of other tools, worked into a plan by towers.

There the names alone decide. Here towers say where and names say what, so every tower that trains
must have a layer that is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from sightline.config import TowerName
from sightline.families import Modules
from sightline.interop.layer_names import ends_in, expression_of, layer_names, towers_hit


class Targets(NamedTuple):
    """Explicit LoRA targets as run.yaml takes them.

    Attributes:
        value: For ``tuning.lora.target_modules``.
        added: Towers that train and of which they name nothing: all of each is named beside.
        idle: Towers that would train and of which they name nothing, without being asked for.
        joined: Towers that would be frozen, unsaid, and alone have what they name.
    """

    value: list[str] | str
    added: list[TowerName]
    idle: list[TowerName]
    joined: list[TowerName]


def name_targets(
    given: list[str] | str, towers: Mapping[TowerName, tuple[bool, bool]], modules: Modules
) -> Targets:
    """Work explicit targets into a plan in which every tower that trains has some.

    Args:
        given: Names that layers end in, or one regular expression over whole names.
        towers: Whether each tower trains, and whether the file says so itself.
        modules: Module paths.

    Raises:
        ValueError: It is no regular expression.
    """
    hit = towers_hit(given, modules)
    if not hit:
        return Targets(given, [], [], [])
    added: list[TowerName] = []
    idle: list[TowerName] = []
    joined: list[TowerName] = []
    for tower, (trains, is_said) in towers.items():
        if trains and tower not in hit:
            (added if is_said else idle).append(tower)
        elif not trains and not is_said and tower in hit:
            joined.append(tower)
    if any(towers[tower][0] for tower in hit if tower in towers):
        joined = []
    if not added:
        return Targets(given, added, idle, joined)
    names = given if isinstance(given, str) else _expression(given)
    beside = [expression_of(tower, modules) for tower in added]
    return Targets("|".join([f"({names})", *beside]), added, idle, joined)


def _expression(names: list[str]) -> str:
    return rf"(.*\.)?({'|'.join(re.escape(name) for name in names)})"


def by_parts_of_names(
    names: list[str], towers: list[TowerName], modules: Modules
) -> list[str] | str:
    """Targets that fit anywhere in a name, as what PEFT takes: ends of names, or an expression.

    Args:
        names: What a layer's dotted name contains.
        towers: Towers that count.
        modules: Module paths.

    >>> from sightline.interop.layer_names import modules_of
    >>> by_parts_of_names(["q_proj"], ["language"], modules_of(None))
    ['q_proj']
    >>> by_parts_of_names(["proj"], ["language"], modules_of(None))
    '.*(proj).*'
    """
    layers = [name for tower in towers for name in layer_names(modules).get(tower, ())]
    for name in names:
        reached = [layer for layer in layers if name in layer]
        if any(not ends_in(layer, name) for layer in reached):
            return f".*({'|'.join(re.escape(name) for name in names)}).*"
    return names
