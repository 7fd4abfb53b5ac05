"""Alarms about the gradients of a tower."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from sightline.training.alarms.record import Alarm, History, RunFacts

ZERO_LINES = 3
"""Logged lines in a row without a gradient in a tower, each on a step that needs one: a step may
meet rounding to zero once."""

EXPLODING_FACTOR = 100.0
"""A tower's norm over its own median: sound runs stay under 30 even from batch to batch."""

EXPLODING_START_FACTOR = 10.0
"""Its norm over the largest of its first lines: gradients are large at the start of sound runs."""

EXPLODING_LINES = 2
"""Lines in a row: one strange sample makes one large gradient, which clipping takes care of."""

EXPLODING_MEDIAN_LINES, EXPLODING_FIRST_LINES = 200, 10

# Only these towers have no gradient in a step without pictures, and rightly so.
_SEEING = ("vision", "projector")


def zero_gradients(history: History, facts: RunFacts) -> Iterator[Alarm]:
    """A tower that should train gets no gradient while others do."""
    recent = history.lines[-ZERO_LINES:]
    stages = {line.get("stage", 1) for line in recent}
    if len(recent) < ZERO_LINES or len(stages) > 1:
        return
    for tower in sorted(facts.trains(stages.pop())):
        if not all(_lacks_gradient(line, tower) for line in recent):
            continue
        others = recent[-1]["grad_norm_by_tower"]
        told = ", ".join(f"{name} {norm:.2g}" for name, norm in others.items() if name != tower)
        yield Alarm(
            id="gradient.zero",
            tower=tower,
            step=recent[-1]["step"],
            seen=f"{tower} has no gradient in {ZERO_LINES} logged steps in a row; {told} do",
            cause="The backward pass does not reach it: its output is not used, it is cut off by "
            "a detached tensor or by reentrant checkpointing, or its gradients round to zero.",
            remedy=f"sightline check --probe names the tensors. Freeze {tower} if it should not "
            "train; with training.precision bf16, try fp32.",
        )


def _lacks_gradient(line: Mapping[str, Any], tower: str) -> bool:
    norms = line.get("grad_norm_by_tower")
    if not norms or (tower in _SEEING and not line.get("media")):
        return False
    # A tower that owns no weight has no norm: a head that is tied to the token embedding.
    return norms.get(tower) == 0 and any(norms.values())


def exploding_gradients(history: History, facts: RunFacts) -> Iterator[Alarm]:
    """The gradients of a tower are far above what is usual for it."""
    towers = history.lines[-1].get("grad_norm_by_tower", {}) if history.lines else {}
    exploding = {tower: ratio for tower in towers if (ratio := _explosion(history, tower))}
    for tower, (norm, usual) in exploding.items():
        calm = [name for name in towers if name not in exploding]
        others = f"{' and '.join(calm)} not" if calm else "as in every tower that trains"
        yield Alarm(
            id="gradient.exploding",
            tower=tower,
            step=history.lines[-1]["step"],
            seen=f"the gradient norm of {tower} is {norm:.3g}, {norm / usual:.0f} times its usual "
            f"{usual:.3g}; {others}",
            cause=f"The learning rate of {tower} is too high for it, or its inputs went out of "
            "range."
            if calm
            else "The run diverges: the learning rate is too high.",
            remedy=f"Lower tuning.{tower}.learning_rate tenfold and go on from the last checkpoint "
            "before this step; clipping (training.max_grad_norm) hides it but does not mend it.",
        )


def _explosion(history: History, tower: str) -> tuple[float, float] | None:
    """The norm and the usual one of a tower that explodes."""
    last = [_norm(line, tower) for line in history.lines[-EXPLODING_LINES:]]
    first = [_norm(line, tower) for line in history.lines[:EXPLODING_FIRST_LINES]]
    limit = EXPLODING_START_FACTOR * max(first, default=0.0)
    if any(norm < limit for norm in last):
        # Nearly always: the lines for the median need not be looked at.
        return None
    reach = EXPLODING_MEDIAN_LINES + EXPLODING_LINES
    norms = [_norm(line, tower) for line in history.lines[-reach:-EXPLODING_LINES]]
    known = [norm for norm in norms if norm > 0]
    if len(known) < EXPLODING_FIRST_LINES:
        return None
    usual = statistics.median(known)
    if all(norm >= EXPLODING_FACTOR * usual for norm in last):
        return last[-1], usual
    return None


def _norm(line: Mapping[str, Any], tower: str) -> float:
    return line.get("grad_norm_by_tower", {}).get(tower, 0.0)
