"""Joints from the records of a rehearsal: which failed, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from sightline.checks.joints import (
    TITLES,
    broken,
    checked_joints,
    data_joint,
    first_failed,
    in_order,
    loss_joint,
    packing_joint,
)


def _check(name: str, holds: bool | None, **others: Any) -> dict[str, Any]:
    return {
        "id": name,
        "holds": holds,
        "measured": f"{name} measured",
        "detail": "" if holds else f"{name} there",
        "advice": "" if holds else f"mend {name}",
        "figures": {},
    } | others


def _rehearsal(*losses: float, wrong: int = 0, **others: Any) -> dict[str, Any]:
    samples = [
        {"origin": f"a.jsonl:{n}", "kinds": ["image"], "loss": one, "num_wrong": wrong * n}
        | {"num_tokens": 10}
        for n, one in enumerate(losses)
    ]
    return {
        "samples": samples,
        "num_steps": 40,
        "rate_factor": 1.0,
        "loss_limit": 0.01,
        "is_learned": not wrong and max(losses) <= 0.01,
        "left_out": [],
        "losses": [4.0, 0.5],
    } | others


def test_a_joint_fails_with_the_first_of_its_checks_that_does() -> None:
    joints = {
        joint.id: joint
        for joint in checked_joints(
            [
                _check("plan.proof", True),
                _check("plan.gradients", False),
                _check("plan.movement", False),
            ]
        )
    }
    plan = joints["plan"]
    assert plan.state == "failed"
    assert plan.seen == "plan.gradients measured; plan.movement measured"
    assert plan.where == "plan.gradients there; plan.movement there"
    assert plan.advice == "mend plan.gradients"
    # A check that was not reached is no check that held.
    assert joints["cache"].state == "unseen"


def test_information_is_no_verdict() -> None:
    [merge] = [j for j in checked_joints([_check("logits.adapter", None)]) if j.id == "merge"]
    assert merge.state == "info"
    both = [_check("logits.adapter", None), _check("weights.frozen", True)]
    [merge] = [j for j in checked_joints(both) if j.id == "merge"]
    assert (merge.state, merge.seen) == ("ok", "weights.frozen measured")


def test_flat_training_is_told_at_positions() -> None:
    flat = _check("logits.merged", False, figures={"trained_flat": True})
    joints = in_order(checked_joints([_check("positions.same_as_training", True), flat]))
    first = first_failed(joints)
    assert first is not None
    assert (first.id, first.seen) == ("positions", "logits.merged measured")


def test_joints_stand_in_the_order_of_the_way() -> None:
    joints = in_order([broken("loss", "the loss is nan\nLower it."), broken("data", "gone")])
    assert [joint.id for joint in joints] == list(TITLES)
    first = first_failed(joints)
    assert first is not None
    assert first.id == "data"
    [loss] = [joint for joint in joints if joint.id == "loss"]
    assert (loss.seen, loss.advice) == ("the loss is nan", "Lower it.")
    one_line = broken("positions", "1-D positions at a:3. Take others.")
    assert (one_line.seen, one_line.advice) == ("1-D positions at a:3.", "Take others.")
    assert first_failed([packing_joint(None, is_packed=True)]) is None


@pytest.mark.parametrize(
    ("course", "advice"),
    [
        ([4.0, 0.5, 2.0], "Lower training.learning_rate."),
        ([4.0, 3.0, 2.9], "too little may move"),
        ([4.0, 1.0, 0.2], "--max-steps"),
        ([], "--max-steps"),
    ],
)
def test_what_a_loss_that_stays_says(course: list[float], advice: str) -> None:
    joint = loss_joint(_rehearsal(0.001, 2.0, wrong=3, losses=course), ["vision"], 0.5)
    assert joint.state == "failed"
    assert joint.seen.startswith("loss 2 at most, 3 of 20 answer tokens wrong; 40 steps")
    assert joint.where == "a.jsonl:1"
    assert "0.5 % of the weights train, in vision." in joint.advice
    assert advice in joint.advice


def test_a_loss_near_zero_says_at_which_rates() -> None:
    assert loss_joint(_rehearsal(0.001, 0.002), ["language"], 10).state == "ok"
    raised = loss_joint(_rehearsal(0.001, rate_factor=4.0), ["language"], 10)
    assert raised.seen.endswith("40 steps, rates x 4 at the end")
    unlooked = {"samples": [{"origin": "a", "kinds": []}]}
    assert loss_joint(unlooked, [], 0).state == "unseen"


def test_data_say_what_is_left_out() -> None:
    record = {"input": 9, "fates": {"kept": 6, "fitted": 1, "dropped": 0, "quarantined": 2}}
    joint = data_joint(record, _rehearsal(0.1, left_out=["video"]))
    assert joint.state == "ok"
    assert joint.seen == (
        "7 of 9 samples can be used; 1 rehearsed: image; 2 quarantined; not rehearsed: video; ask "
        "for more --samples"
    )
