"""Liger's kernels: refused where they cannot run or differ, and compared on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from sightline.errors import ConfigError
from sightline.model.head_loss import head_loss, liger, refuse_unusable
from sightline.model.head_loss.chunked import linear_loss

CPU = torch.device("cpu")
gpu = pytest.mark.gpu
needs_liger = pytest.mark.skipif(
    not torch.cuda.is_available() or find_spec("liger_kernel") is None,
    reason="needs a CUDA GPU and liger-kernel",
)


def made(num_tokens: int, device: str = "cpu") -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    torch.manual_seed(num_tokens)
    head = nn.Linear(64, 3000, bias=False, device=device)
    hidden = torch.randn(num_tokens, 64, device=device, requires_grad=True)
    return head, hidden, torch.randint(0, 3000, (num_tokens,), device=device)


def test_a_missing_package_is_refused_with_the_name_of_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(liger, "find_spec", lambda name: None)
    head, hidden, targets = made(4)
    for ask in (
        lambda: refuse_unusable("liger", CPU),
        lambda: head_loss(head, hidden, targets, kind="liger"),
    ):
        with pytest.raises(ConfigError) as refused:
            ask()
        assert "head_loss is liger, but liger-kernel is not installed" in str(refused.value)
        assert "pip install 'sightline[liger]'" in str(refused.value)
        assert "training.head_loss: auto" in str(refused.value)


def test_a_machine_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liger, "find_spec", lambda name: name)
    with pytest.raises(ConfigError) as refused:
        refuse_unusable("liger", CPU)
    assert "its kernels run on a GPU, and this run is on cpu" in str(refused.value)
    refuse_unusable("liger", torch.device("cuda"))


Fused = Callable[..., torch.Tensor]


def _as_liger(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, **settings: Any
) -> torch.Tensor:
    """What liger-kernel should compute, with its arguments."""
    assert settings == {"bias": None, "reduction": "sum", "accum_dtype": torch.float32}
    return linear_loss(hidden, weight, None, targets)


def _a_mean(*given: Any, **settings: Any) -> torch.Tensor:
    return _as_liger(*given, **settings) / len(given[0])


def _scaled_twice(*given: Any, **settings: Any) -> torch.Tensor:
    """The right loss; the gradient is not."""
    loss = _as_liger(*given, **settings)
    return loss.detach() + 1.01 * (loss - loss.detach())


def _nan(*given: Any, **settings: Any) -> torch.Tensor:
    loss = _as_liger(*given, **settings)
    return loss * float("nan")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fused], None]:
    """Puts a function in the place of the kernels, which need a GPU."""

    def put(fused: Fused) -> None:
        module = SimpleNamespace(liger_fused_linear_cross_entropy=fused)
        monkeypatch.setattr(liger, "import_module", lambda name: module)
        monkeypatch.setattr(liger, "refuse_missing", lambda device: None)
        monkeypatch.setattr(liger, "_agreed", set())

    return put


@pytest.mark.parametrize("fused", [_a_mean, _scaled_twice, _nan])
@pytest.mark.parametrize("grad", [True, False])
def test_what_differs_is_refused(fused: Fused, grad: bool, stand_in: Any) -> None:
    """Also where the first thing to be computed is an evaluation."""
    stand_in(fused)
    head, hidden, targets = made(100)
    with torch.set_grad_enabled(grad), pytest.raises(ConfigError) as refused:
        head_loss(head, hidden, targets, kind="liger")
    assert "on the first 64 tokens its loss is" in str(refused.value)
    assert "1e-05 allowed in float32" in str(refused.value)
    assert "Install another release of liger-kernel" in str(refused.value)


def test_what_agrees_is_compared_once_and_used(stand_in: Any) -> None:
    calls: list[int] = []

    def fused(*given: Any, **settings: Any) -> torch.Tensor:
        calls.append(len(given[0]))
        return _as_liger(*given, **settings)

    stand_in(fused)
    head, hidden, targets = made(100)
    right = torch.autograd.grad(head_loss(head, hidden, targets) / 3, [hidden, head.weight])
    for _ in range(2):
        found = head_loss(head, hidden, targets, kind="liger")
        slopes = torch.autograd.grad(found / 3, [hidden, head.weight])
        assert all(torch.equal(*pair) for pair in zip(slopes, right, strict=True))
    assert calls == [64, 100, 100]
    with torch.autocast("cpu", torch.bfloat16):
        found = head_loss(head, hidden, targets, kind="liger")
    assert found.dtype == torch.float32
    # Compared again: another dtype is another kernel.
    assert calls == [64, 100, 100, 64, 100]


def test_a_head_alone_gets_its_gradient(stand_in: Any) -> None:
    """liger-kernel asks its input, and not the weight, whether anything is differentiated."""

    def fused(hidden: torch.Tensor, weight: torch.Tensor, *rest: Any, **settings: Any) -> Any:
        given = weight if hidden.requires_grad else weight.detach()
        return _as_liger(hidden, given, *rest, **settings)

    stand_in(fused)
    head, hidden, targets = made(100)
    hidden = hidden.detach()
    [right] = torch.autograd.grad(head_loss(head, hidden, targets), [head.weight])
    [found] = torch.autograd.grad(head_loss(head, hidden, targets, kind="liger"), [head.weight])
    assert torch.equal(found, right)


@gpu
@pytest.mark.extra
@needs_liger
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_the_kernels_agree_on_a_gpu(dtype: torch.dtype, autocast: bool) -> None:
    head, hidden, targets = made(700, "cuda")
    head, hidden = head.to(dtype), hidden.detach().to(dtype).requires_grad_()
    slopes = []
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        for kind in ("chunked", "liger"):
            total = head_loss(head, hidden, targets, kind=kind)
            assert total.dtype == torch.float32
            slopes.append((total.detach(), *torch.autograd.grad(total / 9, [hidden, head.weight])))
    low = autocast or dtype == torch.bfloat16
    for ours, theirs in zip(*slopes, strict=True):
        assert float((ours - theirs).norm() / ours.norm()) < (2e-2 if low else 1e-4)


@gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_chunks_on_a_gpu_are_equal_and_the_same_to_the_bit(dtype: torch.dtype) -> None:
    head = nn.Linear(64, 151_936, bias=False, device="cuda", dtype=dtype)
    hidden = torch.randn(700, 64, device="cuda", dtype=dtype, requires_grad=True)
    # Every class many times: what is added by index would be added in any order.
    targets = torch.randint(0, 9, (700,), device="cuda")
    given = [hidden, head.weight]
    plain = nn.functional.cross_entropy(head(hidden).float(), targets, reduction="sum")
    right = torch.autograd.grad(plain / 9, given)
    runs = [torch.autograd.grad(head_loss(head, hidden, targets) / 9, given) for _ in range(2)]
    assert all(torch.equal(*pair) for pair in zip(*runs, strict=True))
    for ours, theirs in zip(runs[0], right, strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < (
            1e-5 if dtype.itemsize == 4 else 1e-2
        )
