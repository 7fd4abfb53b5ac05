"""Token ids and labels of training against plain transformers."""

from __future__ import annotations

from sightline.checks.context import VerifyContext
from sightline.checks.finding import Finding
from sightline.data import IGNORE_INDEX
from sightline.evaluation import ProbeSample


def same_ids(context: VerifyContext) -> Finding:
    """Every probe sample has the ids that the saved processor makes of it."""
    faults = []
    for sample in context.probe.samples:
        made = context.trimmed(sample)["input_ids"][0]
        if made.shape != sample.input_ids.shape or bool((made != sample.input_ids).any()):
            faults.append(f"{_where(sample)}: {len(made)} ids, trained on {len(sample.input_ids)}")
    return Finding(
        id="tokens.same_ids",
        title="Token ids equal those of plain transformers",
        holds=not faults,
        measured=f"{len(faults)} of {len(context.probe.samples)} samples differ",
        tolerance="0 samples",
        figures={"num_samples": len(context.probe.samples), "num_differing": len(faults)},
        detail="; ".join(faults[:3]),
        advice=""
        if not faults
        else "The chat template, the tokenizer or the pixel budget in merged/ is not the one that "
        "trained. Export again.",
    )


def labels_on_answers(context: VerifyContext) -> Finding:
    """Labels stand on answers and their closing token only, never on a vision token."""
    tokenizer, tokens = context.checkpoint.processor.tokenizer, context.checkpoint.family.tokens
    closing = tokenizer.convert_tokens_to_ids(tokens.turn_end)
    forbidden = set(
        tokenizer.convert_tokens_to_ids(
            [token for token in tokens.structural() if token != tokens.turn_end]
        )
    )
    faults = []
    for sample in context.probe.samples:
        labels = sample.labels.tolist()
        runs = sum(1 for token in labels if token == closing)
        answers = sum(1 for turn in sample.messages if turn["role"] == "assistant")
        if runs != answers:
            faults.append(f"{_where(sample)}: {runs} closing tokens for {answers} answers")
        elif any(token in forbidden for token in labels if token != IGNORE_INDEX):
            faults.append(f"{_where(sample)}: a label on a vision or control token")
    return Finding(
        id="tokens.labels",
        title="Labels cover answers and their closing token, nothing else",
        holds=not faults,
        measured=f"{len(faults)} of {len(context.probe.samples)} samples at fault",
        tolerance="0 samples",
        figures={"num_differing": len(faults)},
        detail="; ".join(faults[:3]),
        advice="" if not faults else "Train again; the labels of this run were wrong.",
    )


def _where(sample: ProbeSample) -> str:
    return f"{sample.file}:{sample.line}"
