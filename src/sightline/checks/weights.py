"""Weights: what was saved, what must not have moved, and what got a gradient."""

from __future__ import annotations

from sightline.checks.context import VerifyContext
from sightline.checks.finding import Finding
from sightline.model import differing, fingerprints


def bit_identical(context: VerifyContext) -> Finding:
    """The reloaded model has every weight bit by bit as it was merged in memory."""
    loaded = fingerprints(context.model.named_parameters())
    faults = differing(context.probe.merged_fingerprints, loaded)
    return Finding(
        id="weights.bit_identical",
        title="The reloaded model is bit-identical to the merged one",
        holds=not faults,
        measured=f"{len(faults)} of {len(loaded)} tensors differ",
        tolerance="0 tensors",
        figures={"num_tensors": len(loaded), "num_differing": len(faults)},
        detail=", ".join(faults[:3]),
        advice="" if not faults else "merged/ was changed after the export, or the disk is full.",
    )


def frozen_unmoved(context: VerifyContext) -> Finding:
    """What the plan froze is bit by bit the base checkpoint's."""
    frozen = context.probe.frozen_fingerprints
    loaded = fingerprints(
        (name, parameter) for name, parameter in context.model.named_parameters() if name in frozen
    )
    faults = differing(frozen, loaded)
    return Finding(
        id="weights.frozen",
        title="Frozen weights did not move",
        holds=not faults,
        measured=f"{len(faults)} of {len(frozen)} frozen tensors differ from the base",
        tolerance="0 tensors",
        figures={"num_tensors": len(frozen), "num_differing": len(faults)},
        detail=", ".join(faults[:3]),
        advice="" if not faults else "The plan was not followed; do not use this model.",
    )


def gradients_reached(context: VerifyContext) -> Finding:
    """Every tensor that the plan trains got a gradient at least once."""
    missed, watched = context.probe.without_gradient, context.probe.num_watched
    title = "Every trainable tensor got a gradient"
    if watched == 0:
        return Finding(
            id="plan.gradients",
            title=title,
            holds=None,
            measured="not measured: the run was resumed after its last step",
        )
    return Finding(
        id="plan.gradients",
        title=title,
        holds=not missed,
        measured=f"{len(missed)} of {watched} trainable tensors got none",
        tolerance="0 tensors",
        figures={"num_trainable_tensors": watched, "num_without_gradient": len(missed)},
        detail=", ".join(missed[:3]),
        advice=""
        if not missed
        else "Freeze what cannot learn from this data (a vision tower without pictures), or add "
        "data that reaches it.",
    )
