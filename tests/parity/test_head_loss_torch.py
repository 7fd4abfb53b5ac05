"""Torch's own operation: equal to our chunks in float32, and why nothing else takes it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sightline.errors import ConfigError
from sightline.model.head_loss import head_loss

pytestmark = pytest.mark.skipif(
    not hasattr(nn.functional, "linear_cross_entropy"), reason="this torch has no such operation"
)
LARGE = 151_936
DOUBLE, SINGLE = torch.float64, torch.float32


def made(
    num_tokens: int, *, bias: bool = False, dtype: torch.dtype = torch.float32
) -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    torch.manual_seed(num_tokens)
    head = nn.Linear(8, LARGE, bias=bias).to(dtype)
    hidden = torch.randn(num_tokens, 8).to(dtype).requires_grad_()
    return head, hidden, torch.randint(0, LARGE, (num_tokens,))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("num_tokens", [1, 300])
@pytest.mark.filterwarnings("error")
def test_it_is_equal_to_our_chunks(num_tokens: int, bias: bool, frozen: bool) -> None:
    head, hidden, targets = made(num_tokens, bias=bias)
    head.requires_grad_(not frozen)
    given = [hidden, *(one for one in head.parameters() if not frozen)]
    ours, theirs = (head_loss(head, hidden, targets, kind=kind) for kind in ("chunked", "torch"))
    assert theirs.dtype == torch.float32
    assert float((ours - theirs).abs().detach() / ours.detach()) < 1e-6
    exact, plain = (_plain_slopes(head, hidden, targets, dtype) for dtype in (DOUBLE, SINGLE))
    slopes = (torch.autograd.grad(one / 7, given) for one in (ours, theirs))
    for mine, its, true, usual in zip(*slopes, exact, plain, strict=True):
        # The sum over the vocabulary rounds as the processor's kernels add up: with some, torch's
        # cross_entropy is 1e-5 off, too. Equal is what is no further off than that.
        rounding = _gap(usual, true)
        assert _gap(mine, true) < max(1e-6, rounding)
        assert _gap(its, true) < max(1e-6, 4 * rounding)


def _plain_slopes(
    head: nn.Linear, hidden: torch.Tensor, targets: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, ...]:
    """Gradients of torch's cross_entropy of a linear head, computed in a dtype."""
    head, hidden = copy.deepcopy(head).to(dtype), hidden.detach().to(dtype).requires_grad_()
    given = [hidden, *(one for one in head.parameters() if one.requires_grad)]
    loss = nn.functional.cross_entropy(head(hidden), targets, reduction="sum")
    return torch.autograd.grad(loss / 7, given)


def _gap(found: torch.Tensor, true: torch.Tensor) -> float:
    return float((found.double() - true).norm() / true.norm())


def test_it_is_equal_to_our_chunks_where_nothing_trains() -> None:
    head, hidden, targets = made(300)
    with torch.no_grad():
        ours, theirs = (head_loss(head, hidden, targets, kind=one) for one in ("auto", "torch"))
    assert float((ours - theirs).abs() / ours) < 1e-6
    assert not theirs.requires_grad


@pytest.mark.parametrize("autocast", [False, True])
def test_lower_precision_is_refused(autocast: bool) -> None:
    head, hidden, targets = made(5, dtype=torch.float32 if autocast else torch.bfloat16)
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
        pytest.raises(ConfigError) as refused,
    ):
        head_loss(head, hidden, targets, kind="torch")
    assert "would round the loss to bfloat16" in str(refused.value)
    assert "training.head_loss: auto" in str(refused.value)


def test_it_still_rounds_the_loss_of_lower_precision() -> None:
    """When this fails, the refusal in sightline.model.head_loss.loss can go."""
    head, hidden, targets = made(300, dtype=torch.bfloat16)
    options = nn.LinearCrossEntropyOptions(batch_chunk_size=100)
    found = nn.functional.linear_cross_entropy(
        hidden, head.weight, targets, reduction="sum", options=options
    )
    assert found.dtype == torch.bfloat16


def test_it_still_leaves_its_work_out_of_the_counters() -> None:
    """The estimate of a run counts operations as they are called; it would see none of these."""
    head, hidden, targets = made(300)
    with FlopCounterMode(display=False) as counter:
        head_loss(head, hidden, targets, kind="torch").backward()
    assert counter.get_total_flops() == 0


def test_its_own_chunks_are_still_too_short() -> None:
    """When this fails, its own choice of a length can be tried again."""
    options = nn.LinearCrossEntropyOptions()
    chosen = options._adjust(300, 512, LARGE, torch.float32, torch.device("cpu"))
    assert chosen.batch_chunk_size == 2
