"""A simulated step against what autograd keeps of the real one, and its parts against the plan."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sightline.model import open_checkpoint
from sightline.model.head_loss.chunked import chunk_length
from sightline.preparation.estimate import Device, find_device
from sightline.preparation.estimate.costs import static_of
from sightline.preparation.estimate.simulate import Pass, simulate
from sightline.training.loss import model_loss
from sightline.tuning import enter_stage

aten = torch.ops.aten
FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
GRIDS = [(1, 16, 16), (1, 8, 24)]
# Segments of several lengths, two of one length side by side.
ROW = [([(1, 16, 16)], 40, 20), ([(1, 8, 8)], 90, 20), ([(1, 8, 8)], 90, 20), (GRIDS, 10, 30)]
FULL: dict[str, Any] = dict.fromkeys(
    ("vision", "projector", "language", "embeddings", "head"), "full"
)
FROZEN: dict[str, Any] = dict.fromkeys(("vision", "projector", "language"), "freeze")
PLANS: dict[str, dict[str, Any]] = {
    "default": {},
    "full": FULL,
    "vision_lora": {**FROZEN, "vision": "lora"},
    "projector": {**FROZEN, "projector": "full"},
    "dora": {"vision": "lora", "lora": {"dora": True}},
    "upper": {"language": {"mode": "freeze", "parts": [{"blocks": "2", "mode": "full"}]}},
}


@pytest.fixture(scope="module")
def cpu() -> Device:
    return find_device("cpu")


def run(one: Any, device: Device, batch: Any = None, **settings: Any) -> Pass:
    chosen = {"checkpointing": False, "autocast": False, "accumulates": False} | settings
    batch = one.batch(GRIDS) if batch is None else batch
    return simulate(one.model, one.family, batch, model_loss, device, **chosen)


class Saved:
    """What autograd holds of one tensor; it goes when its part of the graph goes."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def bytes_kept(one: Any, batch: Any = None, *, autocast: bool = False) -> int:
    """What autograd keeps of a real forward pass, beside weights: by its own hooks."""
    model = one.model.train()
    weights = {tensor.untyped_storage().data_ptr() for tensor in model.parameters()}
    weights |= {tensor.untyped_storage().data_ptr() for tensor in model.buffers()}
    saved: weakref.WeakSet[Saved] = weakref.WeakSet()

    def pack(tensor: torch.Tensor) -> Saved:
        holder = Saved(tensor)
        saved.add(holder)
        return holder

    with (
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda holder: holder.tensor),
    ):
        loss, _ = model_loss(model, one.batch(GRIDS) if batch is None else batch, None)
    storages = {
        holder.tensor.untyped_storage().data_ptr(): holder.tensor.untyped_storage().nbytes()
        for holder in saved
    }
    assert loss.requires_grad
    return sum(size for where, size in storages.items() if where not in weights)


def held_beside(one: Any, batch: Any = None) -> int:
    """Bytes alive after a forward pass that autograd does not hold: the batch, folded weights."""
    given = one.batch(GRIDS) if batch is None else batch
    held = sum(tensor.untyped_storage().nbytes() for tensor in given.values())
    folded = [module.raw_folded for module in one.model.modules() if hasattr(module, "raw_folded")]
    return held + sum(
        tensor.untyped_storage().nbytes()
        for kept in folded
        for entry in kept.values()
        for tensor in entry
        if isinstance(tensor, torch.Tensor)
    )


@pytest.mark.parametrize("family", FAMILY_KEYS)
@pytest.mark.parametrize("plan", PLANS)
def test_what_is_kept_is_what_autograd_keeps(
    planned: Callable, family: str, plan: str, cpu: Device
) -> None:
    real = bytes_kept(planned(family, PLANS[plan], real=True))
    one = planned(family, PLANS[plan])
    ran = run(one, cpu)
    # Numbers of a few tokens differ: positions and masks that both hold under two names.
    assert sum(ran.kept.values()) - held_beside(one) == pytest.approx(real, abs=8_000)


@pytest.mark.parametrize("family", FAMILY_KEYS)
@pytest.mark.parametrize("plan", ["default", "full", "vision_lora"])
def test_a_packed_row_keeps_what_autograd_keeps_and_computes_what_torch_counts(
    planned: Callable, family: str, plan: str, cpu: Device
) -> None:
    real = planned(family, PLANS[plan], real=True)
    # First: later passes find what folding the patch embedding made.
    flops = counted(real, real.packed_row(ROW))
    real.model.zero_grad()
    kept = bytes_kept(real, real.packed_row(ROW))
    one = planned(family, PLANS[plan])
    ran = run(one, cpu, one.packed_row(ROW))
    found = sum(ran.kept.values()) - held_beside(one, one.packed_row(ROW))
    assert found == pytest.approx(kept, abs=8_000)
    assert ran.flops == flops


