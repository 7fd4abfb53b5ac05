"""Which of a tower's modules a configuration's words mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from sightline.config import Part, PartSettings
from sightline.errors import PlanError
from sightline.tuning.towers import Place, Tower

_RANGE = re.compile(r"(\d+)(?:(-)(\d*))?")
_ENDS = re.compile(r"(first|last) (\d+)(%?)")

ALL_LINEAR = "all-linear"


def parse_blocks(text: str, num_blocks: int) -> frozenset[int]:
    """Numbers of the blocks that a range names; those the tower does not have left out.

    Args:
        text: ``3``, ``0-11``, ``24-``, ``last 8``, ``first 50%``, or several with commas.
        num_blocks: Blocks of the tower.

    >>> sorted(parse_blocks("0, last 25%", 8))
    [0, 6, 7]
    """
    found: set[int] = set()
    for piece in text.split(","):
        ends = _ENDS.fullmatch(piece.strip())
        if ends is not None:
            side, amount, percent = ends.groups()
            # At least one: half of a tower of one block is that block.
            count = max(1, round(num_blocks * int(amount) / 100)) if percent else int(amount)
            count = min(count, num_blocks)
            found |= set(range(count) if side == "first" else range(num_blocks - count, num_blocks))
            continue
        match = _RANGE.fullmatch(piece.strip())
        assert match is not None, "the configuration has checked it"
        low, dash, high = match.groups()
        last = int(high) if high else num_blocks - 1 if dash else int(low)
        found |= set(range(int(low), min(last, num_blocks - 1) + 1))
    return frozenset(found)


def is_selected(part: Part, place: Place, num_blocks: int) -> bool:
    """Whether a part means what stands in a place."""
    if part.kind is not None and part.kind != place.kind:
        return False
    if part.blocks is None:
        return True
    return place.number in parse_blocks(str(part.blocks), num_blocks)


def settings_at(
    settings: Sequence[tuple[PartSettings, bool]],
) -> dict[str, object]:
    """What holds in a place: of several that say the same, the last one.

    Args:
        settings: The tower's own and its parts', each with whether it means this place.
    """
    found: dict[str, object] = {}
    for one, holds in settings:
        if holds:
            own = {name: getattr(one, name) for name in PartSettings.model_fields}
            found |= {name: value for name, value in own.items() if value is not None}
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetHits:
    """What one explicit name means in a model.

    Attributes:
        key: ``target_modules`` or ``modules_to_save``.
        given: The name or regular expression.
        hits: Modules that it picks, by tower.
        left_out: Modules that it would also hit in PEFT, by tower; the plan has them otherwise.
    """

    key: str
    given: str
    hits: dict[Tower, int]
    left_out: dict[Tower, int]


def hits_target(given: str, name: str, *, is_expression: bool) -> bool:
    """Whether PEFT would take a module for a target: by the end of its name, or whole."""
    if is_expression:
        return re.fullmatch(given, name) is not None
    return name == given or name.endswith(f".{given}")


def hits_saved(given: str, name: str) -> bool:
    """Whether a module is one that PEFT would keep in full, or stands below such a one."""
    parts = name.split(".")
    return any(".".join(parts[: end + 1]).endswith(given) for end in range(len(parts)))


def is_adaptable(module: nn.Module) -> bool:
    """Whether LoRA can adapt a module when it is named."""
    return isinstance(module, nn.Linear | nn.Embedding | nn.Conv3d)


def is_adapted(module: nn.Module, tower: str) -> bool:
    """Whether LoRA adapts a module of a tower without its name being said: linear layers."""
    return isinstance(module, nn.Embedding if tower == "embeddings" else nn.Linear)


def count_by_tower(places: Iterable[Place]) -> dict[Tower, int]:
    """How many of the places are in each tower, towers without any left out."""
    found: dict[Tower, int] = {}
    for place in places:
        found[place.tower] = found.get(place.tower, 0) + 1
    return found


def refuse_without_hit(target: TargetHits, wanted: str, holds: str) -> None:
    """Refuse a name that picks nothing.

    Args:
        target: What it hits.
        wanted: The mode that it picks from: lora or full.
        holds: What the module holds instead, where it is one that cannot be picked.

    Raises:
        PlanError: Says what it hits elsewhere, and what to write.
    """
    if target.hits:
        return
    where = f"tuning.lora.{target.key}: {target.given!r} hits nothing that is set to {wanted}"
    if target.left_out:
        elsewhere = ", ".join(f"{count} in {tower}" for tower, count in target.left_out.items())
        first = next(iter(target.left_out))
        raise PlanError(
            f"{where}; it hits {elsewhere}.\nSet tuning.{first}: {wanted} if that is meant, or "
            "remove the name."
        )
    raise PlanError(
        f"{where}{holds}.\nSee the names with sightline inspect model, or write a regular "
        "expression that fits whole dotted names."
    )
