"""Samples known by heart: on every way that the export can be run, each token of each answer.

A model that predicts every token of an answer while it reads it also writes that answer: what it
is given at each step is then what it has read. So one pass over the conversation stands for
decoding without a cache.
"""

from __future__ import annotations

from typing import Any

import torch

from sightline.checks.context import VerifyContext
from sightline.checks.finding import Finding
from sightline.checks.forced import forced_logits
from sightline.checks.logits import whole_logits
from sightline.checks.plain import annotation
from sightline.evaluation import ProbeSample, answer_text


def known_by_heart(context: VerifyContext, adapted: Any | None) -> Finding:
    """Every token of every annotation is the most likely one, whatever computes it.

    Args:
        context: The run under verification.
        adapted: The base with the adapter on it; None where there is nothing besides the artefact.
    """
    ways = ["without the cache", "with the cache"] + ["through the adapter"] * (adapted is not None)
    wrong = dict.fromkeys(ways, 0)
    faults, num_tokens = [], 0
    for sample in context.probe.samples:
        forced, columns = forced_logits(context, sample)
        wanted = sample.input_ids[columns + 1]
        computed = {
            "with the cache": forced,
            "without the cache": whole_logits(context, context.model, sample, columns),
        }
        if adapted is not None:
            with context.mixed_precision():
                computed["through the adapter"] = whole_logits(context, adapted, sample, columns)
        num_tokens += len(wanted)
        for way, logits in computed.items():
            missed = (logits.argmax(-1) != wanted).nonzero().flatten()
            wrong[way] += len(missed)
            if len(missed):
                faults.append(_fault(context, sample, way, wanted, logits, int(missed[0])))
    told = ", ".join(f"{count} {way}" for way, count in wrong.items())
    return Finding(
        id="answers.memorised",
        title="Every token of the annotations is the most likely one",
        holds=not faults,
        measured=f"wrong of {num_tokens} answer tokens: {told}",
        tolerance="0 tokens",
        figures={"num_tokens": num_tokens, "num_wrong": wrong},
        detail="; ".join(faults[:2]),
        advice=""
        if not faults
        else "Where all ways fail alike the samples were not learned: train longer, or with a "
        "higher rate. Where one fails, it is that one: read the checks on logits.",
    )


def written_by_trained(context: VerifyContext) -> Finding:
    """The trained model wrote every annotation itself, before anything was merged or saved."""
    tokenizer, tokens = context.checkpoint.processor.tokenizer, context.checkpoint.family.tokens
    faults = []
    for sample in context.probe.samples:
        given, wanted = (
            answer_text(sample.answer_ids, tokenizer, tokens),
            annotation(sample.messages),
        )
        if given != wanted:
            faults.append(f"{sample.file}:{sample.line}: {given!r}, annotated {wanted!r}")
    total = len(context.probe.samples)
    return Finding(
        id="answers.trained",
        title="The trained model writes the annotations",
        holds=not faults,
        measured=f"{total - len(faults)} of {total} answers equal the annotation",
        tolerance=f"{total} of {total}",
        figures={"num_exact": total - len(faults), "num_samples": total},
        detail="; ".join(faults[:2]),
        advice=""
        if not faults
        else "Where the loss is near zero, generate does not see what training saw: positions, "
        "padding or the prompt. Where it is not, train longer, or with a higher rate.",
    )


def _fault(
    context: VerifyContext,
    sample: ProbeSample,
    way: str,
    wanted: torch.Tensor,
    logits: torch.Tensor,
    first: int,
) -> str:
    tokenizer = context.checkpoint.processor.tokenizer
    given, right = (tokenizer.decode([int(ids[first])]) for ids in (logits.argmax(-1), wanted))
    return f"{sample.file}:{sample.line}, {way}: {given!r} for {right!r}, token {first + 1}"
