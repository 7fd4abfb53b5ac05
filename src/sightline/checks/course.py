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


def loss(context: VerifyContext) -> Finding:
    """The loss was the mean over supervised tokens, however the batch was divided."""
    title = "The loss is the mean over supervised tokens"
    proof = context.run.read_state().get("loss")
    if not proof:
        return Finding(
            id="loss.exact",
            title=title,
            holds=None,
            measured="the first step has no supervised token"
            if context.run.read_state().get("batches")
            else "this run did not record it",
        )
    found, alone, tolerance = (float(proof[key]) for key in ("loss", "alone", "tolerance"))
    share = abs(found - alone) / max(abs(alone), 1e-12)
    return Finding(
        id="loss.exact",
        title=title,
        holds=share <= tolerance,
        measured=f"{len(proof['samples'])} samples in micro-batches give {found:.6g}, alone "
        f"{alone:.6g}",
        tolerance=f"{tolerance:g} of it",
        figures={
            "loss": found,
            "alone": alone,
            "share": share,
            "num_tokens": proof["num_tokens"],
            "num_samples": len(proof["samples"]),
        },
        detail=", ".join(proof["samples"]) if share > tolerance else "",
        advice=""
        if share <= tolerance
        else "Set training.head_loss to chunked and training.packing to off, and train again.",
    )
