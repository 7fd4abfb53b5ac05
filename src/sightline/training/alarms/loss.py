"""Alarms about the loss."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from sightline.training.alarms.record import Alarm, History, Look, RunFacts

GUESSING_SHARE = 0.9
"""Share of ln(vocabulary), the loss of guessing, from which a start is as good as guessing."""

IMPLAUSIBLE_SHARE = 0.5
"""Share of ln(vocabulary) that no pre-trained model starts at on text it can read: 6 nats for
150,000 tokens, where unusual text costs a language model 3 to 4."""

LEAST_FALL = 0.03
"""A loss that fell by less, as a share of its start, did not fall."""

SLOW_FALL = 0.005
"""A fall beyond its noise that is over this, times the number of the look, is slow, but a fall."""

CLEAR_FALL = 0.10
"""A loss that once fell by as much is not looked at again, whatever its noise."""

LOWEST_PLAUSIBLE_LOSS = 0.02
"""Nats a token; a run that starts lower has nothing left to learn and need not fall."""

RISING_SHARE = 0.05
"""How far the validation loss is over its best."""

RISING_EVALUATIONS = 2
"""Evaluations in a row: one may be noise where little is held out."""


def abnormal_start(history: History, facts: RunFacts) -> Iterator[Alarm]:
    """The loss of the very first step is not that of a pre-trained model."""
    if facts.is_random or not history.lines or history.lines[0]["step"] != 1:
        return
    loss, guessing = history.lines[0]["loss"], math.log(facts.vocabulary)
    if loss < IMPLAUSIBLE_SHARE * guessing:
        return
    worse = "as good as guessing" if loss >= GUESSING_SHARE * guessing else "too high"
    yield Alarm(
        id="loss.abnormal_start",
        step=1,
        seen=f"the loss of the first step is {loss:.3g}, {worse} for a pre-trained model: guessing "
        f"among {facts.vocabulary:,} tokens is {guessing:.3g}",
        cause="The samples do not look as they did in pre-training: positions, chat template, "
        "placement of pictures or the space of box coordinates differ; or the weights are not "
        "those of the checkpoint.",
        remedy="Stop, and look at what the model sees: sightline preview and sightline check on "
        "this configuration, sightline doctor for positions.",
    )


def loss_not_falling(history: History, facts: RunFacts) -> Iterator[Alarm]:
    """The loss is where it began, and its noise is too small to hide a fall."""
    for number, look in enumerate(history.looks, start=1):
        if look.start < LOWEST_PLAUSIBLE_LOSS or _fell(look):
            return
        is_warm = history.lines[look.size // 2]["step"] > facts.warmup_steps
        falls_slowly = look.fall >= number * SLOW_FALL and look.fall > look.noise
        if is_warm and look.fall + look.noise < LEAST_FALL and not falls_slowly:
            break
    else:
        return
    step = history.lines[look.size - 1]["step"]
    yield Alarm(
        id="loss.not_falling",
        step=step,
        seen=f"the loss does not fall: {look.start:.4g} at the start, {look.now:.4g} at step "
        f"{step} (means of {look.size // 4} logged losses)",
        cause=_why_not_falling(facts, rose=look.fall < -CLEAR_FALL),
        remedy="Look at what trains: sightline inspect model. Raise training.learning_rate "
        "tenfold; where the loss rises or jumps about, lower it tenfold. If that changes nothing, "
        "let more of the model train.",
    )


def _fell(look: Look) -> bool:
    """Whether the loss fell for certain: by much, or by three standard errors."""
    return look.fall >= CLEAR_FALL or look.fall >= max(LEAST_FALL, 1.5 * look.noise)


def _why_not_falling(facts: RunFacts, *, rose: bool) -> str:
    rate = f"the learning rate, {facts.learning_rate:.3g} at its peak,"
    if rose:
        return f"The loss rises: {rate} is too high."
    everything = frozenset[str]().union(*facts.towers)
    frozen = [t for t in ("vision", "projector", "language") if t not in everything]
    names = f", and {' and '.join(frozen)} never train{'s' * (len(frozen) == 1)}" if frozen else ""
    return (
        f"Too little may move: {facts.trainable_share:.2%} of the weights train{names}. Or {rate} "
        "is too low, or so high that nothing is learned."
    )


def nothing_supervised(history: History, facts: RunFacts) -> Iterator[Alarm]:
    """A step whose samples have no token with a loss."""
    if not history.lines or history.lines[-1].get("supervised_tokens", 1):
        return
    line = history.lines[-1]
    yield Alarm(
        id="loss.nothing_supervised",
        step=line["step"],
        seen=f"a step up to step {line['step']} has no supervised token: its loss is 0 and it "
        "teaches nothing",
        cause="The answers of its samples were cut away or have no loss: cut at the length, a "
        "role that is not the assistant's, or an empty answer.",
        remedy="sightline check lists samples without a loss with file and line; raise "
        "data.max_length or mend them.",
    )


def validation_rising(history: History, facts: RunFacts) -> Iterator[Alarm]:
    """The validation loss turned up while the training loss goes on falling."""
    evaluations = history.evaluations
    if len(evaluations) <= RISING_EVALUATIONS:
        return
    recent = evaluations[-RISING_EVALUATIONS:]
    best = min(evaluations[:-RISING_EVALUATIONS], key=lambda line: line["eval_loss"])
    limit = best["eval_loss"] * (1 + RISING_SHARE)
    if any(line["eval_loss"] <= limit for line in recent):
        return
    last = recent[-1]
    before, now = (_training_loss(history, line["step"]) for line in (best, last))
    if before is None or now is None or now >= before:
        return
    yield Alarm(
        id="validation.rising",
        step=last["step"],
        seen=f"the validation loss is {last['eval_loss']:.4g}, "
        f"{last['eval_loss'] / best['eval_loss'] - 1:.0%} over its best, {best['eval_loss']:.4g} "
        f"at step {best['step']}; the training loss fell from {before:.4g} to {now:.4g}",
        cause="The model learns the training data by heart.",
        remedy=f"Use the checkpoint nearest to step {best['step']}, or train to there "
        "(training.max_steps); more data, a lower rank or rate, or dropout push the turn back.",
    )


def _training_loss(history: History, step: int) -> float | None:
    """Mean training loss between the evaluation before a step and that at the step."""
    before = max((line["step"] for line in history.evaluations if line["step"] < step), default=0)
    # From the back: a history may be long, and what is asked for is near its end.
    losses = []
    for line in reversed(history.lines):
        if line["step"] <= before:
            break
        if line["step"] <= step:
            losses.append(line["loss"])
    return statistics.fmean(losses) if losses else None