@pytest.mark.parametrize("plan", ["default", "full", "vision_lora"])
def test_autocast_keeps_what_it_keeps(planned: Callable, plan: str, cpu: Device) -> None:
    real = planned("qwen2_5_vl", PLANS[plan], real=True, dtype=torch.bfloat16)
    one = planned("qwen2_5_vl", PLANS[plan], dtype=torch.bfloat16)
    ran = run(one, cpu, autocast=True)
    found = sum(ran.kept.values()) - held_beside(one)
    assert found == pytest.approx(bytes_kept(real, autocast=True), rel=0.03)


@pytest.mark.parametrize("family", FAMILY_KEYS)
def test_weights_optimizer_and_gradients_are_those_of_the_real_model(
    planned: Callable, family: str
) -> None:
    real = planned(family, {"vision": "lora", "lora": {"rank": 4}}, real=True)
    found = static_of(planned(family, {"vision": "lora", "lora": {"rank": 4}}).model, real.plan)
    optimizer = torch.optim.AdamW([p for p in real.model.parameters() if p.requires_grad])
    for parameter in real.model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    gradients = sum(p.grad.nbytes for p in real.model.parameters() if p.grad is not None)
    optimizer.step()
    moments = sum(
        value.nbytes
        for state in optimizer.state.values()
        for name, value in state.items()
        if name != "step"
    )
    tensors = {t.data_ptr(): t.nbytes for t in [*real.model.parameters(), *real.model.buffers()]}
    assert found.optimizer == moments
    assert found.gradients == gradients
    assert found.weights == sum(tensors.values())


@pytest.mark.parametrize("family", FAMILY_KEYS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_frozen_vision_tower_keeps_nothing(
    planned: Callable, family: str, checkpointing: bool, cpu: Device
) -> None:
    plan = {**FROZEN, "language": "lora"}
    one = planned(family, plan)
    few = simulate(
        one.model,
        one.family,
        one.batch([(1, 4, 4)], text=100),
        model_loss,
        cpu,
        checkpointing=checkpointing,
        autocast=False,
        accumulates=True,
    )
    many = simulate(
        one.model,
        one.family,
        # As many tokens, and patches in place of words.
        one.batch([(1, 16, 16)], text=100 - 60),
        model_loss,
        cpu,
        checkpointing=checkpointing,
        autocast=False,
        accumulates=True,
    )
    pixels = (256 - 16) * 3 * one.checkpoint.preprocessing.image_patching.patch_size**2
    more = many.kept["activations"] - few.kept["activations"] - pixels
    # 240 patches of 64 numbers would be 61,440 bytes in one tensor. The tokens they become have
    # places in the masks and in the deepstack features of the language model: 64 rows.
    assert more <= 60 * 64 * 4 * 2


@pytest.mark.parametrize("family", FAMILY_KEYS)
def test_checkpointing_keeps_less_and_computes_more(
    planned: Callable, family: str, cpu: Device
) -> None:
    one = planned(family, FULL)
    plain, again = run(one, cpu), run(one, cpu, checkpointing=True)
    assert again.kept["activations"] < plain.kept["activations"] / 2
    assert again.flops > 1.15 * plain.flops
    # It peaks in a block that is computed again, which is not the head.
    assert again.peak["transient"] > 4 * again.kept["logits"]
    assert again.peak["logits"] <= again.kept["logits"]


def test_lower_frozen_blocks_keep_nothing(planned: Callable, cpu: Device) -> None:
    def kept(blocks: str) -> int:
        tuning = {
            **FROZEN,
            "language": {"mode": "freeze", "parts": [{"blocks": blocks, "mode": "full"}]},
        }
        return run(planned("qwen2_5_vl", tuning), cpu).kept["activations"]

    one, two, three = kept("2"), kept("1-"), kept("0-")
    assert one < two < three
    assert three - two == pytest.approx(two - one, rel=0.05)


def test_gradients_of_an_earlier_pass_are_not_counted_twice(planned: Callable, cpu: Device) -> None:
    one = planned("qwen2_5_vl", FULL)
    alone, second = run(one, cpu), run(one, cpu, accumulates=True)
    assert second.peak["gradients"] == 0
    # The head's is known with the loss: it becomes the gradient, or is added to it.
    assert sum(alone.kept.values()) == sum(second.kept.values())
    assert all(parameter.grad is None for parameter in one.model.parameters())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("plan", ["default", "full", "upper"])
def test_blocks_run_once_cost_what_all_of_them_cost(
    planned: Callable, plan: str, checkpointing: bool, cpu: Device
) -> None:
    one = planned("qwen2_5_vl", {})
    checkpoint = open_checkpoint(one.checkpoint.source)
    config: Any = checkpoint.config
    config.text_config.num_hidden_layers = 9
    config.text_config.layer_types = ["full_attention"] * 9
    config.vision_config.depth = 7
    config.vision_config.fullatt_block_indexes = [3]
    deep = type(one)(checkpoint, PLANS[plan], real=False)
    once = run(deep, cpu, checkpointing=checkpointing)
    every = run(deep, cpu, checkpointing=checkpointing, every_block=True)
    assert once.peak_bytes == pytest.approx(every.peak_bytes, rel=1e-3)
    assert sum(once.kept.values()) == pytest.approx(sum(every.kept.values()), rel=1e-3)
    assert once.flops == pytest.approx(every.flops, rel=1e-6)
    assert not any("PassedOn" in type(module).__name__ for module in deep.model.modules())


def counted(real: Any, batch: Any) -> int:
    """Operations of a real pass, as torch counts them."""
    # Torch 2.11 does not count the attention of CPUs.
    known = {
        aten._scaled_dot_product_flash_attention_for_cpu: (
            lambda query, key, *_, **__: 4 * math.prod(query) * key[2]
        ),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda _, query, key, *__, **___: 10 * math.prod(query) * key[2]
        ),
    }
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        loss, _ = model_loss(real.model.train(), batch, None)
        loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("family", FAMILY_KEYS)
