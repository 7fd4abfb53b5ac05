"""Heads that PEFT has adapted, copied or trains tokens of, and any other module."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from sightline.errors import ConfigError
from sightline.model.head_loss import head_loss
from sightline.model.head_loss.heads import active_head, has_parts_elsewhere, is_linear

# Of this vocabulary a chunk of a module is 55 tokens, and one of a plain head 220.
NUM_CLASSES, WIDTH, CHUNK = 151_936, 8, 55
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "lora and bias": {"lora_bias": True},
}


class _Model(nn.Module):
    """An embedding, a body and a head, by the names that PEFT looks for."""

    def __init__(self, *, tied: bool, bias: bool) -> None:
        super().__init__()
        self.config = {"model_type": "custom", "tie_word_embeddings": tied}
        self.embed_tokens = nn.Embedding(NUM_CLASSES, WIDTH)
        self.body = nn.Linear(WIDTH, WIDTH)
        self.lm_head = nn.Linear(WIDTH, NUM_CLASSES, bias=bias)
        self._tied_weights_keys = {"lm_head.weight": "embed_tokens.weight"} if tied else {}
        if tied:
            self.lm_head.weight = self.embed_tokens.weight

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.body(self.embed_tokens(ids))


def adapted(*, tied: bool = False, bias: bool = False, **settings: Any) -> Any:
    torch.manual_seed(1)
    model: Any = _Model(tied=tied, bias=bias)
    model = get_peft_model(model, LoraConfig(r=3, **settings))
    for name, one in model.named_parameters():
        # B begins at zero: nothing would reach A.
        if "lora_B" in name or "trainable_tokens" in name:
            nn.init.normal_(one.data, std=0.3)
    return model


def batch(num_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(num_tokens)
    ids, targets = torch.randint(0, NUM_CLASSES, (2, num_tokens), generator=generator)
    return ids, targets


def plainly(head: nn.Module, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(head(hidden).float(), targets, reduction="sum")


def compare(
    model: Any, *, num_tokens: int = 130, body_trains: bool = True
) -> dict[str, torch.Tensor]:
    """Loss and every gradient against all logits at once; the gradients by name."""
    ids, targets = batch(num_tokens)
    training = {name: one for name, one in model.named_parameters() if one.requires_grad}
    slopes = []
    for compute in (plainly, head_loss):
        hidden = model(ids) if body_trains else model(ids).detach()
        total = compute(model.get_base_model().lm_head, hidden, targets)
        inputs = [*training.values(), *([hidden] if hidden.requires_grad else [])]
        slopes.append((total.detach(), torch.autograd.grad(total / 7, inputs)))
    (right, theirs), (found, ours) = slopes
    assert found.dtype == torch.float32
    assert float((found - right).abs() / right) < 1e-6
    for one, plain in zip(ours, theirs, strict=True):
        assert float((one - plain).norm() / plain.norm()) < 1e-6
    return dict(zip(training, ours, strict=False))


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapted_head_is_computed_through_itself(kind: str) -> None:
    bias = kind == "lora and bias"
    model = adapted(target_modules=["body", "lm_head"], bias=bias, **KINDS[kind])
    head = model.get_base_model().lm_head
    assert not is_linear(active_head(head))
    found = compare(model)
    assert sum(".lm_head." in name for name in found) == (2 if kind in ("lora", "rslora") else 3)
    assert sum(".body." in name for name in found) >= 2


def test_only_the_adapter_of_a_head_trains() -> None:
    """Nothing below it does: what it is given requires no gradient."""
    model = adapted(target_modules=["lm_head"])
    assert len(compare(model, body_trains=False)) == 2


def test_autocast_reaches_an_adapted_head_and_loses_no_gradient() -> None:
    """Autocast makes one cast of a weight, in which all chunks end."""
    model = adapted(target_modules=["body", "lm_head"])
    head = model.get_base_model().lm_head
    training = [one for one in model.parameters() if one.requires_grad]
    ids, targets = batch(130)
    totals, slopes = [], []
    for compute, low in ((plainly, False), (plainly, True), (head_loss, True)):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            totals.append(compute(head, model(ids), targets))
        slopes.append(torch.autograd.grad(totals[-1] / 7, training))
    exact, right, found = (total.detach() for total in totals)
    assert float((found - right).abs() / right) < 1e-6
    assert float((right - exact).abs() / exact) > 1e-6
    for true, theirs, ours in zip(*slopes, strict=True):
        error, allowed = (float((one - true).norm() / true.norm()) for one in (ours, theirs))
        assert error < 1.25 * allowed


def test_dropout_is_that_of_each_chunk() -> None:
    model = adapted(target_modules=["body", "lm_head"], lora_dropout=0.5).train()
    head = model.get_base_model().lm_head
    training = [one for one in model.parameters() if one.requires_grad]
    ids, targets = batch(130)
    hidden = model(ids).detach().requires_grad_()
    training = [hidden, *(one for one in head.parameters() if one.requires_grad)]
    torch.manual_seed(3)
    parts = zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
    right = torch.stack([plainly(head, *part) for part in parts]).sum()
    torch.manual_seed(3)
    found = head_loss(head, hidden, targets)
    assert float((found - right).abs() / right) < 1e-6
    slopes = (torch.autograd.grad(one, training) for one in (found, right))
    for ours, plain in zip(*slopes, strict=True):
        assert float((ours - plain).norm() / plain.norm()) < 1e-6
    model.eval()
    assert float((plainly(head, hidden, targets) - right).abs() / right) > 1e-5


def test_a_copy_that_trains_is_the_head_while_it_is_on() -> None:
    model = adapted(target_modules=["body"], modules_to_save=["lm_head"])
    wrapper = model.get_base_model().lm_head
    own = wrapper.modules_to_save["default"]
    with torch.no_grad():
        own.weight.mul_(1.5)
    assert active_head(wrapper) is own
    calls: list[int] = []
    own.register_forward_hook(lambda _, args, out: calls.append(len(args[0])))
    found = compare(model, num_tokens=300)
    # All logits at once, and then as a plain head: its weight in chunks, not the module.
    assert calls == [300, 300]
    assert [name for name in found if "lm_head" in name] == [
        "base_model.model.lm_head.modules_to_save.default.weight"
    ]
    with model.disable_adapter():
        assert active_head(wrapper) is wrapper.original_module
        ids, targets = batch(20)
        hidden = model(ids).detach()
        ours, plain = (one(wrapper, hidden, targets) for one in (head_loss, plainly))
        assert float((ours - plain).abs() / plain) < 1e-6
        assert not ours.requires_grad
    wrapper.set_adapter([])
    assert active_head(wrapper) is wrapper.original_module


def test_tokens_that_train_in_a_tied_head_get_their_gradient() -> None:
    """The numbers that train are the embedding's; among the head's own parameters they are not."""
    model = adapted(target_modules=["body"], tied=True, trainable_token_indices=[5, 9])
    head = model.get_base_model().lm_head
    # An older PEFT leaves the head of such a model alone.
    assert type(head).__name__ == "TrainableTokensWrapper"
    assert any("trainable_tokens_delta" in name for name in compare(model))


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}])
def test_without_tokens_every_adapter_gets_a_gradient_of_zeros(settings: dict[str, Any]) -> None:
    model = adapted(target_modules=["body", "lm_head"], **settings)
    ids, targets = batch(0)
    total = head_loss(model.get_base_model().lm_head, model(ids), targets)
    assert float(total.detach()) == 0
    total.backward()
    for one in model.parameters():
        if one.requires_grad:
            assert torch.equal(one.grad, torch.zeros_like(one))


class _Largest(TorchDispatchMode):
    """Size of the largest tensor that is made, in numbers."""

    def __init__(self, but: int) -> None:
        super().__init__()
        self.size, self._but = 0, but

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.numel() != self._but:
            self.size = max(self.size, out.numel())
        return out


def test_an_adapted_head_holds_the_logits_of_one_chunk_and_multiplies_twice() -> None:
    model = adapted(target_modules=["lm_head"])
    head = model.get_base_model().lm_head
    hidden, targets = torch.randn(300, WIDTH, requires_grad=True), batch(300)[1]
    with _Largest(but=NUM_CLASSES * WIDTH) as seen, FlopCounterMode(display=False) as counter:
        head_loss(head, hidden, targets).backward()
    assert seen.size == CHUNK * NUM_CLASSES
    base = 2 * 300 * WIDTH * NUM_CLASSES
    factors = 2 * 300 * 3 * (WIDTH + NUM_CLASSES)
    # Forward and to the hidden states; the factors also to themselves.
    assert counter.get_total_flops() == 2 * base + 3 * factors
    with torch.no_grad(), _Largest(but=NUM_CLASSES * WIDTH) as seen:
        assert not head_loss(head, hidden, targets).requires_grad
    assert seen.size == CHUNK * NUM_CLASSES


class _Cosine(nn.Module):
    """A head that is no linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(40, WIDTH))
        self.frozen = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(hidden, dim=1) @ self.weight.T * self.frozen


