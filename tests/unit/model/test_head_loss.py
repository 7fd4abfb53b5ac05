"""Head and loss in chunks: equal to all logits at once, and no more work than that."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from sightline.config import TrainingConfig
from sightline.errors import ConfigError
from sightline.model.head_loss import HeadLoss, head_loss, loss, refuse_unusable
from sightline.model.head_loss.chunked import chunk_length, linear_loss

CPU = torch.device("cpu")
# Of this vocabulary a chunk is 220 tokens.
LARGE = 151_936


def make(
    num_tokens: int,
    *,
    num_classes: int = 700,
    width: int = 24,
    bias: bool = False,
    dtype: torch.dtype = torch.float32,
) -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    """A head with logits of a standard deviation of about 1, and what it is given."""
    generator = torch.Generator().manual_seed(num_tokens + num_classes)
    head = nn.Linear(width, num_classes, bias=bias)
    with torch.no_grad():
        for one in head.parameters():
            one.copy_(torch.randn(one.shape, generator=generator) / width**0.5)
    hidden = torch.randn(num_tokens, width, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(0, num_classes, (num_tokens,), generator=generator)
    return head.to(dtype), hidden, targets


def plainly(head: nn.Module, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = head(hidden)
    wide = torch.promote_types(logits.dtype, torch.float32)
    return nn.functional.cross_entropy(logits.to(wide), targets, reduction="sum")


def gradients(total: torch.Tensor, of: list[torch.Tensor]) -> list[torch.Tensor]:
    """Of a mean over 7, as a step has it."""
    return list(torch.autograd.grad(total / 7, of))


def off(found: torch.Tensor, right: torch.Tensor) -> float:
    """Norm of the difference, relative to the norm."""
    return float((found - right).norm() / right.norm())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("length", [1, 7, 50, 64, 1000])
def test_chunks_are_equal_to_all_logits_at_once(length: int, bias: bool) -> None:
    head, hidden, targets = make(50, bias=bias)
    given = [hidden, *head.parameters()]
    right = plainly(head, hidden, targets)
    found = linear_loss(hidden, head.weight, head.bias, targets, length=length)
    assert found.dtype == torch.float32
    assert found.shape == ()
    assert off(found.detach(), right.detach()) < 1e-6
    for ours, plain in zip(gradients(found, given), gradients(right, given), strict=True):
        assert off(ours, plain) < 1e-6


def test_a_real_vocabulary_takes_several_chunks() -> None:
    head, hidden, targets = make(500, num_classes=LARGE, width=8)
    given = [hidden, head.weight]
    right, found = plainly(head, hidden, targets), head_loss(head, hidden, targets)
    assert off(found.detach(), right.detach()) < 1e-6
    for ours, plain in zip(gradients(found, given), gradients(right, given), strict=True):
        assert off(ours, plain) < 1e-6


def test_logits_of_any_size_are_no_overflow() -> None:
    head, hidden, targets = make(20)
    with torch.no_grad():
        hidden.mul_(300)
    right, found = plainly(head, hidden, targets), head_loss(head, hidden, targets)
    assert float(right.detach()) > 5_000
    assert off(found.detach(), right.detach()) < 1e-6
    assert off(*[gradients(one, [hidden])[0] for one in (found, right)]) < 1e-6


def test_what_is_nearly_certain_keeps_its_small_gradient() -> None:
    """Softmax less one-hot is a difference of nearly equal numbers at the end of training."""
    head, hidden, targets = make(64, dtype=torch.float64)
    with torch.no_grad():
        hidden.copy_(8 * head.weight[targets])
    right = gradients(plainly(head, hidden, targets), [hidden, head.weight])
    low = head.float(), hidden.detach().float().requires_grad_()
    plain = gradients(plainly(*low, targets), [low[1], head.weight])
    found = gradients(head_loss(*low, targets), [low[1], head.weight])
    for ours, theirs, exact in zip(found, plain, right, strict=True):
        assert off(ours, exact) < 2 * off(theirs, exact) + 1e-6


def test_what_is_nearly_certain_keeps_its_small_gradient_in_bfloat16() -> None:
    """What is left of 1 is less than the rounding of 1. The logits are the same either way."""
    head, hidden, targets = make(20, num_classes=20, dtype=torch.bfloat16)
    with torch.no_grad():
        # A logit of 9 for the target, of 0 for the others.
        head.weight.copy_(torch.eye(20, 24))
        hidden.copy_(9 * head.weight[targets])
    given = [hidden, head.weight]
    found, right = head_loss(head, hidden, targets), plainly(head, hidden, targets)
    assert float(right.detach()) == pytest.approx(20 * 19 * math.exp(-9), rel=1e-2)
    for ours, theirs in zip(gradients(found, given), gradients(right, given), strict=True):
        assert off(ours.float(), theirs.float()) < 1e-2


def test_float64_is_computed_in_float64() -> None:
    head, hidden, targets = make(50, dtype=torch.float64)
    right, found = plainly(head, hidden, targets), head_loss(head, hidden, targets)
    assert found.dtype == torch.float32
    # Divided by nothing: the loss is float32, and so would be the factor.
    ours = torch.autograd.grad(found, [hidden, head.weight])
    plain = torch.autograd.grad(right, [hidden, head.weight])
    assert all(off(*pair) < 1e-14 for pair in zip(ours, plain, strict=True))


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_is_as_near_to_the_truth_as_all_logits_at_once(autocast: bool) -> None:
    """In chunks of 3, so that sums over chunks would show if they were rounded."""
    exact = make(300, dtype=torch.float64)
    right = gradients(plainly(*exact), [exact[1], exact[0].weight])
    head, hidden, targets = make(300, dtype=torch.float32 if autocast else torch.bfloat16)
    given = [hidden, head.weight]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        plain = plainly(head, hidden, targets)
        found = linear_loss(hidden, head.weight, None, targets, length=3)
    assert found.dtype == torch.float32
    # The same logits, rounded once.
    assert off(found.detach(), plain.detach()) < 1e-5
    theirs, ours = gradients(plain, given), gradients(found, given)
    for mine, plain_one, true, of in zip(ours, theirs, right, given, strict=True):
        assert mine.dtype == of.dtype
        error, allowed = ((one.double() - true).norm() / true.norm() for one in (mine, plain_one))
        assert float(error) < 1.25 * float(allowed)
        assert 1e-4 < float(allowed) < 0.02


def test_without_tokens_the_loss_is_zero_and_so_are_the_gradients() -> None:
    """Another rank has tokens, and waits for these gradients."""
    head, _, targets = make(0, bias=True)
    body = torch.randn(5, 24, requires_grad=True)
    for kind in get_args(HeadLoss):
        none = body.index_select(0, torch.zeros(0, dtype=torch.int64))
        found = head_loss(head, none, targets, kind=kind)
        assert float(found.detach()) == 0
        for one in torch.autograd.grad(found, [body, *head.parameters()]):
            assert torch.equal(one, torch.zeros_like(one))


class _Largest(TorchDispatchMode):
    """Sizes of all tensors that are made, in numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.sizes.add(out.numel())
        return out


