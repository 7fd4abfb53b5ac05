"""The drawing of a planned model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sightline.report.model_drawing import ModelDrawing, draw_plan
from sightline.report.page import SCRIPTS, render_run

ATTACK = '<script>alert("x")</script>'


def _groups(drawing: ModelDrawing) -> dict[str, tuple[bool, bool]]:
    """Of every group of cells: whether something in it is striped, and filled."""
    return {
        group.title.partition(":")[0]: (bool(group.stripes), bool(group.fills))
        for group in drawing.groups
    }


def _words(drawing: ModelDrawing) -> list[str]:
    return [label.text for label in (*drawing.titles, *drawing.labels)]


@pytest.mark.parametrize("side", ["wide", "narrow"])
def test_cells_show_what_trains_in_each_stage(maker: Any, side: str) -> None:
    stages = draw_plan(maker.staged_plan_record())
    drawings = [getattr(stage, side) for stage in stages]
    pale, striped, filled = (False, False), (True, False), (False, True)
    assert [_groups(drawing)["language layers.0-1"] for drawing in drawings] == [
        pale,
        pale,
        striped,
    ]
    assert [_groups(drawing)["language layers.2-3"] for drawing in drawings] == [
        pale,
        striped,
        striped,
    ]
    assert [_groups(drawing)["projector merger"] for drawing in drawings] == [filled] * 3
    assert [_groups(drawing)["projector deepstack_merger_list.0"] for drawing in drawings] == (
        [filled] * 3
    )
    assert [_groups(drawing)["vision blocks.0-1"] for drawing in drawings] == [pale, pale, striped]
    assert [stage.num_trainable for stage in stages] == ["100", "180", "300"]


def test_only_the_part_that_trains_is_striped(maker: Any) -> None:
    drawing = draw_plan(maker.staged_plan_record())[2].wide
    [vision] = [group for group in drawing.groups if group.title.startswith("vision blocks")]
    assert vision.title == "vision blocks.0-1: attention LoRA r16, mlp frozen"
    tops = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)h", vision.stripes)]
    assert tops
    # Attention is the upper half of a cell that stands between 34 and 78.
    assert all(34 < top < 56 for top in tops)


@pytest.mark.parametrize("side", ["wide", "narrow"])
def test_every_block_is_a_cell_inside_the_drawing(maker: Any, side: str) -> None:
    drawing = getattr(draw_plan(maker.plan_record())[0], side)
    [layers] = [group for group in drawing.groups if "layers.0-35" in group.title]
    rows = len(re.findall(r"M", layers.cells)) // 3  # three parts a row of cells
    assert layers.cuts.count("v") == 36 - rows
    for group in drawing.groups:
        for x, y, width in re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)", group.cells):
            assert float(x) + float(width) <= drawing.width
            assert float(y) < drawing.height
    for label in (*drawing.titles, *drawing.labels):
        start = (
            label.x - 6.6 * len(label.text) * {"start": 0, "middle": 0.5, "end": 1}[label.anchor]
        )
        assert start >= -1
        assert start + 6.6 * len(label.text) <= drawing.width + 6


def test_a_model_of_a_hundred_layers_fits(maker: Any) -> None:
    plan = maker.plan_record()
    layers = [row for row in plan["rows"] if row["block"] == "layers.0"]
    plan["rows"] += [row | {"block": f"layers.{n}"} for n in range(36, 200) for row in layers]
    for side in ("wide", "narrow"):
        drawing = getattr(draw_plan(plan)[0], side)
        ends = [
            float(x) + float(width)
            for group in drawing.groups
            for x, width in re.findall(r"M([\d.]+) [\d.]+h([\d.]+)", group.cells)
        ]
        assert max(ends) <= drawing.width


def test_deepstack_is_joined_to_the_blocks_it_reads(maker: Any) -> None:
    plan = maker.staged_plan_record()
    drawing = draw_plan(plan)[0].wide
    assert "deepstack of block 0, into the first layers: full" in _words(drawing)
    for row in plan["rows"]:
        row["reads_from"] = 1 if row["reads_from"] == 0 else None
    moved = draw_plan(plan)[0].wide
    assert moved.reads != drawing.reads
    assert draw_plan(maker.plan_record())[0].wide.reads == ""


def test_words_over_cells_say_how_they_train(maker: Any) -> None:
    words = _words(draw_plan(maker.plan_record())[0].wide)
    assert "0-31: frozen" in words
    assert "0-35: LoRA r16" in words
    assert "full" in words
    last = draw_plan(maker.staged_plan_record())[2]
    assert "0-1: in part" in _words(last.wide)
    assert "attention LoRA r16" in _words(last.narrow)
    assert "tied head" in _words(draw_plan(maker.staged_plan_record())[0].wide)


def test_a_changed_plan_is_another_drawing(maker: Any) -> None:
    before, plan = draw_plan(maker.plan_record())[0], maker.plan_record()
    row = next(row for row in plan["rows"] if row["block"] == "blocks.7")
    row |= {"how": "full", "num_trainable": 1, "learning_rates": [1e-5]}
    after = draw_plan(plan)[0]
    assert after.wide.summary != before.wide.summary
    for side in ("wide", "narrow"):
        groups = _groups(getattr(after, side))
        assert groups["vision blocks.7"] == (False, True)
        assert groups.keys() - _groups(getattr(before, side)).keys() == {
            "vision blocks.0-6",
            "vision blocks.7",
            "vision blocks.8-31",
        }


def test_the_drawing_in_words(maker: Any) -> None:
    summary = draw_plan(maker.staged_plan_record())[1].wide.summary
    assert summary == (
        "upper. The model from pixels to tokens. In training: projector: full, 1e-3; "
        "language layers.2-3: lora r16, 1e-4. Everything else is frozen."
    )


def test_the_page_has_the_drawings_and_a_table_of_the_stages(
    tmp_path: Path, maker: Any, read_page: Any
) -> None:
    run = maker.make_run(tmp_path / "run")
    maker.rewrite(run / "plan.json", **maker.staged_plan_record())
    html = render_run(run).read_text(encoding="utf-8")
    page = read_page(html)
    assert page.faults == []
    assert html.count('<svg class="model only-wide"') == 3
    assert html.count('<svg class="model only-narrow"') == 3
    assert "What trains in each stage stage until trains values 1 projector 25 % of" in page.text
    assert "tied to embeddings" in page.text
    one = render_run(maker.make_run(tmp_path / "one")).read_text(encoding="utf-8")
    assert one.count('<svg class="model only-wide"') == 1
    assert "What trains in each stage" not in one


def test_names_of_stages_and_modules_are_escaped(
    tmp_path: Path, maker: Any, read_page: Any
) -> None:
    run = maker.make_run(tmp_path / "run")
    plan = maker.staged_plan_record()
    plan["stages"][1]["name"] = ATTACK
    for row in plan["rows"]:
        if row["block"] in ("merger", "layers.3"):
            row["block"] = f"{ATTACK}.3"
        row["kind"] = row["kind"].replace("mlp", ATTACK).replace("attention", "<script>")
    (run / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    html = render_run(run).read_text(encoding="utf-8")
    page = read_page(html)
    assert html.count("<script>") == len(page.scripts) == len(SCRIPTS)
    assert "alert" not in "".join(page.scripts)
    assert "<script> LoRA r16" in page.text  # a label over cells
    assert page.faults == []
    assert f"2 {ATTACK}" in page.text
