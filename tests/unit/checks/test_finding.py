"""A finding and the verdict over all of them."""

from __future__ import annotations

import pytest

from sightline.checks.finding import Finding, verdict


def _finding(holds: bool | None) -> Finding:
    return Finding(id="room.fault", title="It holds", holds=holds, measured="0 of 1")


@pytest.mark.parametrize(
    ("holds", "expected"),
    [
        ([True], "holds"),
        ([True, True, None], "holds"),
        ([True, False], "fails"),
        ([False], "fails"),
        ([None, False, True], "fails"),
        ([], "fails"),
        ([None, None], "fails"),
    ],
)
def test_the_verdict_needs_a_check_that_judges_and_none_that_fails(
    holds: list[bool | None], expected: str
) -> None:
    assert verdict([_finding(value) for value in holds]) == expected


@pytest.mark.parametrize(("holds", "severity"), [(True, "error"), (False, "error"), (None, "info")])
def test_a_record_has_every_field_and_its_severity(holds: bool | None, severity: str) -> None:
    finding = Finding(
        id="logits.merged",
        title="It holds",
        holds=holds,
        measured="1e-5",
        tolerance="1e-3",
        figures={"largest_difference": 1e-5},
        detail="a.jsonl:1",
        advice="Look.",
    )
    assert finding.record() == {
        "id": "logits.merged",
        "title": "It holds",
        "holds": holds,
        "measured": "1e-5",
        "tolerance": "1e-3",
        "figures": {"largest_difference": 1e-5},
        "detail": "a.jsonl:1",
        "advice": "Look.",
        "severity": severity,
    }


def test_a_record_of_little_is_whole() -> None:
    record = _finding(True).record()
    assert (record["tolerance"], record["figures"], record["detail"], record["advice"]) == (
        "",
        {},
        "",
        "",
    )
