"""What was proven while the run trained, as the run directory tells it."""

from __future__ import annotations

from sightline.checks.context import VerifyContext
from sightline.checks.finding import Finding


def packing(context: VerifyContext) -> Finding:
    """Samples of a packed row were seen alone: proven before the first step, on the run's own."""
    title = "Samples of a packed row do not see each other"
    state = context.run.read_state()
    proof = state.get("packing")
    if not proof:
        is_packed = (state.get("batches") or {}).get("packed", False)
        return Finding(
            id="packing.alone",
            title=title,
            holds=None,
            measured="no row had two samples" if is_packed else "rows were padded, not packed",
        )
    share, tolerance = float(proof["largest_share"]), float(proof["tolerance"])
    return Finding(
        id="packing.alone",
        title=title,
        holds=share <= tolerance,
        measured=f"logits of {len(proof['samples'])} samples in a row and alone differ by "
        f"{share:.2g} of their spread",
        tolerance=f"{tolerance:g}",
        figures={
            "largest_share": share,
            "num_samples": len(proof["samples"]),
            "num_compared": proof["num_compared"],
        },
        detail=", ".join(proof["samples"]) if share > tolerance else "",
        advice="" if share <= tolerance else "Set training.packing to off, and train again.",
    )
