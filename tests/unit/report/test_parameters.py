"""The grouped parameter table."""

from __future__ import annotations

from typing import Any

import pytest

from sightline.errors import RunError
from sightline.report.parameters import group_towers, towers_of


def test_blocks_of_one_kind_are_one_row(maker: Any) -> None:
    towers = group_towers(maker.plan_record())
    assert [(tower.tower, [group.block for group in tower.blocks]) for tower in towers] == [
        ("vision", ["patch_embed", "blocks.0-31"]),
        ("projector", ["merger"]),
        ("language", ["layers.0-35", "norm"]),
        ("embeddings", ["embed_tokens"]),
        ("head", ["lm_head"]),
    ]
    layers = towers[2].blocks[0]
    assert [part.kind for part in layers.parts] == ["attention", "mlp", "norm"]
    assert layers.num_blocks == 36
    assert layers.num_parameters == 36 * 77_072_896
    assert layers.num_trainable == 36 * 831_488


def test_a_block_of_another_kind_or_a_gap_starts_a_row(maker: Any) -> None:
    row = maker.plan_row
    rows = [row("language", f"layers.{block}", "mlp", 100) for block in (0, 1)]
    rows += [row("language", f"layers.{n}", "mlp", 100, 100, "full", [1e-4]) for n in (2, 4)]
    (tower,) = towers_of(rows, is_tied=False)
    assert [group.block for group in tower.blocks] == ["layers.0-1", "layers.2", "layers.4"]
    assert (tower.how, tower.share, tower.num_blocks) == ("full", 0.5, 4)
    assert tower.learning_rates == (1e-4,)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "norm"),
        ("how", "lora"),
        ("rank", 8),
        ("alpha", 8),
        ("dtype", "float32"),
        ("weight_decay", 0.1),
        ("num_parameters", 101),
        ("learning_rates", [1e-5]),
    ],
)
def test_blocks_that_differ_in_anything_are_not_joined(maker: Any, key: str, value: Any) -> None:
    rows = [
        maker.plan_row("language", f"layers.{block}", kind, 100, 100, "full", [1e-4])
        for block in range(3)
        for kind in ("attention", "mlp")
    ]
    assert [g.block for g in towers_of(rows, is_tied=False)[0].blocks] == ["layers.0-2"]
    rows[3][key] = value
    blocks = [group.block for group in towers_of(rows, is_tied=False)[0].blocks]
    assert blocks == ["layers.0", "layers.1", "layers.2"]


def test_what_trains_inside_a_block_and_in_which_stage(maker: Any) -> None:
    vision, projector, language, _, head = group_towers(maker.staged_plan_record())
    assert [(part.kind, part.how) for part in vision.blocks[1].parts] == [
        ("attention", "lora r16"),
        ("mlp", "freeze"),
    ]
    assert not vision.blocks[1].is_even
    assert language.blocks[0].is_even
    assert vision.stages == (3,)
    assert [block.block for block in language.blocks] == ["layers.0-1", "layers.2-3"]
    assert [language.trainable_in(stage) for stage in (1, 2, 3)] == [0, 80, 160]
    assert [language.how_in(stage) for stage in (1, 2)] == ["freeze", "lora r16"]
    assert language.learning_rates == (None, 1e-4, 1e-5)
    assert language.peaks == (1e-5, 1e-4)
    assert projector.blocks[1].reads_from == (0,)
    assert head.is_tied
    assert head.num_parameters == 0


def test_several_ways_in_one_tower_are_all_named(maker: Any) -> None:
    rows = [
        maker.plan_row("language", "layers.0", "attention", 10, 5, "lora", [1e-4]),
        maker.plan_row("language", "layers.1", "attention", 10, 10, "full", [1e-4]),
        maker.plan_row("language", "layers.2", "attention", 10),
    ]
    rows[0]["rank"] = 4
    (tower,) = towers_of(rows, is_tied=False)
    assert tower.how == "lora r4 + full"
    # 15 values train of 30 weights and 5 factors.
    assert tower.share == 15 / 35


def test_memory_is_weights_gradients_and_moments(maker: Any) -> None:
    plan = maker.plan_record()
    keys = ("weight_bytes", "gradient_bytes", "optimizer_bytes")
    assert sum(t.num_bytes for t in group_towers(plan)) == sum(plan["totals"][k] for k in keys)


def test_a_table_of_another_version_is_refused(maker: Any) -> None:
    with pytest.raises(RunError, match="schema 1, and this version of Sightline reads 2"):
        group_towers({"rows": [], "is_tied": False})


def test_share_of_lora_counts_its_factors(maker: Any) -> None:
    head = group_towers(maker.plan_record())[-1]
    assert head.share == 2_463_744 / (311_164_928 + 2_463_744)
