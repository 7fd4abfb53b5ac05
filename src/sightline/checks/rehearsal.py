"""What a rehearsal came to: its joints, from the records that it left."""

from __future__ import annotations

from typing import Any

from sightline.checks.joints import (
    Joint,
    checked_joints,
    data_joint,
    first_failed,
    in_order,
    loss_joint,
    packing_joint,
)
from sightline.checks.rehearsed_boxes import boxes_joint, written_boxes
from sightline.model import Checkpoint
from sightline.preparation import PlannedData
from sightline.records import RunDirectory, read_json


def rehearsal_record(
    run: RunDirectory,
    checkpoint: Checkpoint,
    rehearsed: PlannedData,
    everything: PlannedData,
    *,
    broken: Joint | None = None,
) -> dict[str, Any]:
    """The content of ``rehearsal.json``.

    Args:
        run: Directory of the rehearsal.
        checkpoint: The base with the run's settings.
        rehearsed: The samples of the rehearsal.
        everything: The training data of the run.
        broken: The joint at which it ended with an error.
    """
    state = run.read_state()
    facts = state["rehearsal"]
    joints = _joints(run, state, broken)
    if broken is None or broken.id != "data":
        predictions = read_json(run.predictions) if run.predictions.is_file() else None
        boxes = written_boxes(checkpoint, rehearsed, everything)
        joints.append(boxes_joint(boxes, predictions))
    ordered = in_order(joints)
    failed = first_failed(ordered)
    return {
        "schema": 1,
        "verdict": "holds" if failed is None else "fails",
        "failed_at": None if failed is None else failed.id,
        "joints": [joint.record() for joint in ordered],
        **facts,
    }


def _joints(run: RunDirectory, state: dict[str, Any], broken: Joint | None) -> list[Joint]:
    """What is known of every joint but the boxes; the one that broke goes last, and counts."""
    facts = state["rehearsal"]
    joints = [data_joint(state["data"], facts)]
    if run.plan.is_file():
        plan = read_json(run.plan)
        totals = plan["totals"]
        towers = dict.fromkeys(row["tower"] for row in plan["rows"] if row["num_trainable"])
        share = 100 * totals["num_trainable"] / totals["num_parameters"]
        joints.append(loss_joint(facts, list(towers), share))
    proof = state.get("packing")
    if proof is not None or facts["num_steps"]:
        joints.append(packing_joint(proof, is_packed=state["batches"]["packed"]))
    if run.certificate.is_file():
        joints += checked_joints(read_json(run.certificate)["checks"])
    return joints if broken is None else [*joints, broken]
