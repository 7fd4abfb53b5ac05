"""How far a run is, in words: while it is waited for, trains, was stopped, failed, or is proven."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.report.facts import verdict_of
from sightline.report.quantities import count_text, plural
from sightline.report.run import RunRecords

_BROKEN = "values.non_finite"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """The state of a run.

    Attributes:
        kind: ``waiting``, ``going``, ``stopped``, ``trained``, ``holds`` or ``fails``.
        title: The state in one line.
        detail: What it rests on, or what comes next.
        quiet: What to say, and to do, where nothing was written for long; empty where nothing
            more is expected.
        failing: Checks of the certificate that fail.
    """

    kind: str
    title: str
    detail: str
    quiet: str = ""
    failing: tuple[Mapping[str, Any], ...] = ()


def waiting_state(name: str) -> RunState:
    """Of a run of which nothing is there yet.

    Args:
        name: What was asked for.
    """
    return RunState(
        kind="waiting",
        title="Waiting for the run",
        detail=f"{name} is not there yet. A run writes its first record when its data are read "
        "and its model is loaded.",
    )


def run_state(run: RunRecords, *, step: int, at_work: bool | None = None) -> RunState:
    """The state of a run, from its records.

    Args:
        run: The records; its metrics are not looked at.
        step: The last step that was logged; 0 where none was.
        at_work: Whether a process trains it; None where that is not known.
    """
    if run.certificate is not None:
        verdict = verdict_of(run)
        kind = "holds" if verdict.kind == "holds" else "fails"
        return RunState(
            kind=kind, title=verdict.title, detail=verdict.detail, failing=verdict.failing
        )
    state = run.state.get("state")
    if state == "stopped":
        steps = int(run.state.get("steps") or step)
        return RunState(
            kind="stopped",
            title=f"Stopped after step {count_text(steps)}",
            detail=f"A checkpoint is saved. Go on with: sightline resume {run.typed}",
        )
    if state == "training":
        failed = _broken(run.alarms, step) or _disproved(run.proof)
        return failed or (_ended(run, step) if at_work is False else _going(run, step))
    return _trained(run)


def num_steps_of(run: RunRecords) -> int | None:
    """Optimizer steps of the whole run, or None where they are not planned yet."""
    return ((run.plan or {}).get("schedule") or {}).get("num_steps")


def _going(run: RunRecords, step: int) -> RunState:
    quiet = (
        "It may be at work on something long, or its process has ended. "
        f"If it has, go on with: sightline resume {run.typed}"
    )
    if not step:
        return RunState(
            kind="going",
            title="Preparing",
            detail="The model is loaded; no step is logged yet.",
            quiet=quiet,
        )
    num_steps = num_steps_of(run)
    if num_steps and step >= num_steps:
        return RunState(
            kind="going",
            title="The last step is done",
            detail="What was trained is being saved and exported.",
            quiet=quiet,
        )
    of_all = f" of {count_text(num_steps)}" if num_steps else ""
    return RunState(
        kind="going", title=f"Training: step {count_text(step)}{of_all}", detail="", quiet=quiet
    )


def _ended(run: RunRecords, step: int) -> RunState:
    """Of a run whose process is gone, killed or failed, before the run was over."""
    return RunState(
        kind="stopped",
        title=f"Ended after step {count_text(step)}" if step else "Ended before its first step",
        detail="Its process is gone. Why stands in its terminal, or in logs/ where there were "
        f"several. Go on from the newest checkpoint: sightline resume {run.typed}",
    )


def _broken(alarms: Sequence[Mapping[str, Any]], step: int) -> RunState | None:
    """Of a run that ended because a value was not finite; one that went on is past its step."""
    if not alarms or alarms[-1].get("id") != _BROKEN or alarms[-1]["step"] <= step:
        return None
    last = alarms[-1]
    return RunState(
        kind="fails",
        title=f"Failed at step {count_text(last['step'])}: a value is not finite",
        detail=f"{last['seen']}. {last['cause']} {last['remedy']}",
    )


def _disproved(proof: Mapping[str, Any] | None) -> RunState | None:
    """Of a run that ended because something else trains than its plan says."""
    if proof is None:
        return None
    before = proof.get("before") or {}
    if before.get("faults"):
        faults = before["faults"]
        return RunState(
            kind="fails",
            title="Failed before its first step: what trains is not what the plan says",
            detail=f"{plural(len(faults), 'fault')}, the first in {faults[0].get('name')}. "
            f"{before.get('cause') or ''}".strip(),
        )
    ends = [*(proof.get("stages") or ()), *([proof["end"]] if proof.get("end") else ())]
    for end in ends:
        if end.get("unmoved"):
            return RunState(
                kind="fails",
                title=f"Failed at step {count_text(end['step'])}: what should train did not move",
                detail=f"{plural(len(end['unmoved']), 'tensor')}, the first {end['unmoved'][0]}.",
            )
    return None


def _trained(run: RunRecords) -> RunState:
    if (run.config.get("verify") or {}).get("enabled") is False:
        return RunState(
            kind="trained",
            title="Trained and exported; not verified",
            detail=f"verify.enabled is false. Prove it: sightline verify {run.typed}",
        )
    return RunState(
        kind="trained",
        title="Trained and exported; no verdict yet",
        detail="The exported model is being loaded afresh and compared. If nothing does that: "
        f"sightline verify {run.typed}",
    )
