"""Where a value that is not finite began: every way in which it can, planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional

from sightline.errors import RunError
from sightline.training.alarms import Alarm
from sightline.training.non_finite import Origin, find_origin
from sightline.training.watching.guard import NonFiniteGuard


class Attention(nn.Module):
    """Mixes its input between two layers of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(4, 4)
        self.after = nn.Linear(4, 4)
        self.mix: Callable[[torch.Tensor], torch.Tensor] = torch.tanh

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.after(self.mix(self.before(hidden)) + mask.clamp_min(0))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.mlp = nn.Linear(4, 4)

    def forward(self, hidden: torch.Tensor, *, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.mlp(hidden + self.attention(hidden, mask=attention_mask))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(9, 4)
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, input_ids: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.embed(input_ids) * scale
        # As additive masks of attention do.
        mask = torch.full((4,), -torch.inf)
        for block in self.blocks:
            hidden = block(hidden, attention_mask=mask)
        return {"logits": hidden}


def _batch() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([[1, 2, 3]]), "scale": torch.ones(1, 3, 4)}


def _loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(**batch)["logits"].square().sum()


def _origin(model: nn.Module, batch: dict[str, torch.Tensor] | None = None) -> Origin:
    batch = _batch() if batch is None else batch
    return find_origin(model, batch, lambda: _loss(model, batch))


def test_a_sound_batch_has_no_origin() -> None:
    assert _origin(Model()).way == "unknown"


def test_weights_that_are_not_finite_are_named_first() -> None:
    model = Model()
    model.blocks[1].mlp.weight.data[0, 0] = torch.inf
    origin = _origin(model)
    assert (origin.way, origin.name, origin.dtype) == ("weights", "blocks.1.mlp.weight", "float32")


def test_a_batch_that_is_not_finite_is_named() -> None:
    batch = _batch()
    batch["scale"][0, 1, 2] = torch.nan
    origin = _origin(Model(), batch)
    assert (origin.way, origin.name) == ("batch", "scale")


class Overflow(nn.Linear):
    """A layer whose product is too large for half precision."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return (super().forward(hidden).half() * 60_000 * 60_000).float()


def test_the_layer_that_overflows_is_named_with_its_inputs() -> None:
    model = Model()
    model.blocks[0].mlp = Overflow(4, 4)
    origin = _origin(model)
    assert (origin.way, origin.name, origin.kind) == ("forward", "blocks.0.mlp", "Overflow")
    assert origin.dtype == "float32"
    assert -20 < origin.low < 0 < origin.high < 20
    assert "blocks.0.mlp (Overflow): its inputs are finite, float32 from -" in origin.text


def test_what_breaks_between_two_layers_is_of_the_module_around_them() -> None:
    model = Model()
    model.blocks[1].attention.mix = lambda hidden: torch.log(-hidden.square())
    origin = _origin(model)
    assert (origin.way, origin.name, origin.kind) == (
        "forward",
        "blocks.1.attention",
        "Attention",
    )


def test_a_loss_that_breaks_over_sound_logits_is_told_apart() -> None:
    model, batch = Model(), _batch()
    origin = find_origin(model, batch, lambda: model(**batch)["logits"].square().neg().log().sum())
    assert origin.way == "loss"
    assert origin.low < origin.high


class Root(nn.Linear):
    """Finite on the way there, with a gradient of infinity on the way back."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = super().forward(hidden)
        return (hidden - hidden.detach()).abs().sqrt() + 1.0


@pytest.mark.parametrize("place", [0, 1])
def test_the_module_whose_gradients_break_is_named(place: int) -> None:
    model = Model()
    model.blocks[place].mlp = Root(4, 4)
    origin = _origin(model)
    assert (origin.way, origin.name) == ("backward", f"blocks.{place}.mlp")
    assert "the gradients of its output are finite, float32 from" in origin.text


def test_gradients_that_break_between_two_layers_are_of_the_module_around_them() -> None:
    model = Model()
    model.blocks[0].attention.mix = lambda hidden: (hidden - hidden.detach()).abs().sqrt()
    origin = _origin(model)
    assert (origin.way, origin.name) == ("backward", "blocks.0.attention")


def test_a_factor_of_lora_is_named_inside_its_layer() -> None:
    adapted = get_peft_model(Model(), LoraConfig(r=2, target_modules=["mlp"]))
    adapted.base_model.model.blocks[1].mlp.lora_A["default"] = Overflow(4, 2, bias=False)
    origin = _origin(adapted)
    assert (origin.way, origin.name) == ("forward", "blocks.1.mlp.lora_A.default")


