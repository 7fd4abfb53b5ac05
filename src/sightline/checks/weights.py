"""Weights: what was saved, and what must not have moved."""

from __future__ import annotations

from sightline.checks.context import VerifyContext
from sightline.checks.finding import Finding
from sightline.model import differing


def bit_identical(context: VerifyContext) -> Finding:
    """What was saved has every weight bit by bit as it was in memory."""
    loaded = context.artefact_fingerprints()
    faults = differing(context.probe.exported_fingerprints, loaded)
    folder = context.probe.artefact
    return Finding(
        id="weights.bit_identical",
        title="The reloaded model is bit-identical to the merged one"
        if context.is_merged
        else "The saved adapter is bit-identical to the trained one",
        holds=not faults,
        measured=f"{len(faults)} of {len(loaded)} tensors differ",
        tolerance="0 tensors",
        figures={"num_tensors": len(loaded), "num_differing": len(faults)},
        detail=", ".join(faults[:3]),
        advice=f"{folder}/ was changed after the export, or the disk is full." if faults else "",
    )


def frozen_unmoved(context: VerifyContext) -> Finding:
    """What must not move is bit by bit the base checkpoint's.

    For an adapter that is the whole base, but for what trained in full: as it was loaded in
    training, as it was when training ended, and as it is loaded now.
    """
    frozen = context.probe.frozen_fingerprints
    compared = {name for name in frozen if not _rounded_elsewhere(context, name)}
    faults = set(context.probe.moved) | set(
        differing(
            {name: frozen[name] for name in compared},
            {name: own for name, own in context.base_tensors.items() if name in compared},
        )
    )
    left_out = len(frozen) - len(compared)
    elsewhere = (
        f"; {left_out} quantised ones were rounded on another kind of device in training, and are "
        "not compared"
        if left_out
        else ""
    )
    return Finding(
        id="weights.frozen",
        title="Frozen weights did not move",
        holds=not faults,
        measured=f"{len(faults)} of {len(compared)} frozen tensors differ from the base{elsewhere}",
        tolerance="0 tensors",
        figures={
            "num_tensors": len(compared),
            "num_differing": len(faults),
            "num_moved_in_training": len(context.probe.moved),
        },
        detail=", ".join(sorted(faults)[:3]),
        advice="" if not faults else _advice(context),
    )


def _rounded_elsewhere(context: VerifyContext, name: str) -> bool:
    """Whether a weight was quantised in training on another kind of device than here."""
    quantized = context.probe.quantized
    trained_on = context.run.read_state().get("device")
    if quantized is None or trained_on == context.model.device.type:
        return False
    return name.partition(".weight")[0] in quantized.modules


def _advice(context: VerifyContext) -> str:
    if context.is_merged or context.probe.moved:
        return "The plan was not followed; do not use this model."
    return (
        f"{context.probe.base} is not the base that trained, or was changed since. Put it back, "
        "or train again."
    )
