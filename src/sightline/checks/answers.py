"""Answers: greedy, alone and in a padded batch, against the training process and the data."""

from __future__ import annotations

from sightline.checks.context import VerifyContext, flat_positions
from sightline.checks.finding import Finding
from sightline.checks.forced import forced_logits
from sightline.checks.plain import annotation, before_last_answer
from sightline.evaluation import Answer, ProbeSample, answer_text, greedy, same_answer


def alone(context: VerifyContext, given: list[Answer]) -> Finding:
    """Answers of the exported model equal those of the trained model before merging."""
    return _compare(
        context,
        given,
        [sample.trained_answer for sample in context.probe.samples],
        id="answers.alone",
        title="Answers equal those of the trained model",
        other="trained model",
        advice="The exported model does not answer like the model that trained.",
    )


def batched(context: VerifyContext, given: list[Answer]) -> Finding:
    """Answers in one batch padded on the left equal the answers alone."""
    return _compare(
        context,
        answer_batch(context, context.probe.samples),
        given,
        id="answers.batched",
        title="Answers in a left-padded batch equal the answers alone",
        other="alone",
        advice="Padding changes the model's view of a sample.",
    )


def annotated(context: VerifyContext, given: list[Answer]) -> Finding:
    """Answers equal the annotation wherever the model knows it word by word.

    A model that predicts every token of an annotation when it is read to must also write it.
    Where it does not, training and inference see different things.
    """
    faults, learned, exact = [], 0, 0
    memorised = context.config.verify.answers == "memorised"
    for sample, answer in zip(context.probe.samples, words(context, given), strict=True):
        wanted = annotation(sample.messages)
        knows = _knows(context, sample)
        learned += knows
        exact += answer == wanted
        if (knows or memorised) and answer != wanted:
            faults.append(f"{sample.file}:{sample.line}: {answer!r}, annotated {wanted!r}")
    total = len(context.probe.samples)
    return Finding(
        id="answers.annotated",
        title="Answers equal the annotation"
        if memorised
        else "What the model learned word by word, it writes",
        holds=not faults,
        measured=f"{exact} of {total} answers equal the annotation; {learned} of {total} are "
        "known word by word",
        tolerance=f"{total} of {total}" if memorised else "every known answer",
        figures={"num_exact": exact, "num_known": learned, "num_samples": total},
        detail="; ".join(faults[:2]),
        advice=""
        if not faults
        else "A loss near zero with wrong answers: inference does not see what training saw. "
        "Read the checks on positions and logits above."
        if learned
        else "The model did not learn these samples: train longer, or with a higher rate.",
    )


def answer_each(context: VerifyContext, *, one_dimensional: bool = False) -> list[Answer]:
    """Greedy answers of the probe samples, one call each.

    Args:
        context: The run under verification.
        one_dimensional: Serve with 1-D positions instead, as a stack does that never learned of
            the pictures' grids. The control: a trained model must not survive this.
    """
    return [
        answer_batch(context, [sample], one_dimensional=one_dimensional)[0]
        for sample in context.probe.samples
    ]


def answer_batch(
    context: VerifyContext, samples: list[ProbeSample], *, one_dimensional: bool = False
) -> list[Answer]:
    """Greedy answers of probe samples in one call, padded on the left."""
    processor = context.checkpoint.processor
    inputs = context.on_device(
        context.plain_inputs(
            [before_last_answer(sample.messages) for sample in samples],
            generation_prompt=True,
        )
    )
    return greedy(
        context.model,
        flat_positions(inputs) if one_dimensional else context.placed(inputs, samples),
        tokenizer=processor.tokenizer,
        tokens=context.checkpoint.family.tokens,
        max_new_tokens=[sample.max_new_tokens for sample in samples],
    )


def words(context: VerifyContext, given: list[Answer]) -> list[str]:
    """Answers as text."""
    tokenizer, tokens = context.checkpoint.processor.tokenizer, context.checkpoint.family.tokens
    return [answer_text(answer.ids, tokenizer, tokens) for answer in given]


def _knows(context: VerifyContext, sample: ProbeSample) -> bool:
    logits, columns = forced_logits(context, sample)
    wanted = sample.input_ids[columns + 1]
    return bool((logits.argmax(-1) == wanted).all())


def _compare(
    context: VerifyContext,
    first: list[Answer],
    second: list[Answer],
    *,
    id: str,
    title: str,
    other: str,
    advice: str,
) -> Finding:
    tolerance = context.logits_tolerance
    rows = list(zip(context.probe.samples, first, second, strict=True))
    ties = sum(one.ids != two.ids and same_answer(one, two, tolerance) for _, one, two in rows)
    faults = []
    for sample, one, two in rows:
        if not same_answer(one, two, tolerance):
            here, there = words(context, [one, two])
            faults.append(f"{sample.file}:{sample.line}: {here!r}, {other} {there!r}")
    equal = len(rows) - len(faults) - ties
    tied = f", {ties} part at a tie of two logits" if ties else ""
    return Finding(
        id=id,
        title=title,
        holds=not faults,
        measured=f"{equal} of {len(rows)} equal{tied}",
        tolerance=f"{len(rows)} of {len(rows)}",
        figures={"num_equal": equal, "num_ties": ties, "num_samples": len(rows)},
        detail="; ".join(faults[:2]),
        advice=advice if faults else "",
    )