def test_operations_are_those_that_torch_counts(
    planned: Callable, family: str, cpu: Device
) -> None:
    real = planned(family, FULL, real=True)
    flops = counted(real, real.batch(GRIDS))
    assert run(planned(family, FULL), cpu).flops == flops


@pytest.mark.parametrize("tuning", [{}, FULL], ids=["lora", "full"])
def test_logits_are_there_in_chunks_and_gradients_of_the_head_where_it_trains(
    planned: Callable, tuning: dict[str, Any], cpu: Device
) -> None:
    large = planned("qwen2_5_vl", {})
    checkpoint = open_checkpoint(large.checkpoint.source)
    config: Any = checkpoint.config
    config.text_config.vocab_size = vocabulary = 151_936
    one = type(large)(checkpoint, tuning, real=False)
    answer, hidden = 4000, config.text_config.hidden_size
    ran = run(one, cpu, one.batch([(1, 4, 4)], answer=answer), checkpointing=True)
    of_head = vocabulary * hidden * 4 if tuning else 0
    of_hidden = answer * hidden * 4
    # Where the head trains its gradient is one; the hidden states are picked, and their gradient
    # waits.
    kept = ran.kept["logits"] + ran.kept["gradients"]
    assert kept == pytest.approx(of_head + of_hidden, rel=0.1)
    chunk = chunk_length(answer, vocabulary, hidden) * vocabulary * 4
    assert chunk < answer * vocabulary * 4 / 10
    at_the_head = ran.peak["logits"] + ran.peak["gradients"] + ran.peak["transient"]
    assert chunk + of_head < at_the_head < 2.2 * chunk + of_head + 3 * of_hidden


def test_stages_cost_what_they_train(planned: Callable, cpu: Device) -> None:
    tuning = {
        "stages": [
            {"until": "30%", "language": "freeze"},
            {"language": "full", "projector": "freeze"},
        ]
    }
    one = planned("qwen2_5_vl", tuning)
    first, second = static_of(one.model, one.plan, 0), static_of(one.model, one.plan, 1)
    assert first.optimizer == 8 * first.num_trained
    # What trained in the first stage keeps its moments in the second.
    assert second.optimizer == 8 * (first.num_trained + second.num_trained)
    assert second.gradients == 4 * second.num_trained
    assert first.weights == second.weights
    enter_stage(one.model, one.plan, 0)
    assert run(one, cpu).kept["activations"] > 0
