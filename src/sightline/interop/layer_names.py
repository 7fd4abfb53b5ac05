"""Names of layers and parts as other tools write them, and the towers that they mean.

The model itself is not there when a configuration is imported: what is known of names is what the
families have in common. Gated vision MLPs are left out, whose layers are named as the decoder's:
only the model tells whether it has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from sightline.config import TowerName
from sightline.families import TRAINABLE_FAMILIES, Modules, TrainableFamily

_LAYERS: dict[TowerName, tuple[str, ...]] = {
    "vision": (
        "attn.qkv",
        "attn.proj",
        "mlp.fc1",
        "mlp.fc2",
        "mlp.linear_fc1",
        "mlp.linear_fc2",
    ),
    "projector": ("mlp.0", "mlp.2", "linear_fc1", "linear_fc2"),
    "language": (
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    ),
}
_GATED = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
_KINDS = {"attn": "attention", "self_attn": "attention", "mlp": "mlp"}
_MOST_BLOCKS = 128
# Before transformers 4.52 the decoder stood at `model` and the vision tower at `visual`.
_OLDER = re.compile(r"(visual|model\.(?=layers|embed_tokens|norm))(.*)")


class NamedPart(NamedTuple):
    """A part of the model that a name of another tool means.

    Attributes:
        tower: The tower.
        blocks: Its blocks, as ``tuning.TOWER.parts`` writes them; None is the whole tower.
        kind: The kind of its layers; None is all.
    """

    tower: TowerName
    blocks: str | None = None
    kind: str | None = None


def modules_of(family: TrainableFamily | None) -> Modules:
    """Module paths of a family; where it is not known, of the one with the most parts."""
    if family is None:
        family = max(TRAINABLE_FAMILIES.values(), key=lambda one: len(one.modules.projectors))
    return family.modules


def may_hit_vision(target: list[str] | str, modules: Modules) -> bool:
    """Whether a target fits layers of a vision tower that has gated MLPs."""
    gated = [f"{block}.{layer}" for block in _numbered(modules.vision_blocks) for layer in _GATED]
    if isinstance(target, str):
        return any(re.fullmatch(target, name) for name in gated)
    return any(ends_in(name, one) for name in gated for one in target)


def layer_names(modules: Modules) -> dict[TowerName, tuple[str, ...]]:
    """Dotted names of linear layers by tower, in as many blocks as any model has."""
    return {
        "vision": _inside(_numbered(modules.vision_blocks), "vision"),
        # The deepstack mergers are a list, the merger is none; either form does no harm.
        "projector": _inside(
            [name for path in modules.projectors for name in (path, *_numbered(path))], "projector"
        ),
        "language": _inside(_numbered(modules.language_blocks), "language"),
    }


def _numbered(path: str) -> list[str]:
    return [f"{path}.{number}" for number in range(_MOST_BLOCKS)]


def _inside(owners: Iterable[str], tower: TowerName) -> tuple[str, ...]:
    return tuple(f"{owner}.{layer}" for owner in owners for layer in _LAYERS[tower])


def towers_hit(target: list[str] | str, modules: Modules) -> set[TowerName]:
    """Towers with layers that PEFT would take for a target.

    Args:
        target: Names that layers end in, or one regular expression over whole dotted names.
        modules: Module paths.

    Raises:
        ValueError: It is no regular expression.

    >>> sorted(towers_hit(["linear_fc1"], modules_of(None)))
    ['projector', 'vision']
    """
    if isinstance(target, str):
        try:
            expression = re.compile(target)
        except re.error as error:
            raise ValueError(f"a regular expression is expected: {error}") from None
        return {
            tower
            for tower, names in layer_names(modules).items()
            if any(expression.fullmatch(name) for name in names)
        }
    return {
        tower
        for tower, names in layer_names(modules).items()
        if any(ends_in(name, one) for name in names for one in target)
    }


def ends_in(name: str, end: str) -> bool:
    """Whether a dotted name ends in another one."""
    return name == end or name.endswith(f".{end}")


def expression_of(tower: TowerName, modules: Modules) -> str:
    """A regular expression for everything in a tower's blocks."""
    paths = {
        "vision": (modules.vision_blocks,),
        "projector": modules.projectors,
        "language": (modules.language_blocks,),
    }[tower]
    return "|".join(rf"{re.escape(path)}\..*" for path in paths)


def in_todays_names(name: str) -> str:
    """A path of before transformers 4.52 as it is called today; others stay.

    >>> in_todays_names("visual.merger"), in_todays_names("model.layers.3")
    ('model.visual.merger', 'model.language_model.layers.3')
    """
    older = _OLDER.fullmatch(name)
    if older is None:
        return name
    if older[1] == "visual":
        return f"model.{name}"
    return f"model.language_model.{older[2]}"


def parts_named(name: str, modules: Modules) -> list[NamedPart]:
    """Parts of the model that a name means; empty where that cannot be told.

    Args:
        name: A dotted name, or the end of one.
        modules: Module paths.

    >>> parts_named("model.language_model.layers.3.mlp", modules_of(None))
    [NamedPart(tower='language', blocks='3', kind='mlp')]
    >>> [part.tower for part in parts_named("visual", modules_of(None))]
    ['vision', 'projector']
    """
    name = name.strip(".")
    block = re.fullmatch(r"(.+?)\.(\d+)(?:\.(\w+))?", name)
    lists: dict[TowerName, str] = {
        "vision": modules.vision_blocks,
        "language": modules.language_blocks,
    }
    for tower, path in lists.items():
        if ends_in(path, name):
            return [NamedPart(tower, blocks="0-")]
        if block and ends_in(path, block[1]):
            kind = _KINDS.get(block[3]) if block[3] else None
            return [NamedPart(tower, block[2], kind)] if kind or not block[3] else []
    whole: list[tuple[str, list[NamedPart]]] = [
        (modules.embeddings, [NamedPart("embeddings")]),
        (modules.head, [NamedPart("head")]),
        (modules.projectors[0], [NamedPart("projector")]),
        *((path, [NamedPart("projector", kind="deepstack")]) for path in modules.projectors[1:]),
        (modules.patch_embedding, [NamedPart("vision", kind="embedding")]),
        (modules.vision, [NamedPart("vision"), NamedPart("projector")]),
        (modules.language, [NamedPart("language"), NamedPart("embeddings")]),
        (f"{modules.language}.norm", [NamedPart("language", kind="norm")]),
    ]
    return next((parts for path, parts in whole if ends_in(path, name)), [])
