"""What is said of two verifications, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.checks.against import Change, Earlier, changes, same_answers, same_artefact
from sightline.errors import VerifyError


def certificate(**changed: Any) -> dict[str, Any]:
    return {
        "weights": {"sha256": "aa", "num_tensors": 2},
        "data": "dd",
        "versions": {"torch": "2.11", "peft": "0.19"},
        "machine": {"device": "cpu"},
        "checks": [{"id": "logits.cache", "holds": True}, {"id": "plan.proof", "holds": None}],
    } | changed


def answers(*given: str) -> dict[str, Any]:
    rows = [
        {"index": index, "file": "a.jsonl", "line": index + 1, "answer": answer}
        for index, answer in enumerate(given)
    ]
    return {"samples": rows}


def test_nothing_changed() -> None:
    assert changes(certificate(), certificate()) == []
    assert same_artefact(certificate(), certificate()).holds is True
    found = same_answers(answers("a", "b"), answers("a", "b"))
    assert (found.holds, found.measured) == (True, "2 of 2 equal")


def test_versions_machine_and_outcomes_are_told() -> None:
    now = certificate(
        versions={"torch": "2.15", "peft": "0.19", "av": "17"},
        machine={"device": "cuda"},
        checks=[{"id": "logits.cache", "holds": False}, {"id": "merge.rounding", "holds": True}],
    )
    assert changes(certificate(), now) == [
        Change("torch", "2.11", "2.15"),
        Change("device", "cpu", "cuda"),
        Change("logits.cache", "holds", "fails"),
        Change("plan.proof", "info", ""),
        Change("av", "", "17"),
        Change("merge.rounding", "", "holds"),
    ]


@pytest.mark.parametrize(
    ("changed", "measured"),
    [
        ({"weights": {"sha256": "bb", "num_tensors": 2}}, "weights differs"),
        ({"data": "ee"}, "data differs"),
        ({"data": "ee", "weights": {"sha256": "bb"}}, "weights and data differ"),
    ],
)
def test_another_model_is_no_repetition(changed: dict[str, Any], measured: str) -> None:
    found = same_artefact(certificate(), certificate(**changed))
    assert (found.holds, found.measured) == (False, measured)
    assert found.advice


def test_what_an_older_certificate_does_not_tell_is_not_judged() -> None:
    old = certificate()
    del old["weights"], old["data"]
    assert same_artefact(old, certificate()).holds is None
    del (half := certificate())["weights"]
    found = same_artefact(half, certificate())
    assert found.holds is True
    assert found.measured == ("nothing differs; the earlier certificate does not tell weights")


def test_other_answers_are_shown() -> None:
    found = same_answers(answers("a", "b", "c"), answers("a", "x"))
    assert (found.holds, found.measured) == (False, "1 of 2 equal")
    assert found.detail == "a.jsonl:2: 'x', earlier 'b'"
    assert same_answers(None, answers("a")).holds is None
    assert same_answers(answers("a"), None).measured == "no answers were made here"
    assert same_answers(answers(), answers("a")).holds is None


def test_a_folder_without_a_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match="no certificate to compare with"):
        Earlier.read(tmp_path)
    (tmp_path / "certificate.json").write_text("[]")
    with pytest.raises(VerifyError, match="no certificate of Sightline"):
        Earlier.read(tmp_path)
    (tmp_path / "certificate.json").write_text(json.dumps(certificate()))
    assert Earlier.read(tmp_path) == (certificate(), None)
