"""A rehearsal in the terminal: right at 80 columns."""

from __future__ import annotations

from rich.console import Console

from sightline.report.rehearsal import failure_lines, rehearsal_report, verdict_line

JOINT = {
    "id": "loss",
    "state": "failed",
    "seen": "loss 2 at most, 3 of 20 answer tokens wrong",
    "where": "a.jsonl:3",
    "advice": "Train more.\nOr less.",
    "title": "the samples are learned",
}
RECORD = {
    "samples": [
        {"origin": "/data/of/some/where/a_rather_long_name_of_a_file.jsonl:12"}
        | {"kinds": ["image", "boxes"], "length": 1234, "loss": 0.002, "num_wrong": 0}
        | {"num_tokens": 56},
        {"origin": "b.jsonl:3", "kinds": ["video"], "length": 99},
    ],
    "joints": [{"id": "data", "state": "ok", "seen": "fine " * 30}, JOINT],
    "verdict": "fails",
    "failed_at": "loss",
}


def test_samples_and_joints_fit_80_columns() -> None:
    console = Console(width=80, no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(rehearsal_report(RECORD))
    lines = capture.get().splitlines()
    assert max(len(line) for line in lines) <= 80
    said = [" ".join(line.split()) for line in lines if line.strip()]
    assert said[2] == "…g_name_of_a_file.jsonl:12 image, boxes 1,234 2e-3 0 of 56"
    assert said[3] == "b.jsonl:3 video 99 - -"
    assert said[-1] == "loss FAILED loss 2 at most, 3 of 20 answer tokens wrong"


def test_a_failure_says_what_where_and_what_to_do() -> None:
    assert failure_lines(JOINT) == [
        "loss FAILED: wanted is that the samples are learned",
        "  seen   loss 2 at most, 3 of 20 answer tokens wrong",
        "  where  a.jsonl:3",
        "  do     Train more.",
        "         Or less.",
    ]
    assert failure_lines({**JOINT, "where": ""})[2] == "  do     Train more."


def test_the_verdict_is_one_line() -> None:
    assert verdict_line(RECORD).startswith("verdict Fails first at: loss.")
    holds = verdict_line({**RECORD, "verdict": "holds", "failed_at": None})
    assert holds.startswith("verdict 2 samples learned and answered exactly")
    assert len(holds) <= 80
