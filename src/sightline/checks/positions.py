"""Positions: training against this process, and the engine against plain transformers."""

from __future__ import annotations

import torch
import transformers

from sightline.checks.conformance import compare_family
from sightline.checks.context import Inputs, VerifyContext
from sightline.checks.finding import Finding


def same_as_training(context: VerifyContext) -> Finding:
    """The engine places every probe sample where it stood in training."""
    faults = []
    for sample in context.probe.samples:
        placed = context.engine_positions(context.trimmed(sample)).model_position_ids[1:, 0]
        if placed.shape != sample.position_ids.shape or bool((placed != sample.position_ids).any()):
            faults.append(f"{sample.file}:{sample.line}")
    return Finding(
        id="positions.same_as_training",
        title="Positions equal those of training",
        holds=not faults,
        measured=f"{len(faults)} of {len(context.probe.samples)} samples differ",
        tolerance="0 samples",
        figures={"num_differing": len(faults)},
        detail="; ".join(faults[:3]),
        advice="" if not faults else "Grids or seconds per grid changed between training and now.",
    )


def plain_transformers(context: VerifyContext) -> Finding:
    """Whether the installed transformers places the samples the same way by itself.

    Where it does not, the samples are noted in ``context.misplaced``, and the later checks give
    positions explicitly, as Sightline's loader does.
    """
    worst_shift, worst_logits, where = 0, 0.0, ""
    for sample in context.probe.samples:
        inputs = context.on_device(context.trimmed(sample))
        theirs = _their_positions(context, inputs)
        ours = context.engine_positions(inputs).model_position_ids[1:]
        shift = int((theirs - ours).abs().max())
        if shift:
            context.misplaced.add(sample.index)
            if shift > worst_shift:
                worst_shift, where = shift, f"{sample.file}:{sample.line}"
            worst_logits = max(worst_logits, _logit_difference(context, inputs, theirs, ours))
    version, rope = transformers.__version__, context.checkpoint.family.rope
    count = len(context.misplaced)
    return Finding(
        id="positions.plain_transformers",
        title="Plain transformers places these samples as trained",
        holds=None,
        measured=f"{count} of {len(context.probe.samples)} samples are placed differently by "
        f"transformers {version}"
        + (f": up to {worst_shift} positions, logits move {worst_logits:.3g}" if count else ""),
        tolerance="-",
        figures={
            "num_differing": count,
            "largest_shift": worst_shift,
            "largest_logit_difference": worst_logits,
        },
        detail=""
        if not count
        else f"largest at {where}. The engine agrees with {rope.who_agrees}. transformers "
        f"{version} starts text after a video before the video's last position.",
        advice=""
        if not count
        else "Serve videos with an engine that follows the published code (vLLM does), or load "
        "the model with sightline.model.follow_engine.",
    )


def conformance(context: VerifyContext) -> Finding:
    """What the installed transformers does with the family's cases, in this run's data or not."""
    result = compare_family(context.checkpoint.family)
    compared = [case for case in result.cases if case.verdict in ("agrees", "differs", "raises")]
    differing = result.differing
    return Finding(
        id="positions.conformance",
        title="Plain transformers places this family's cases as Sightline does",
        holds=None,
        measured=f"{len(compared) - len(differing)} of {len(compared)} cases agree"
        + (f"; not: {', '.join(case.case for case in differing)}" if differing else ""),
        tolerance="-",
        figures={"num_cases": len(compared), "num_differing": len(differing)},
        detail="" if not differing else f"{differing[0].case}: {differing[0].meaning}.",
        advice=""
        if not differing
        else "Samples of these kinds are served right by an engine that follows the published "
        "code (vLLM does), or with sightline.model.follow_engine.",
    )


def _their_positions(context: VerifyContext, inputs: Inputs) -> torch.Tensor:
    """(3, 1, seq): what the model's own class computes when nobody passes positions."""
    placed, _ = context.plain_model.model.get_rope_index(
        input_ids=inputs["input_ids"],
        mm_token_type_ids=inputs["mm_token_type_ids"],
        image_grid_thw=inputs.get("image_grid_thw"),
        video_grid_thw=inputs.get("video_grid_thw"),
        second_per_grid_ts=inputs.get("second_per_grid_ts"),
        attention_mask=inputs.get("attention_mask"),
    )
    return placed


def _logit_difference(
    context: VerifyContext, inputs: Inputs, theirs: torch.Tensor, ours: torch.Tensor
) -> float:
    with torch.no_grad():
        first = context.model(**inputs, position_ids=theirs, use_cache=False).logits
        second = context.model(**inputs, position_ids=ours, use_cache=False).logits
    return float((first - second).abs().max())
