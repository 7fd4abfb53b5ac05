"""The plan: gradients of one real batch, gradients of the run, and how far it moved."""

from __future__ import annotations

from typing import Any

from sightline.checks.context import VerifyContext
from sightline.checks.finding import Finding
from sightline.records import read_json

_BEFORE = "One real batch gave gradients to what trains, and to nothing else"
_REACHED = "Every trainable tensor got a gradient"
_MOVED = "Everything that trained has moved"


def gradients_before(context: VerifyContext) -> Finding:
    """Before the first step, a real batch reached what the plan trains, and nothing else."""
    proof = _proof(context).get("before")
    if proof is None:
        return _not_measured("plan.proof", _BEFORE)
    tensors = sum(row["num_tensors"] for row in proof["rows"])
    waiting = sum(row["num_waiting"] for row in proof["rows"])
    faults = proof["faults"]
    return Finding(
        id="plan.proof",
        title=_BEFORE,
        holds=not faults and tensors > 0,
        measured=f"{len(faults)} of {tensors + proof['num_frozen']} tensors differ from the plan",
        tolerance="0 tensors",
        figures={
            "num_trainable_tensors": tensors,
            "num_frozen_tensors": proof["num_frozen"],
            "num_waiting_for_partner": waiting,
            "num_differing": len(faults),
            "checkpointing": proof["checkpointing"],
        },
        detail=", ".join(fault["name"] for fault in faults[:3]),
        advice=proof["cause"],
    )


def gradients_reached(context: VerifyContext) -> Finding:
    """Every tensor that the plan trains got a gradient at least once."""
    missed, watched = context.probe.without_gradient, context.probe.num_watched
    if watched == 0:
        return _not_measured("plan.gradients", _REACHED)
    return Finding(
        id="plan.gradients",
        title=_REACHED,
        holds=not missed,
        measured=f"{len(missed)} of {watched} trainable tensors got none",
        tolerance="0 tensors",
        figures={"num_trainable_tensors": watched, "num_without_gradient": len(missed)},
        detail=", ".join(missed[:3]),
        advice=""
        if not missed
        else "Freeze what cannot learn from this data (a vision tower without pictures), or add "
        "data that reaches it.",
    )


def weights_moved(context: VerifyContext) -> Finding:
    """At the end, every tensor of the stages that began is another than at the start."""
    end = _proof(context).get("end")
    if end is None:
        return _not_measured("plan.movement", _MOVED)
    rows, unmoved = end["rows"], end["unmoved"]
    tensors = sum(row["num_tensors"] for row in rows)
    # The largest of its blocks stands for a tower: a mean would hide one that ran away.
    largest: dict[str, float] = {}
    for row in rows:
        largest[row["tower"]] = max(largest.get(row["tower"], 0.0), row["change"])
    told = ", ".join(f"{tower} by up to {_percent(change)}" for tower, change in largest.items())
    return Finding(
        id="plan.movement",
        title=_MOVED,
        holds=not unmoved and tensors > 0,
        measured=f"{len(unmoved)} of {tensors} tensors did not move; {told or 'nothing else did'}",
        tolerance="0 tensors",
        figures={"num_tensors": tensors, "num_unmoved": len(unmoved), "change": largest},
        detail=", ".join(unmoved[:3]),
        advice=""
        if not unmoved
        else "Its learning rate is too low to move a value in float32, or it met no sample that "
        "reaches it. Raise the rate, or freeze it.",
    )


def _percent(share: float) -> str:
    """A share as text: two digits, and no power of ten for a weight that more than doubled."""
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def _proof(context: VerifyContext) -> dict[str, Any]:
    proof = context.run.proof
    return read_json(proof) if proof.is_file() else {}


def _not_measured(name: str, title: str) -> Finding:
    return Finding(
        id=name,
        title=title,
        holds=None,
        measured="not measured: the run was resumed after its last step",
    )
