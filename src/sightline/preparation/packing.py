"""Whether the samples of a run are packed, before a weight is loaded."""

from __future__ import annotations

from sightline.errors import PlanError
from sightline.model import Checkpoint, unpackable


def is_packed(wanted: str, checkpoint: Checkpoint) -> bool:
    """Whether the samples of a run are packed.

    Args:
        wanted: ``training.packing``: auto, on or off.
        checkpoint: The opened checkpoint.

    Raises:
        PlanError: They are to be, and the model cannot keep them apart.
    """
    if wanted == "off":
        return False
    why = unpackable(checkpoint.config)
    if why is not None and wanted == "on":
        raise PlanError(
            f"training.packing is on, but samples packed for {checkpoint.source} would see each "
            f"other: {why}.\nSet training.packing to auto or off."
        )
    return why is None