def test_a_frozen_head_costs_no_gradient_and_no_memory_for_one() -> None:
    head, hidden, targets = make(300, width=40)
    head.requires_grad_(False)
    with _Largest() as seen:
        found = linear_loss(hidden, head.weight, None, targets, length=10)
        found.backward()
    # Logits of one chunk; the weight itself is only looked at the other way round.
    assert max(seen.sizes - {head.weight.numel()}) == max(10 * 700, hidden.numel())
    assert head.weight.grad is None
    with torch.no_grad(), _Largest() as seen:
        linear_loss(hidden, head.weight, None, targets, length=10)
    assert max(seen.sizes - {head.weight.numel()}) == 10 * 700


@pytest.mark.parametrize(
    ("body", "weight", "products"),
    [(False, False, 1), (True, False, 2), (False, True, 2), (True, True, 3)],
)
def test_no_product_is_computed_twice_or_for_nothing(
    body: bool, weight: bool, products: int
) -> None:
    head, hidden, targets = make(50)
    hidden.requires_grad_(body)
    head.requires_grad_(weight)
    with FlopCounterMode(display=False) as counter:
        found = linear_loss(hidden, head.weight, None, targets, length=9)
        if found.requires_grad:
            found.backward()
    assert counter.get_total_flops() == products * 2 * 50 * 24 * 700
    assert found.requires_grad == (body or weight)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        again = linear_loss(hidden, head.weight, None, targets, length=9)
    assert counter.get_total_flops() == 2 * 50 * 24 * 700
    assert torch.equal(again, found)
    assert not again.requires_grad


def test_the_gradient_of_a_weight_is_not_copied() -> None:
    """It is as large as the weight."""
    head, hidden, targets = make(50)
    kept: list[int] = []

    def pack(one: torch.Tensor) -> torch.Tensor:
        kept.append(one.data_ptr())
        return one

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one):
        found = head_loss(head, hidden, targets)
    (found / 50).backward()
    assert head.weight.grad is not None
    assert head.weight.grad.data_ptr() in kept


