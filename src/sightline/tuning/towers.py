"""Which tower, block and kind of layer a parameter belongs to.

vision       patch embedding, position embedding, vision blocks
projector    the merger, and the deepstack mergers, which live *inside* the vision tower
language     decoder layers and the final norm
embeddings   the token embedding
head         the output head
"""

from __future__ import annotations

from typing import NamedTuple

from sightline.config import TOWER_NAMES, TowerName
from sightline.families import Modules

Tower = TowerName
TOWERS: tuple[Tower, ...] = TOWER_NAMES


class Place(NamedTuple):
    """Where a parameter stands.

    Attributes:
        tower: The tower.
        block: Block inside the tower: ``blocks.0``, ``merger``, ``layers.2``, ``norm``.
        kind: attention, mlp, norm or embedding; merger or deepstack in the projector; head.
    """

    tower: Tower
    block: str
    kind: str

    @property
    def number(self) -> int | None:
        """Number of the block; None for what is in no block, such as a final norm."""
        last = self.block.rpartition(".")[2]
        return int(last) if last.isdigit() else None


def place_of(name: str, modules: Modules) -> Place:
    """Tower, block and kind of a parameter or module of the model.

    Args:
        name: Dotted name inside the conditional-generation model.
        modules: The family's module paths.

    Raises:
        ValueError: The name is in no tower, so the family's record does not fit the model.

    >>> from sightline.families import TRAINABLE_FAMILIES
    >>> place_of("model.visual.merger.mlp.0.weight", TRAINABLE_FAMILIES["qwen2_5_vl"].modules)
    Place(tower='projector', block='merger', kind='merger')
    """
    for projector in modules.projectors:
        if _inside(name, projector):
            kind = "merger" if projector == modules.projectors[0] else "deepstack"
            return Place("projector", _block(name, modules.vision), kind)
    if _inside(name, modules.embeddings):
        return Place("embeddings", modules.embeddings.rsplit(".", 1)[-1], "embedding")
    if _inside(name, modules.head):
        return Place("head", modules.head, "head")
    roots: tuple[tuple[Tower, str], ...] = (
        ("vision", modules.vision),
        ("language", modules.language),
    )
    for tower, root in roots:
        if _inside(name, root):
            return Place(tower, _block(name, root), _kind(name.removeprefix(root), modules))
    raise ValueError(f"{name} is in no tower of {modules}")


def _inside(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}.")


def _block(name: str, tower: str) -> str:
    """The first part below the tower, with its number where it is one of a list."""
    parts = name.removeprefix(f"{tower}.").split(".")
    if len(parts) > 1 and parts[1].isdigit():
        return f"{parts[0]}.{parts[1]}"
    return parts[0]


def _kind(name: str, modules: Modules) -> str:
    parts = name.split(".")
    # Attention first: its query and key may have norms of their own.
    if set(parts) & set(modules.attention):
        return "attention"
    if any("norm" in part for part in parts):
        return "norm"
    return "embedding" if any("embed" in part for part in parts) else "mlp"
