"""The joints between data and a served model, and which of them held in a rehearsal.

The order is that of the way from a file to an answer. A fault at one joint often shows at later
ones too, so the first that fails is the one to mend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "failed", "info", "unseen"]

TITLES = {
    "data": "the samples are read, and fit",
    "pixels": "the saved processor prepares media as training did",
    "template": "token ids and labels are those of the chat template",
    "positions": "time, height and width are where training put them",
    "packing": "packed samples do not see each other",
    "plan": "what trains is what the plan says",
    "loss": "the samples are learned",
    "answers": "the trained model writes what it learned",
    "reload": "what was saved is loaded again, bit by bit",
    "merge": "merged is base plus adapter",
    "process": "a fresh process computes what training did",
    "cache": "with the cache as without it",
    "alone": "the exported model writes the annotations",
    "batch": "in a padded batch as alone",
    "boxes": "boxes are where the annotation has them",
}
"""Every joint, in order, with what holds when it holds."""

_CHECKS = {
    "pixels": ("preprocessing.settings", "preprocessing.pixels"),
    "template": ("tokens.same_ids", "tokens.labels"),
    "positions": ("positions.same_as_training",),
    "plan": ("plan.proof", "plan.gradients", "plan.movement"),
    "answers": ("answers.trained",),
    "reload": ("weights.bit_identical",),
    "merge": ("logits.adapter", "weights.frozen"),
    "process": ("logits.merged",),
    "cache": ("logits.cache", "answers.memorised"),
    "alone": ("answers.annotated", "answers.alone"),
    "batch": ("answers.batched",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Joint:
    """One joint of a rehearsal.

    Attributes:
        id: Its name, a key of `TITLES`.
        state: ``ok``; ``failed``; ``info`` where this run has no such joint; ``unseen`` where an
            earlier fault kept it from being looked at.
        seen: What was seen, with figures.
        where: Sample, file or weight; empty where there is nothing to add.
        advice: What to do; empty where it holds.
    """

    id: str
    state: State
    seen: str
    where: str = ""
    advice: str = ""

    @property
    def title(self) -> str:
        """What holds when it holds."""
        return TITLES[self.id]

    def record(self) -> dict[str, Any]:
        """The joint as it stands in ``rehearsal.json``."""
        return asdict(self) | {"title": self.title}


def checked_joints(checks: Sequence[Mapping[str, Any]]) -> list[Joint]:
    """The joints that the checks of a certificate are about.

    Args:
        checks: ``checks`` of ``certificate.json``; those that were not reached are missing.
    """
    by_id = {check["id"]: check for check in checks}
    joints = [
        _joint(name, [by_id[check] for check in wanted if check in by_id])
        for name, wanted in _CHECKS.items()
    ]
    if by_id.get("logits.merged", {}).get("figures", {}).get("trained_flat"):
        # Seen in the logits, but it is no fault of the fresh process.
        found = _joint("positions", [by_id["logits.merged"]])
        joints = [found if joint.id == "positions" else joint for joint in joints]
    return joints


def loss_joint(rehearsal: Mapping[str, Any], towers: Sequence[str], share: float) -> Joint:
    """Whether the samples were learned.

    Args:
        rehearsal: ``rehearsal`` of ``run.json``.
        towers: Towers of which something trains.
        share: Share of the weights that trains.
    """
    samples = [sample for sample in rehearsal["samples"] if "loss" in sample]
    if not samples:
        return unseen("loss")
    worst = max(samples, key=lambda sample: (sample["num_wrong"], sample["loss"]))
    tokens, wrong = (sum(one[key] for one in samples) for key in ("num_tokens", "num_wrong"))
    rates = rehearsal["rate_factor"]
    raised = f", rates x {rates:g} at the end" if rates != 1 else ""
    seen = (
        f"loss {max(one['loss'] for one in samples):.2g} at most, {wrong} of {tokens} answer "
        f"tokens wrong; {rehearsal['num_steps']} steps{raised}"
    )
    if rehearsal["is_learned"]:
        return Joint(id="loss", state="ok", seen=seen)
    return Joint(
        id="loss",
        state="failed",
        seen=f"{seen}; wanted: {rehearsal['loss_limit']:g}, none wrong",
        where=worst["origin"],
        advice=f"{share:.2g} % of the weights train, in {', '.join(towers) or 'no tower'}. "
        f"{_course(rehearsal['losses'])} Two samples that ask the same and are answered otherwise "
        "cannot both be learned.",
    )


def _course(losses: Sequence[float]) -> str:
    """What the course of the training loss says, in words."""
    if not losses:
        return "Allow more steps with --max-steps."
    first, lowest, last = losses[0], min(losses), losses[-1]
    told = f"The loss went from {first:.3g} to {lowest:.3g} at its lowest, and ended at {last:.3g}"
    if last > 2 * lowest or last > first:
        return f"{told}: the rate is too high. Lower training.learning_rate."
    if lowest > first / 2:
        return (
            f"{told}: too little may move, or not for long enough. Let more of the model train "
            "(sightline inspect model draws the plan), or allow more steps with --max-steps."
        )
    return f"{told}: it was on its way. Allow more steps with --max-steps."


def data_joint(record: Mapping[str, Any], rehearsal: Mapping[str, Any]) -> Joint:
    """What became of all samples of the run, and which were rehearsed.

    Args:
        record: ``data`` of ``run.json``.
        rehearsal: ``rehearsal`` of ``run.json``.
    """
    fates, samples = record["fates"], rehearsal["samples"]
    lost = {name: fates.get(name, 0) for name in ("dropped", "quarantined")}
    kinds = dict.fromkeys(kind for sample in samples for kind in sample["kinds"])
    seen = (
        f"{record['input'] - sum(lost.values())} of {record['input']} samples can be used; "
        f"{len(samples)} rehearsed: {', '.join(kinds)}"
    )
    told = [f"{count} {name}" for name, count in lost.items() if count]
    if rehearsal["left_out"]:
        told.append(f"not rehearsed: {', '.join(rehearsal['left_out'])}; ask for more --samples")
    return Joint(id="data", state="ok", seen="; ".join([seen, *told]))


def packing_joint(proof: Mapping[str, Any] | None, *, is_packed: bool) -> Joint:
    """What was proven of packed rows; where they are at fault, the training ended with it.

    Args:
        proof: ``packing`` of ``run.json``; None where no row had two samples.
        is_packed: Whether the run packs.
    """
    if proof is None:
        what = "no row had two of these samples" if is_packed else "this run does not pack"
        return Joint(id="packing", state="info", seen=what)
    return Joint(
        id="packing",
        state="ok",
        seen=f"a row of {len(proof['samples'])} samples: logits differ by "
        f"{proof['largest_share']:.1g} of their spread from each sample alone",
    )


def broken(name: str, message: str) -> Joint:
    """A joint at which the rehearsal ended with an error.

    Args:
        name: The joint.
        message: The error: what disagrees, and below it, or in its last sentence, what to do.
    """
    seen, _, advice = message.partition("\n")
    if not advice:
        first, dot, advice = message.rpartition(". ")
        seen = f"{first}." if dot else message
        advice = advice if dot else "Mend that, and rehearse again."
    return Joint(id=name, state="failed", seen=seen, advice=advice)


def unseen(name: str) -> Joint:
    """A joint that was not looked at."""
    return Joint(id=name, state="unseen", seen="not looked at, for what failed above")


def in_order(joints: Sequence[Joint]) -> list[Joint]:
    """All joints in their order; those that are missing were not looked at."""
    by_id = {joint.id: joint for joint in joints}
    return [by_id.get(name) or unseen(name) for name in TITLES]


def first_failed(joints: Sequence[Joint]) -> Joint | None:
    """The first joint that failed; None where all hold."""
    return next((joint for joint in joints if joint.state == "failed"), None)


def _joint(name: str, checks: Sequence[Mapping[str, Any]]) -> Joint:
    """A joint from the checks that are about it."""
    failed = [check for check in checks if check["holds"] is False]
    judged = failed or [check for check in checks if check["holds"] is True]
    if not checks:
        return unseen(name)
    if failed:
        details = dict.fromkeys(check["detail"] for check in failed if check["detail"])
        return Joint(
            id=name,
            state="failed",
            seen="; ".join(check["measured"] for check in failed),
            where="; ".join(details),
            advice=failed[0]["advice"],
        )
    if not judged:
        return Joint(id=name, state="info", seen="; ".join(check["measured"] for check in checks))
    return Joint(id=name, state="ok", seen="; ".join(check["measured"] for check in judged))
