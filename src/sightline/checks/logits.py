"""Logits: merged against trained, cached against whole, adapter against merged."""

from __future__ import annotations

import torch
from peft import PeftModel

from sightline.checks.context import VerifyContext
from sightline.checks.finding import Finding
from sightline.checks.forced import forced_logits
from sightline.evaluation import ProbeSample
from sightline.model import load_weights


def merged_equals_trained(context: VerifyContext) -> Finding:
    """The exported model computes the logits that the training process computed."""
    gaps = [
        float((whole_logits(context, context.model, sample) - sample.logits).abs().max())
        for sample in context.probe.samples
    ]
    return _finding(
        context,
        gaps,
        id="logits.merged",
        title="The merged model computes the trained model's logits",
        advice="The merge or the saved dtype changed the model. Compare tuning.* with the plan.",
    )


def cache_equals_whole(context: VerifyContext) -> Finding:
    """Decoding token by token through ``generate`` gives the logits of one whole pass."""
    gaps = []
    for sample in context.probe.samples:
        forced, columns = forced_logits(context, sample)
        whole = whole_logits(context, context.model, sample, columns)
        gaps.append(float((forced - whole).abs().max()))
    return _finding(
        context,
        gaps,
        id="logits.cache",
        title="With the cache as without it",
        advice="Training and inference place tokens differently. This is the fault behind a loss "
        "of zero and wrong answers.",
    )


def adapter_equals_merged(context: VerifyContext) -> Finding:
    """The base checkpoint with the adapter, through plain PEFT, equals the merged model."""
    title = "Base plus adapter equals the merged model"
    if not context.probe.uses_adapter:
        return Finding(
            id="logits.adapter",
            title=title,
            holds=None,
            measured="this run has no adapter: its weights were tuned in full",
        )
    base = load_weights(context.probe.base, dtype=getattr(torch, context.probe.dtype))
    adapted = PeftModel.from_pretrained(base.to(context.model.device), str(context.run.adapter))
    adapted.eval()
    gaps = [
        float(
            (whole_logits(context, adapted, sample) - whole_logits(context, context.model, sample))
            .abs()
            .max()
        )
        for sample in context.probe.samples
    ]
    return _finding(
        context,
        gaps,
        id="logits.adapter",
        title=title,
        advice="The adapter's keys do not fit this base, or the base is not the one that trained.",
    )


def whole_logits(
    context: VerifyContext,
    model: torch.nn.Module,
    sample: ProbeSample,
    columns: torch.Tensor | None = None,
) -> torch.Tensor:
    """Logits of one pass over the whole conversation: (num_columns, vocabulary) float32."""
    inputs = context.placed(context.training_inputs(sample), [sample])
    wanted = (sample.columns if columns is None else columns).to(inputs["input_ids"].device)
    with torch.no_grad():
        out = model(**inputs, logits_to_keep=wanted, use_cache=False)
    return out.logits[0].float().cpu()


def _finding(
    context: VerifyContext, gaps: list[float], *, id: str, title: str, advice: str
) -> Finding:
    worst = max(gaps)
    # Not a number is not within any tolerance.
    holds = worst <= context.logits_tolerance
    return Finding(
        id=id,
        title=title,
        holds=holds,
        measured=f"logits differ by {worst:.2g} at most, over {len(gaps)} samples",
        tolerance=f"{context.logits_tolerance:g}",
        figures={"largest_difference": worst, "per_sample": gaps},
        detail="" if holds else _where(context, gaps),
        advice="" if holds else advice,
    )


def _where(context: VerifyContext, gaps: list[float]) -> str:
    sample = context.probe.samples[gaps.index(max(gaps))]
    return f"largest at {sample.file}:{sample.line}"
