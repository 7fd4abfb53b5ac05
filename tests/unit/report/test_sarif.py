"""Findings in the form that continuous integration reads."""

from __future__ import annotations

from pathlib import Path

from sightline.report.sarif import MOST_RESULTS, Result, check_results, sarif, verify_results

LEDGER = [
    {
        "fate": "quarantined",
        "code": "media.missing",
        "reason": "no such file: a.png",
        "field": "image",
        "file": "data/train.jsonl",
        "line": 7,
    },
    {"fate": "kept", "code": None, "reason": None, "field": None, "file": "x", "line": 8},
    {
        "fate": "dropped",
        "code": None,
        "reason": None,
        "field": None,
        "file": "/elsewhere/a b.parquet",
        "line": None,
    },
]
RECORD = {
    "errors": ["nothing is left to train on"],
    "warnings": ["half is shrunk"],
    "faults": [{"code": "media.missing", "title": "image or video missing"}],
}


def test_what_check_found_stands_beside_the_line_of_its_file(tmp_path: Path) -> None:
    results = check_results(RECORD, LEDGER, tmp_path / "run.yaml")
    log = sarif(results, "1.2", root=tmp_path)
    elsewhere = "file:" + "///elsewhere/a%20b.parquet"
    [run] = log["runs"]
    assert log["version"] == "2.1.0"
    assert run["tool"]["driver"]["rules"] == [
        {"id": "data.error", "shortDescription": {"text": "error about the data as a whole"}},
        {"id": "data.warning", "shortDescription": {"text": "warning about the data as a whole"}},
        {"id": "media.missing", "shortDescription": {"text": "image or video missing"}},
        {"id": "sample.wrong", "shortDescription": {"text": "sample.wrong"}},
    ]
    told = [
        (one["level"], one["ruleIndex"], one["message"]["text"], one["locations"][0])
        for one in run["results"]
    ]
    assert told == [
        (
            "error",
            0,
            "nothing is left to train on",
            {"physicalLocation": {"artifactLocation": {"uri": "run.yaml"}}},
        ),
        (
            "warning",
            1,
            "half is shrunk",
            {"physicalLocation": {"artifactLocation": {"uri": "run.yaml"}}},
        ),
        (
            "warning",
            2,
            "no such file: a.png (field image)",
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": "data/train.jsonl"},
                    "region": {"startLine": 7},
                }
            },
        ),
        (
            "warning",
            3,
            "sample.wrong",
            {"physicalLocation": {"artifactLocation": {"uri": elsewhere}}},
        ),
    ]


def _check(holds: bool | None, advice: str = "") -> dict:
    return {
        "id": f"a.{holds}{advice}",
        "title": "It holds",
        "holds": holds,
        "measured": "1 of 2 differ",
        "tolerance": "" if holds is None else "0",
        "detail": "train.jsonl:3" if holds is False else "",
        "advice": advice,
    }


def test_of_a_certificate_what_fails_and_what_is_advised_is_told() -> None:
    checks = [_check(True), _check(False, "Train again."), _check(None), _check(None, "Look.")]
    results = verify_results({"checks": checks}, Path("run/merged"))
    assert results == [
        Result(
            "a.FalseTrain again.",
            "It holds",
            "error",
            "1 of 2 differ, tolerance 0. train.jsonl:3 Train again.",
            Path("run/merged"),
        ),
        Result(
            "a.NoneLook.",
            "It holds",
            "note",
            "1 of 2 differ, tolerance -. Look.",
            Path("run/merged"),
        ),
    ]


def test_results_over_the_limit_are_counted() -> None:
    [run] = sarif([Result("a", "A", "error", str(n)) for n in range(MOST_RESULTS + 3)], "1")["runs"]
    assert len(run["results"]) == MOST_RESULTS
    assert run["properties"] == {"resultsLeftOut": 3}
    assert "locations" not in run["results"][0]
    [whole] = sarif([], "1")["runs"]
    assert (whole["results"], "properties" in whole) == ([], False)