def test_a_shared_weight_gets_both_its_gradients() -> None:
    table = nn.Embedding(700, 24)
    head = nn.Linear(24, 700, bias=False)
    head.weight = table.weight
    ids, targets = torch.arange(30), torch.arange(30, 60)
    [right] = gradients(plainly(head, table(ids), targets), [table.weight])
    [found] = gradients(head_loss(head, table(ids), targets), [table.weight])
    assert off(found, right) < 1e-6
    table.weight.grad = torch.ones_like(right)
    (head_loss(head, table(ids), targets) / 7).backward()
    assert off(table.weight.grad - 1, right) < 1e-5


def test_a_body_that_is_computed_again_gets_the_same_gradients() -> None:
    head, hidden, targets = make(50)
    body = nn.Sequential(nn.Linear(24, 24), nn.GELU())
    given = [hidden, *body.parameters(), head.weight]
    right = gradients(head_loss(head, body(hidden), targets), given)
    again: Any = checkpoint(body, hidden, use_reentrant=False)
    found = gradients(head_loss(head, again, targets), given)
    assert all(torch.equal(*pair) for pair in zip(found, right, strict=True))
    whole: Any = checkpoint(
        lambda one: head_loss(head, body(one), targets), hidden, use_reentrant=False
    )
    assert all(torch.equal(*pair) for pair in zip(gradients(whole, given), right, strict=True))


def test_two_times_the_same_is_the_same_to_the_bit() -> None:
    head, hidden, targets = make(500, num_classes=LARGE, width=8)
    runs = [head_loss(head, hidden, targets) for _ in range(2)]
    slopes = [gradients(one, [hidden, head.weight]) for one in runs]
    assert torch.equal(*runs)
    assert all(torch.equal(*pair) for pair in zip(*slopes, strict=True))


def test_a_second_backward_pass_is_refused() -> None:
    head, hidden, targets = make(50)
    found = head_loss(head, hidden, targets)
    found.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="a second time, but the first time has used up"):
        found.backward()
    found = head_loss(head, hidden, targets)
    [slope] = torch.autograd.grad(found, hidden, create_graph=True)
    assert not slope.requires_grad


def test_the_head_is_called_once_and_is_itself_again() -> None:
    head, hidden, targets = make(500, num_classes=LARGE, width=8)
    logits = head(hidden[:2])
    seen: list[Any] = []
    hook = head.register_forward_hook(lambda _, args, out: seen.append((args[0], out)))
    found = head_loss(head, hidden, targets)
    [(given, out)] = seen
    assert given is hidden
    assert out is found
    hook.remove()
    assert torch.equal(head(hidden[:2]), logits)
    with pytest.raises(RuntimeError):
        head_loss(head, hidden, targets + LARGE)
    assert torch.equal(head(hidden[:2]), logits)
    assert "forward" not in vars(head)


def test_a_class_that_does_not_exist_is_no_silent_zero() -> None:
    """Nothing is ignored here: whoever calls leaves out what does not count."""
    head, hidden, targets = make(10)
    targets[3] = -100
    with pytest.raises(RuntimeError, match="out of bounds"):
        head_loss(head, hidden, targets)


def test_shapes_alone_are_enough() -> None:
    """The estimate of memory runs without any."""
    with torch.device("meta"):
        head = nn.Linear(16, LARGE, bias=False)
        hidden = torch.empty(3000, 16, requires_grad=True)
    for kind in get_args(HeadLoss):
        with _Largest() as seen:
            head_loss(head, hidden, torch.zeros(3000, dtype=torch.int64, device="meta"), kind=kind)
        assert max(seen.sizes) == chunk_length(3000, LARGE, 16) * LARGE


@pytest.mark.parametrize(
    ("shape", "length"),
    [
        ((0, 151_936, 512), 1),
        ((1, 151_936, 512), 1),
        ((220, 151_936, 512), 220),
        ((257, 151_936, 512), 129),
        ((2048, 151_936, 512), 256),
        ((2048, 151_936, 3584), 410),
        ((10_000, 506, 64), 10_000),
        ((3, 10**9, 8), 1),
    ],
)
def test_chunks_are_bounded_and_even(shape: tuple[int, int, int], length: int) -> None:
    assert chunk_length(*shape) == length


def test_the_ways_are_those_of_the_configuration() -> None:
    annotation = TrainingConfig.model_fields["head_loss"].annotation
    assert get_args(annotation) == get_args(HeadLoss)


def test_a_torch_without_the_operation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "_HAS_OPERATION", False)
    head, hidden, targets = make(10)
    for ask in (
        lambda: refuse_unusable("torch", CPU),
        lambda: head_loss(head, hidden, targets, kind="torch"),
    ):
        with pytest.raises(ConfigError) as refused:
            ask()
        assert f"torch {torch.__version__} has no linear_cross_entropy" in str(refused.value)
        assert "training.head_loss: auto" in str(refused.value)
    refuse_unusable("auto", CPU)
    refuse_unusable("chunked", CPU)
    assert head_loss(head, hidden, targets).requires_grad
