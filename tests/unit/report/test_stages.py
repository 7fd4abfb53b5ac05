"""The stages of a plan: where they end, what trains in them, and their strips."""

from __future__ import annotations

from typing import Any

import pytest

from sightline.report.parameters import group_towers
from sightline.report.stages import mode_in, stage_spans, strip_ends, strip_text, what_trains


def _spans(maker: Any, *ends: dict[str, Any], num_steps: int | None = None) -> Any:
    stages = [maker.plan_stage(f"s{n}", **end) for n, end in enumerate((*ends, {}))]
    return stage_spans(stages, num_steps)


def test_shares_and_steps_are_to_scale(maker: Any) -> None:
    spans, is_known = _spans(maker, {"share": 0.25}, {"step": 30}, num_steps=60)
    assert is_known
    assert [(span.start, span.end) for span in spans] == [(0, 0.25), (0.25, 0.5), (0.5, 1)]
    assert [span.words for span in spans] == [
        "until 25 % of the run",
        "until step 30",
        "to the end of the run",
    ]


@pytest.mark.parametrize("end", [{"plateau": True}, {"step": 30}])
def test_what_is_not_known_is_said_to_be(maker: Any, end: dict[str, Any]) -> None:
    spans, is_known = _spans(maker, {"share": 0.9}, end)
    assert not is_known
    assert [span.end for span in spans] == [1 / 3, 2 / 3, 1]


def test_every_stage_has_a_mark_in_its_strip(maker: Any) -> None:
    spans, _ = _spans(maker, {"share": 0.001}, {"share": 0.999})
    assert strip_ends(spans, 10) == [1, 9, 10]
    assert strip_ends(_spans(maker, {"share": 0.3})[0], 10) == [3, 10]


def test_a_strip_shows_what_trains_when(maker: Any) -> None:
    plan = maker.staged_plan_record()
    spans, _ = stage_spans(plan["stages"], 60)
    strips = {tower.tower: strip_text(tower, spans, 8) for tower in group_towers(plan)[:4]}
    assert strips == {
        "vision": "····▒▒▒▒",
        "projector": "████████",
        "language": "··▒▒▒▒▒▒",
        "embeddings": "········",
    }


def test_lora_beside_full_is_mixed(maker: Any) -> None:
    plan = maker.staged_plan_record()
    row = next(row for row in plan["rows"] if row["block"] == "layers.3")
    row |= {"how": "full", "rank": None}
    language = group_towers(plan)[2]
    assert [mode_in(language, stage) for stage in (1, 2, 3)] == ["freeze", "mixed", "mixed"]


def test_what_trains_is_named_down_to_the_kind(maker: Any) -> None:
    towers = group_towers(maker.staged_plan_record())
    assert what_trains(towers, 1) == ["projector: full, 1e-3"]
    assert what_trains(towers, 2) == [
        "projector: full, 1e-3",
        "language layers.2-3: lora r16, 1e-4",
    ]
    assert what_trains(towers, 3) == [
        "vision: lora r16, 1e-6",
        "projector: full, 1e-4 and 1e-3",
        "language: lora r16, 1e-5",
    ]
