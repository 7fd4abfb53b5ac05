"""Preprocessing: the exported processor, by itself, prepares media as training did."""

from __future__ import annotations

from typing import Any

from sightline.checks.context import VerifyContext
from sightline.checks.finding import Finding
from sightline.evaluation import SeenPixels, seen_pixels
from sightline.model import preparation_record

_MAX_SHOWN = 3


def same_settings(context: VerifyContext) -> Finding:
    """Pixel budget, frames, filter and box space of the exported folder are those of the run."""
    trained = context.probe.preparation
    saved = preparation_record(context.checkpoint)
    differing = [
        f"{name}: trained with {trained.get(name)}, saved {saved.get(name)}"
        for name in {**trained, **saved}
        if trained.get(name) != saved.get(name)
    ]
    return Finding(
        id="preprocessing.settings",
        title="The saved processor has the settings of training",
        holds=not differing,
        measured=f"{len(differing)} of {len(saved)} settings differ",
        tolerance="0 settings",
        figures={"num_settings": len(saved), "num_differing": len(differing)},
        detail="; ".join(differing[:_MAX_SHOWN]),
        advice="" if not differing else "Put the processor's files back as the run exported them.",
    )


def same_pixels(context: VerifyContext) -> Finding:
    """Media of the probe samples through the saved processor: the same grids and grey levels."""
    with_media = [sample for sample in context.probe.samples if sample.pixels.grids]
    faults, num_grids = [], 0
    for sample in with_media:
        made = _seen(context, context.trimmed(sample))
        num_grids += len(sample.pixels.grids)
        if made.grids != sample.pixels.grids:
            faults.append(f"sample {sample.index}: grids {made.grids}, not {sample.pixels.grids}")
        elif made.digest != sample.pixels.digest:
            faults.append(f"sample {sample.index}: the same grids, other grey levels")
    measured = f"{len(faults)} of {len(with_media)} samples with media differ"
    return Finding(
        id="preprocessing.pixels",
        title="The saved processor gives the pixels of training",
        holds=not faults if with_media else None,
        measured=f"{measured}, {num_grids} grids compared" if with_media else "no media to compare",
        tolerance="0 grey levels",
        figures={"num_samples": len(with_media), "num_differing": len(faults)},
        detail="; ".join(faults[:_MAX_SHOWN]),
        advice=""
        if not faults
        else "The media or the processor's files changed since training, or another backend "
        "resizes here: see preprocessing.settings.",
    )


def _seen(context: VerifyContext, inputs: dict[str, Any]) -> SeenPixels:
    patching = context.checkpoint.preprocessing.image_patching
    return seen_pixels(inputs, context.probe.recipes, patching.temporal_patch_size)
