"""The proof of a plan on the page."""

from __future__ import annotations

from typing import Any

from sightline.report.plan_proof import view_proof


def test_what_was_reached_and_what_moved(whole_maker: Any) -> None:
    view = view_proof(whole_maker.proof_record())
    assert view is not None
    assert view.holds
    assert view.title == (
        "What trains is what the plan says: 20 tensors reached, 69 frozen without a gradient"
    )
    row = next(one for one in view.rows if one.tower == "language")
    assert (row.tensors, row.reached, row.waiting, row.without) == (16, 8, 8, 0)
    assert (row.gradient, row.moved, row.is_short) == (50.0, "16", False)
    assert "After step 50, 20 of 20 tensors had moved." in view.words


def test_a_tensor_without_a_gradient_is_named(whole_maker: Any) -> None:
    view = view_proof(whole_maker.proof_record(fault="layers.0.q_proj"))
    assert view is not None
    assert not view.holds
    assert view.title == "Not proven: 1 tensor not as the plan says"
    assert view.faults[0]["name"] == "layers.0.q_proj"
    assert "Checkpointing with reentrant halts it." in view.words


def test_a_tensor_that_did_not_move_is_named(whole_maker: Any) -> None:
    record = whole_maker.proof_record()
    record["end"]["unmoved"] = ["merger.mlp.0.weight"]
    record["end"]["rows"][0]["num_moved"] = 3
    view = view_proof(record)
    assert view is not None
    assert not view.holds
    assert view.faults[0] == {"name": "merger.mlp.0.weight", "what": "has not moved"}
    assert [row.is_short for row in view.rows] == [True, False]


def test_a_run_that_did_not_end_says_so(whole_maker: Any) -> None:
    view = view_proof(whole_maker.proof_record() | {"end": None})
    assert view is not None
    assert "The run did not end: how far its weights moved over it is not known." in view.words
    assert view.rows[0].moved == "–"
    assert view_proof(None) is None
    assert view_proof({"before": None}) is None
