"""Which tower and block a parameter belongs to.

vision       patch embedding, position embedding, vision blocks
projector    the merger, and the deepstack mergers, which live *inside* the vision tower
language     decoder layers and the final norm
embeddings   the token embedding
head         the output head
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from sightline.families import Modules

Tower = Literal["vision", "projector", "language", "embeddings", "head"]
TOWERS: tuple[Tower, ...] = ("vision", "projector", "language", "embeddings", "head")


class Place(NamedTuple):
    """Where a parameter stands.

    Attributes:
        tower: The tower.
        block: Block inside the tower: ``blocks.0``, ``merger``, ``layers.2``, ``norm``.
    """

    tower: Tower
    block: str


def place_of(name: str, modules: Modules) -> Place:
    """Tower and block of a parameter or module of the model.

    Args:
        name: Dotted name inside the conditional-generation model.
        modules: The family's module paths.

    Raises:
        ValueError: The name is in no tower, so the family's record does not fit the model.

    >>> from sightline.families import TRAINABLE_FAMILIES
    >>> place_of("model.visual.merger.mlp.0.weight", TRAINABLE_FAMILIES["qwen2_5_vl"].modules)
    Place(tower='projector', block='merger')
    """
    for projector in modules.projectors:
        if _inside(name, projector):
            return Place("projector", _block(name, modules.vision))
    if _inside(name, modules.embeddings):
        return Place("embeddings", modules.embeddings.rsplit(".", 1)[-1])
    if _inside(name, modules.head):
        return Place("head", modules.head)
    if _inside(name, modules.vision):
        return Place("vision", _block(name, modules.vision))
    if _inside(name, modules.language):
        return Place("language", _block(name, modules.language))
    raise ValueError(f"{name} is in no tower of {modules}")


def _inside(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}.")


def _block(name: str, tower: str) -> str:
    """The first part below the tower, with its number where it is one of a list."""
    parts = name.removeprefix(f"{tower}.").split(".")
    if len(parts) > 1 and parts[1].isdigit():
        return f"{parts[0]}.{parts[1]}"
    return parts[0]
