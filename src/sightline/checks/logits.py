"""Logits: merged against trained, cached against whole, adapter against merged."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel

from sightline.checks.context import VerifyContext, flat_positions
from sightline.checks.finding import Finding
from sightline.checks.forced import forced_logits
from sightline.errors import ModelError, VerifyError
from sightline.evaluation import ProbeSample
from sightline.model import load_adapter, load_weights

# Root mean square of bf16 rounding through a model, as a share of the logits' spread: a few
# percent. A wrong merge or a wrong position moves it to half and more.
NOISE_TOLERANCE = 0.15


class Gap(NamedTuple):
    """How far two sets of logits are apart.

    Attributes:
        largest: Largest difference of two logits.
        noise: Root mean square of the differences, as a share of the logits' own spread.
    """

    largest: float
    noise: float


def gap_between(first: torch.Tensor, second: torch.Tensor) -> Gap:
    """Compare logits of the same columns: (num_columns, vocabulary) each."""
    apart = (first - second).double()
    return Gap(
        float(apart.abs().max()), float(apart.square().mean().sqrt() / second.double().std())
    )


def merged_equals_trained(context: VerifyContext) -> Finding:
    """The artefact computes the logits that the training process computed."""
    gaps = [
        gap_between(whole_logits(context, context.model, sample), sample.logits)
        for sample in context.probe.samples
    ]
    finding = _finding(
        context,
        gaps,
        id="logits.merged",
        title="The merged model computes the trained model's logits"
        if context.is_merged
        else "The adapter on its base computes the trained model's logits",
        advice="The merge or the saved dtype changed the model. Compare tuning.* with the plan."
        if context.is_merged
        else "The adapter's keys do not fit this base, or the base is not the one that trained.",
    )
    if finding.holds or not _were_flat(context):
        return finding
    return replace(
        finding,
        figures={**finding.figures, "trained_flat": True},
        detail=f"{finding.detail}; with 1-D positions they are equal",
        advice="Training computed with 1-D positions, whatever it was given: something between "
        "the batch and the rotary embedding dropped height and width. Look for a patched forward "
        "or kernel, and train again.",
    )


def _were_flat(context: VerifyContext) -> bool:
    """Whether 1-D positions give the logits of training."""
    gaps = [
        gap_between(whole_logits(context, context.model, sample, flat=True), sample.logits)
        for sample in context.probe.samples
    ]
    return _agree(context, gaps)


def cache_equals_whole(context: VerifyContext) -> Finding:
    """Decoding token by token through ``generate`` gives the logits of one whole pass."""
    gaps = []
    for sample in context.probe.samples:
        forced, columns = forced_logits(context, sample)
        gaps.append(gap_between(forced, whole_logits(context, context.model, sample, columns)))
    return _finding(
        context,
        gaps,
        id="logits.cache",
        title="With the cache as without it",
        advice="Training and inference place tokens differently. This is the fault behind a loss "
        "of zero and wrong answers.",
    )


def adapter_equals_merged(context: VerifyContext, adapted: Any | None) -> Finding:
    """The base checkpoint with the adapter, through plain PEFT, equals the merged model.

    Args:
        context: The run under verification.
        adapted: What `load_adapted` gave.
    """
    title = "Base plus adapter equals the merged model"
    if adapted is None:
        return Finding(
            id="logits.adapter",
            title=title,
            holds=None,
            measured="this run has no adapter: its weights were tuned in full"
            if context.is_merged
            else "nothing was merged (export.merged: false): every other check has looked at "
            "the adapter on its base",
        )
    gaps = []
    for sample in context.probe.samples:
        with context.mixed_precision():
            both = whole_logits(context, adapted, sample)
        gaps.append(gap_between(both, whole_logits(context, context.model, sample)))
    return _finding(
        context,
        gaps,
        id="logits.adapter",
        title=title,
        advice="The adapter's keys do not fit this base, or the base is not the one that trained.",
    )


def load_adapted(context: VerifyContext) -> PeftModel | None:
    """The base with the adapter on it, where the artefact is a merged model made of both.

    Raises:
        VerifyError: One of them cannot be loaded.
    """
    if not context.is_merged or not context.probe.uses_adapter:
        return None
    base = load_weights(context.probe.base, dtype=getattr(torch, context.probe.dtype))
    return _load_adapter(base.to(context.model.device), context.run.adapter, context.probe.base)


def _load_adapter(base: Any, directory: Path, name: str) -> PeftModel:
    try:
        return load_adapter(base, directory, base=name)
    except ModelError as error:
        raise VerifyError(f"{error}\nRestore the folder, or train the run again.") from error


def whole_logits(
    context: VerifyContext,
    model: torch.nn.Module,
    sample: ProbeSample,
    columns: torch.Tensor | None = None,
    *,
    flat: bool = False,
) -> torch.Tensor:
    """Logits of one pass over the whole conversation: (num_columns, vocabulary) float32.

    Args:
        context: The run under verification.
        model: What computes them.
        sample: A probe sample.
        columns: Which columns; None for those that the probe kept.
        flat: Whether the sample is placed on 1-D positions.
    """
    given = context.training_inputs(sample)
    inputs = flat_positions(given) if flat else context.placed(given, [sample])
    wanted = (sample.columns if columns is None else columns).to(inputs["input_ids"].device)
    with torch.no_grad():
        out = model(**inputs, logits_to_keep=wanted, use_cache=False)
    return out.logits[0].float().cpu()


def _finding(
    context: VerifyContext, gaps: list[Gap], *, id: str, title: str, advice: str
) -> Finding:
    largest = _worst([gap.largest for gap in gaps])
    noise = _worst([gap.noise for gap in gaps])
    # In fp32 the largest difference judges. In bf16 single logits move by chance, and what tells
    # a fault from rounding is how much all of them move. Not a number is within no tolerance.
    exact = context.is_exact
    holds = _agree(context, gaps)
    measured = f"logits differ by {largest:.2g} at most"
    if not exact:
        measured += f", {100 * noise:.2g} % of their spread"
    return Finding(
        id=id,
        title=title,
        holds=holds,
        measured=f"{measured}, over {len(gaps)} samples",
        tolerance=f"{context.logits_tolerance:.3g}" if exact else f"{100 * NOISE_TOLERANCE:g} %",
        figures={
            "largest_difference": finite(largest),
            "noise_share": finite(noise),
            "per_sample": [finite(gap.largest if exact else gap.noise) for gap in gaps],
        },
        detail="" if holds else _where(context, gaps),
        advice="" if holds else advice,
    )


def _agree(context: VerifyContext, gaps: list[Gap]) -> bool:
    if context.is_exact:
        return _worst([gap.largest for gap in gaps]) <= context.logits_tolerance
    return _worst([gap.noise for gap in gaps]) <= NOISE_TOLERANCE


def finite(value: float) -> float | None:
    """A number as JSON can hold it: None stands for what is no number."""
    return value if math.isfinite(value) else None


def _worst(values: list[float]) -> float:
    """The largest value; one that is no number is worse than any."""
    return math.nan if any(math.isnan(value) for value in values) else max(values)


def _where(context: VerifyContext, gaps: list[Gap]) -> str:
    sizes = [gap.largest if context.is_exact else gap.noise for gap in gaps]
    worst = _worst(sizes)
    index = next(i for i, size in enumerate(sizes) if size == worst or math.isnan(size))
    sample = context.probe.samples[index]
    return f"largest at {sample.file}:{sample.line}"
