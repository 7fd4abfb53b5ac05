"""The grouped parameter table."""

from __future__ import annotations

from typing import Any

from sightline.report.parameters import group_towers


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
    assert layers.num_blocks == 36
    assert layers.num_parameters == 36 * 77_072_896
    assert layers.num_trainable == 36 * 831_488


def test_a_block_of_another_kind_or_a_gap_starts_a_row() -> None:
    row = {"tower": "language", "num_parameters": 100, "dtype": "float32", "learning_rate": None}
    frozen = row | {"num_trainable": 0, "how": "freeze"}
    trained = row | {"num_trainable": 100, "how": "full", "learning_rate": 1e-4}
    rows = [
        frozen | {"block": "layers.0"},
        frozen | {"block": "layers.1"},
        trained | {"block": "layers.2"},
        trained | {"block": "layers.4"},
    ]
    (tower,) = group_towers({"rows": rows})
    assert [group.block for group in tower.blocks] == ["layers.0-1", "layers.2", "layers.4"]
    assert (tower.how, tower.share, tower.num_blocks) == ("full", 0.5, 4)
    assert tower.learning_rates == (1e-4,)


def test_share_of_lora_counts_its_factors(maker: Any) -> None:
    head = group_towers(maker.plan_record())[-1]
    assert head.share == 2_463_744 / (311_164_928 + 2_463_744)