def _patched() -> nn.Module:
    head: Any = nn.Linear(WIDTH, 40)
    plain = head.forward
    head.forward = lambda hidden: 2 * plain(hidden)
    return head


class _Louder(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 3 * super().forward(input)


def _others() -> Iterator[Any]:
    yield pytest.param(_Cosine(), id="another module")
    yield pytest.param(_patched(), id="a forward of its own instance")
    yield pytest.param(_Louder(WIDTH, 40), id="a forward of its own class")
    yield pytest.param(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 40)), id="two")


@pytest.mark.parametrize("head", _others())
def test_any_module_is_computed_as_it_computes(head: nn.Module) -> None:
    assert not is_linear(head)
    hidden = torch.randn(30, WIDTH, requires_grad=True)
    targets = torch.arange(30)
    own = vars(head).get("forward")
    training = [hidden, *(one for one in head.parameters() if one.requires_grad)]
    right, found = plainly(head, hidden, targets), head_loss(head, hidden, targets)
    assert float((found - right).abs().detach() / right.detach()) < 1e-6
    slopes = (torch.autograd.grad(one / 7, training) for one in (found, right))
    for ours, plain in zip(*slopes, strict=True):
        assert float((ours - plain).norm() / plain.norm()) < 1e-6
    assert vars(head).get("forward") is own