def test_hooks_are_gone_afterwards() -> None:
    model = Model()
    _origin(model)
    assert all(not one._forward_hooks and not one._forward_pre_hooks for one in model.modules())


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_a_fault_in_a_real_class_is_found(
    tiny_folder: Callable[[str], Path], is_checkpointed: bool
) -> None:
    from sightline.model import load_weights

    model: Any = load_weights(str(tiny_folder("qwen2_5_vl")), dtype=torch.float32).train()
    if is_checkpointed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    ids = torch.arange(5, 15)[None]
    rows = torch.arange(10)[None, None].expand(4, 1, 10)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "position_ids": rows}

    def loss() -> torch.Tensor:
        return functional.cross_entropy(model(**batch, use_cache=False).logits[0], ids[0])

    assert find_origin(model, batch, loss).way == "unknown"
    layer = model.model.language_model.layers[1].mlp
    layer.act_fn = Overflowing()
    origin = find_origin(model, batch, loss)
    assert (origin.way, origin.name) == ("forward", "model.language_model.layers.1.mlp.act_fn")
    layer.act_fn = Rooting()
    origin = find_origin(model, batch, loss)
    assert (origin.way, origin.name) == ("backward", "model.language_model.layers.1.mlp.act_fn")


class Overflowing(nn.Module):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden * torch.inf


class Rooting(nn.Module):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return (hidden - hidden.detach()).abs().sqrt() + hidden


def _guard(model: nn.Module) -> tuple[NonFiniteGuard, list[Alarm]]:
    told: list[Alarm] = []
    guard = NonFiniteGuard(model, told.append)
    guard.loss_of = lambda batch, num_tokens: _loss(model, dict(batch))
    return guard, told


def test_the_run_ends_with_the_module_and_the_remedy() -> None:
    model = Model()
    model.blocks[0].mlp = Overflow(4, 4)
    guard, told = _guard(model)
    guard.saw(_batch(), 3)
    with pytest.raises(RunError) as ended:
        guard.check_losses([torch.tensor(torch.inf)], step=7)
    lines = str(ended.value).splitlines()
    assert lines[0].startswith(
        "the loss is inf at step 7, micro-batch 1. It began in blocks.0.mlp (Overflow): "
    )
    assert "training.learning_rate" in lines[1]
    assert "training.precision" in lines[1]
    assert [(one.id, one.step) for one in told] == [("values.non_finite", 7)]
    assert "blocks.0.mlp" in told[0].cause


def test_the_micro_batch_that_fails_is_the_one_that_is_told() -> None:
    model = Model()
    model.blocks[1].mlp = Root(4, 4)
    guard, _ = _guard(model)
    guard.saw(_batch() | {"scale": torch.full((1, 3, 4), torch.nan)}, 3)
    guard.step_ended()  # a step that was sound is forgotten
    guard.saw(_batch(), 3)
    with pytest.raises(RunError, match=r"gradients of vision are not finite at step 2.*blocks\.1"):
        guard.check_gradients({"vision": torch.inf, "language": 0.0}, step=2)
    with pytest.raises(RunError, match=r"the gradients are not finite at step 2, with"):
        guard.check_gradients({"vision": torch.nan, "language": torch.nan}, step=2)


def test_sound_values_pass() -> None:
    guard, told = _guard(Model())
    guard.saw(_batch(), 3)
    guard.check_losses([torch.tensor(3.0)], step=1)
    guard.check_gradients({"vision": 0.0, "language": 1e30}, step=1)
    assert told == []


class Unlucky(nn.Linear):
    """Breaks at one draw of six."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden) * (torch.nan if int(torch.randint(6, ())) == 0 else 1.0)


def test_the_second_run_draws_the_random_numbers_of_the_first() -> None:
    model = Model()
    model.blocks[0].mlp = Unlucky(4, 4)
    for seed in range(40):
        torch.manual_seed(seed)
        guard, _ = _guard(model)
        guard.saw(_batch(), 3)
        loss = _loss(model, _batch())
        if not torch.isfinite(loss):
            with pytest.raises(RunError, match=r"blocks\.0\.mlp \(Unlucky\)"):
                guard.check_losses([loss], step=1)
            break
    else:
        pytest.fail("no draw broke")
