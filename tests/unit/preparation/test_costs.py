"""What a sample is said to cost against the operations that torch counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForImageTextToText

from sightline.config import TrainingConfig, TuningConfig
from sightline.data.batches import CostRates, costs
from sightline.model import Checkpoint, open_checkpoint, skeleton
from sightline.positions import place_batch
from sightline.preparation.costs import cost_rates
from sightline.tuning import TuningPlan, apply_plan, enter_stage, resolve_plan

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
TOWERS = ("vision", "projector", "language", "embeddings", "head")
FROZEN: dict[str, Any] = dict.fromkeys(("vision", "projector", "language"), "freeze")
PLANS: dict[str, dict[str, Any]] = {
    "default": {},
    "full": dict.fromkeys(TOWERS, "full"),
    "language": {**FROZEN, "language": "full"},
    "vision_lora": {**FROZEN, "vision": {"mode": "lora"}, "lora": {"rank": 32}},
    "upper": {"language": {"mode": "freeze", "parts": [{"blocks": "3-", "mode": "full"}]}},
}
# Grids, words without and with a loss: long texts, large pictures, long answers, a video's frames.
SAMPLES: list[tuple[list[tuple[int, int, int]], int, int]] = [
    ([(1, 16, 16)], 40, 20),
    ([(1, 8, 8)], 900, 20),
    ([(1, 48, 32), (1, 32, 32)], 40, 10),
    ([(1, 8, 24)], 200, 400),
]


def attention(query: Any, key: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    """Two products of every query and key; shapes are (batch, heads, tokens, head_dim)."""
    return 2 * 2 * math.prod(query) * key[2]


def attention_backward(_: Any, query: Any, key: Any, *__: Any, out_shape: Any, **___: Any) -> int:
    """Five, one of them the scores again."""
    return 5 * 2 * math.prod(query) * key[2]


# Not every torch that is supported counts attention on a CPU.
COUNTED = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
}


@pytest.fixture
def deep(tiny_folder: Callable[[str], Path]) -> Callable[[str], Checkpoint]:
    """A tiny checkpoint with more blocks, so that no block is a large share of all."""

    def make(family: str) -> Checkpoint:
        checkpoint = open_checkpoint(str(tiny_folder(family)))
        text, vision = checkpoint.config.text_config, checkpoint.config.vision_config
        text.num_hidden_layers, vision.depth = 6, 4
        text.layer_types = ["full_attention"] * 6
        if "fullatt_block_indexes" in vision.to_dict():
            vision.fullatt_block_indexes = [1, 3]
        return checkpoint

    return make


def planned(checkpoint: Checkpoint, plan: str) -> TuningPlan:
    return resolve_plan(
        skeleton(checkpoint),
        checkpoint.family,
        TuningConfig.model_validate(PLANS[plan]),
        TrainingConfig(),
    )


def counted(
    checkpoint: Checkpoint,
    plan: TuningPlan,
    sample: tuple[list[tuple[int, int, int]], int, int],
    *,
    checkpointing: bool = False,
) -> int:
    """Operations of a real forward and backward pass, logits of answers alone."""
    grids, text, answer = sample
    model: Any = AutoModelForImageTextToText.from_config(checkpoint.config)
    model = apply_plan(model, plan).train()
    enter_stage(model, plan, 0)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.disable_input_require_grads()
    rule = checkpoint.position_rule
    ids = [5]
    start = checkpoint.processor.tokenizer.convert_tokens_to_ids(
        checkpoint.family.tokens.vision_start
    )
    for t, h, w in grids:
        ids += [start, *[rule.image_token_id] * (t * h * w // rule.spatial_merge_size**2), 6]
    input_ids = torch.tensor([[*ids, *[7] * (text + answer)]])
    grid = torch.tensor(grids)
    patching = checkpoint.preprocessing.image_patching
    values = 3 * patching.temporal_patch_size * patching.patch_size**2
    placed = place_batch(
        input_ids, rule, attention_mask=torch.ones_like(input_ids), image_grid_thw=grid
    )
    with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter:
        outputs = model(
            input_ids=input_ids,
            position_ids=torch.from_numpy(np.asarray(placed.model_position_ids)),
            image_grid_thw=grid,
            pixel_values=torch.zeros(int(grid.prod(-1).sum()), values),
            logits_to_keep=answer,
            use_cache=False,
        )
        outputs.logits.logsumexp(-1).sum().backward()
    return counter.get_total_flops()


def expected(
    checkpoint: Checkpoint,
    rates: CostRates,
    sample: tuple[list[tuple[int, int, int]], int, int],
) -> float:
    grids, text, answer = sample
    patches = [(t, h * w) for t, h, w in grids]
    num_patches = sum(t * size for t, size in patches)
    merge = checkpoint.position_rule.spatial_merge_size
    num_tokens = 1 + num_patches // merge**2 + 2 * len(grids) + text + answer
    [cost] = costs(
        rates,
        num_tokens=np.array([num_tokens]),
        num_supervised_tokens=np.array([answer]),
        num_patches=np.array([num_patches]),
        num_patch_pairs=np.array([sum(t * size**2 for t, size in patches)]),
    )
    return float(cost)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("family", FAMILY_KEYS)
def test_a_sample_costs_what_torch_counts(
    deep: Callable[[str], Checkpoint], family: str, plan: str
) -> None:
    checkpoint = deep(family)
    resolved = planned(checkpoint, plan)
    rates = cost_rates(checkpoint, resolved, packed=False, checkpointing=False)
    for sample in SAMPLES:
        found = counted(checkpoint, resolved, sample)
        # The lowest factors of LoRA have nothing below them that would need their gradient.
        close = 0.01 if plan == "vision_lora" else 1e-4
        assert expected(checkpoint, rates, sample) == pytest.approx(found, rel=close), sample


@pytest.mark.parametrize("plan", ["default", "full"])
@pytest.mark.parametrize("family", FAMILY_KEYS)
def test_blocks_that_are_computed_twice_count_twice(
    deep: Callable[[str], Checkpoint], family: str, plan: str
) -> None:
    checkpoint = deep(family)
    resolved = planned(checkpoint, plan)
    rates = cost_rates(checkpoint, resolved, packed=False, checkpointing=True)
    found = counted(checkpoint, resolved, SAMPLES[0], checkpointing=True)
    # A factor of LoRA in the last matrix of a block is computed again in part.
    close = 0.005 if plan == "default" else 1e-4
    assert expected(checkpoint, rates, SAMPLES[0]) == pytest.approx(found, rel=close)


def test_a_frozen_tower_costs_a_third(deep: Callable[[str], Checkpoint]) -> None:
    checkpoint = deep("qwen2_vl")
    full = cost_rates(checkpoint, packed=False, checkpointing=False)
    frozen = cost_rates(
        checkpoint, planned(checkpoint, "language"), packed=False, checkpointing=False
    )
    # Pixels need no gradient, so the embedding of patches is multiplied twice and not thrice.
    patching = checkpoint.preprocessing.image_patching
    embedding = 2 * 64 * 3 * patching.temporal_patch_size * patching.patch_size**2
    assert frozen.per_patch == pytest.approx((full.per_patch + embedding) / 3)
    # Attention: two products of seven.
    assert frozen.per_patch_pair == pytest.approx(full.per_patch_pair * 2 / 7)
    assert frozen.per_token == full.per_token
    assert frozen.per_supervised_token == pytest.approx(full.per_supervised_token * 2 / 3)


def test_packed_samples_cost_half_the_pairs(deep: Callable[[str], Checkpoint]) -> None:
    checkpoint = deep("qwen3_vl")
    padded = cost_rates(checkpoint, packed=False, checkpointing=True)
    packed = cost_rates(checkpoint, packed=True, checkpointing=True)
    assert packed.per_token_pair == padded.per_token_pair / 2
    assert packed.per_patch_pair == padded.per_patch_pair


def test_windows_are_counted_by_patch(deep: Callable[[str], Checkpoint]) -> None:
    checkpoint = deep("qwen2_5_vl")
    windows = cost_rates(checkpoint, packed=False, checkpointing=False)
    checkpoint.config.vision_config.fullatt_block_indexes = [0, 1, 2, 3]
    whole = cost_rates(checkpoint, packed=False, checkpointing=False)
    assert whole.per_patch_pair == 2 * windows.per_patch_pair
    # Windows of 112 pixels hold 8 times 8 patches of 14.
    assert windows.per_patch - whole.per_patch == 64 * windows.per_patch_pair


def test_stages_cost_what_they_train(deep: Callable[[str], Checkpoint]) -> None:
    checkpoint = deep("qwen2_vl")
    tuning = {"stages": [{"until": "30%", "language": "freeze"}, {"vision": "full"}]}
    plan = resolve_plan(
        skeleton(checkpoint),
        checkpoint.family,
        TuningConfig.model_validate(tuning),
        TrainingConfig(),
    )
    first, second = (
        cost_rates(checkpoint, plan, stage=stage, packed=False, checkpointing=False)
        for stage in (0, 1)
    )
    assert first.per_patch < second.per_patch / 2
    assert first.per_token < second.per_token