def test_a_head_whose_parts_are_elsewhere_is_called_once() -> None:
    """As ZeRO-3 leaves them: every call of what is inside has all ranks gather its weights."""
    head = adapted(target_modules=["lm_head"]).get_base_model().lm_head
    hidden, targets = torch.randn(130, WIDTH), batch(130)[1]
    right = plainly(head, hidden, targets).detach()
    calls: list[int] = []
    weight = head.base_layer.weight
    gathered = copy.copy(weight.data)
    weight.data = torch.empty(0)
    assert has_parts_elsewhere(head)

    def gather(*_: Any) -> None:
        calls.append(1)
        weight.data = gathered

    def release(*_: Any) -> None:
        weight.data = torch.empty(0)

    head.base_layer.register_forward_pre_hook(gather)
    head.base_layer.register_forward_hook(release)
    with torch.no_grad():
        found = head_loss(head, hidden, targets)
    assert calls == [1]
    assert float((found - right).abs() / right) < 1e-6


@pytest.mark.parametrize("kind", ["torch", "liger"])
def test_what_takes_plain_heads_alone_refuses_others(kind: Any) -> None:
    head = adapted(target_modules=["lm_head"]).get_base_model().lm_head
    with pytest.raises(ConfigError) as refused:
        head_loss(head, torch.randn(3, WIDTH), torch.arange(3), kind=kind)
    assert f"head_loss is {kind}, which takes a plain linear head" in str(refused.value)
    assert "peft.tuners.lora.layer.Linear" in str(refused.value)
    assert "training.head_loss: auto" in str(refused.value)
