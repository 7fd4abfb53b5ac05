"""The map of a model at 80 columns, without colour."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console

from sightline.report.model_map import map_report


def _text(record: dict[str, Any], width: int = 80) -> str:
    console = Console(width=width, no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(map_report(record))
    assert max(map(len, capture.get().splitlines())) <= width
    return capture.get()


def _lines(record: dict[str, Any]) -> list[str]:
    return [" ".join(line.split()) for line in _text(record).splitlines() if line.strip()]


def test_every_kind_of_layer_has_a_line(maker: Any) -> None:
    lines = _lines(maker.map_record(maker.plan_record()))
    assert lines[:3] == ["A, runs/tiny/a", "plan run.yaml", "dtype bfloat16"]
    assert "├─ layers.0-35 2.77 B lora r16 29.9 M 1e-4 5.61 GiB" in lines
    assert "│ ├─ attention 340 M lora r16 8.26 M 1e-4 774 MiB" in lines
    assert "│ └─ norm 147 K freeze - - 288 KiB" in lines
    assert "all 4.07 B 69.1 M 8.61 GiB" in lines
    assert "memory weights 7.83 GiB, gradients 264 MiB, optimizer 527 MiB; all 8.61 GiB" in lines
    assert "Schedule" not in lines


def test_a_tied_head_is_one_line_without_figures(maker: Any) -> None:
    lines = _lines(maker.map_record(maker.staged_plan_record()))
    assert [line for line in lines if "head" in line] == ["head: tied to embeddings"]


def test_names_stay_whole_where_figures_are_wide(maker: Any) -> None:
    plan = maker.staged_plan_record()
    row = next(row for row in plan["rows"] if row["kind"] == "deepstack")
    place = plan["rows"].index(row)
    wide = row | {"num_parameters": 999_400_000, "weight_bytes": 998 * 2**30}
    plan["rows"][place : place + 1] = [
        wide | {"block": f"deepstack_merger_list.{n}", "reads_from": 8 * n + 8} for n in range(3)
    ]
    text = _text(maker.map_record(plan))
    figures = r" +3 B +full +150 +1e-3 +1-3 +2.92 TiB$"
    assert re.search("^└─ deepstack_merger_list.0-2" + figures, text, re.MULTILINE)
    assert "   reads blocks 8, 16, 24" in text
    plain = maker.map_record(plan) | {"plan": None}
    assert "└─ deepstack_merger_list.0-2 " in _text(plain)
    assert "reads blocks 8, 16, 24" in _text(plain)


def test_long_lists_of_modules_keep_the_branches(maker: Any) -> None:
    record = maker.map_record(maker.plan_record()) | {"plan": None}
    for tower in record["tree"]:
        for block in tower["children"]:
            for leaf in block["children"]:
                leaf["modules"] = ["input_layernorm", "post_attention_layernorm"]
    lines = _text(record).splitlines()
    below = [line for line in lines if "layernorm" in line]
    assert len(below) == 2 * 11
    assert all(line.startswith(("│ ", "   ")) for line in below)


def test_what_a_name_hits_and_leaves_out(maker: Any) -> None:
    plan = maker.plan_record()
    hits = {"hits": {"language": 36}, "left_out": {"vision": 32, "head": 1}}
    plan["targets"] = [{"key": "target_modules", "given": "[red]proj"} | hits]
    lines = _lines(maker.map_record(plan))
    assert lines[-1] == "target_modules [red]proj 36 in language 32 in vision, 1 in head"


def test_notes_are_shown(maker: Any) -> None:
    record = maker.map_record(maker.plan_record()) | {"notes": ["a word to the reader"]}
    assert "note a word to the reader" in _lines(record)
