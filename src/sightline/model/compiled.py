"""Compiling the blocks of both towers, one by one."""

from __future__ import annotations

from typing import Any

from sightline.families import MappedFamily


def compile_blocks(model: Any, family: MappedFamily, *, backend: str = "inductor") -> int:
    """Compile every block of both towers for rows of any length; names and weights stay.

    Block by block: all blocks of a tower share one compiled graph, and what is between them, where
    lengths decide what is computed, is left alone.

    Args:
        model: The planned model; PEFT may be around it.
        family: Its family, which knows where the blocks are.
        backend: torch.compile's.

    Returns:
        How many blocks there are.
    """
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    count = 0
    for path in (family.modules.vision_blocks, family.modules.language_blocks):
        for block in plain.get_submodule(path):
            block.compile(dynamic=True, backend=backend)
            count += 1
    return count
