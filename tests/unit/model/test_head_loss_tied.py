"""A weight that is head and embedding: one gradient in memory, the same in every bit."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sightline.model.head_loss import head_loss, tied_embedding

CLASSES, WIDTH = 700, 16


class Tied(nn.Module):
    """An embedding, something that trains between, and a head of the same weight."""

    def __init__(self, *, padding_idx: int | None = None, bias: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(CLASSES, WIDTH, padding_idx=padding_idx)
        self.body = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES, bias=bias)
        self.head.weight = self.embedding.weight

    def loss(self, ids: torch.Tensor, *, is_held: bool, kind: Any = "auto") -> torch.Tensor:
        """The sum over all tokens but the last of each row."""
        how = tied_embedding(self.embedding, self.head) if is_held else nullcontext()
        with how as tied:
            hidden = self.body(self.embedding(ids)).tanh()
        targets = ids[:, 1:].flatten()
        return head_loss(self.head, hidden[:, :-1].flatten(0, 1), targets, kind=kind, tied=tied)

    def gradients(self, *batches: torch.Tensor, **how: Any) -> dict[str, torch.Tensor]:
        """Of the mean over all of the batches, one after the other."""
        self.zero_grad()
        for ids in batches:
            (self.loss(ids, **how) / 7).backward()
        return {name: one.grad.clone() for name, one in self.named_parameters()}


def ids_of(seed: int = 1) -> torch.Tensor:
    """Tokens of which many come more than once."""
    torch.manual_seed(seed)
    return torch.randint(0, 40, (3, 50))


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("padding_idx", [None, 3, 600])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_gradient_is_that_of_autograd(
    padding_idx: int | None, bias: bool, dtype: torch.dtype
) -> None:
    model = Tied(padding_idx=padding_idx, bias=bias).to(dtype)
    batches = [ids_of(1), ids_of(2)]
    found = model.gradients(*batches, is_held=True)
    assert same(found, model.gradients(*batches, is_held=False))
    assert float(found["embedding.weight"].abs().sum()) > 0


@pytest.mark.skipif(
    not hasattr(nn.functional, "linear_cross_entropy"), reason="this torch has no such operation"
)
def test_a_head_that_leaves_its_gradient_to_autograd_does(monkeypatch: Any) -> None:
    model = Tied()
    found = model.gradients(ids_of(), is_held=True, kind="torch")
    assert same(found, model.gradients(ids_of(), is_held=False, kind="torch"))


class Large(TorchDispatchMode):
    """Counts new tensors as large as the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.pointers: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {one.data_ptr() for one in args if isinstance(one, torch.Tensor)}
        made = func(*args, **(kwargs or {}))
        is_large = isinstance(made, torch.Tensor) and made.shape == (CLASSES, WIDTH)
        if is_large and made.data_ptr() not in given:
            self.pointers.append(made.data_ptr())
        return made


@pytest.mark.parametrize("is_held", [True, False])
def test_no_other_of_its_size_is_made(is_held: bool) -> None:
    model = Tied()
    loss = model.loss(ids_of(), is_held=is_held)
    with Large() as large:
        loss.backward()
    assert (large.pointers == []) == is_held


def test_it_is_not_copied_on_its_way_to_the_weight() -> None:
    model = Tied()
    with tied_embedding(model.embedding, model.head) as tied:
        assert tied is not None
        hidden = model.body(model.embedding(ids_of()))
    targets = torch.arange(150)
    loss = head_loss(model.head, hidden.flatten(0, 1), targets, tied=tied)
    pointers: list[int] = []
    hidden.register_hook(lambda _: pointers.append(tied.of_head.data_ptr()))
    loss.backward()
    assert model.head.weight.grad.data_ptr() == pointers[0]
    assert tied.of_head is None


def _lora(model: Tied) -> None:
    model.head = nn.Sequential(model.head)  # type: ignore[assignment]


def _apart(model: Tied) -> None:
    model.head.weight = nn.Parameter(model.head.weight.detach().clone())


def _patched(model: Tied) -> None:
    model.embedding.forward = lambda ids: nn.functional.embedding(ids, model.embedding.weight)


@pytest.mark.parametrize(
    "change",
    [
        _lora,
        _apart,
        _patched,
        lambda model: model.embedding.weight.requires_grad_(False),
        lambda model: setattr(model.embedding, "scale_grad_by_freq", True),
        lambda model: setattr(model.embedding, "sparse", True),
        lambda model: setattr(model.embedding, "max_norm", 1.0),
    ],
)
def test_what_is_not_plain_is_left_alone(change: Any) -> None:
    model = Tied()
    with tied_embedding(model.embedding, model.head) as tied:
        assert tied is not None
    change(model)
    before = dict(vars(model.embedding))
    with tied_embedding(model.embedding, model.head) as tied:
        assert tied is None
        assert vars(model.embedding) == before


def test_the_embedding_is_put_back_even_by_an_error() -> None:
    model = Tied()
    with pytest.raises(IndexError), tied_embedding(model.embedding, model.head):
        model.embedding(torch.tensor([CLASSES]))
    assert "forward" not in vars(model.embedding)
    with torch.no_grad(), tied_embedding(model.embedding, model.head) as tied:
        assert tied is None


def test_processes_that_share_gradients_keep_to_autograd(monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    model = Tied()
    with tied_embedding(model.embedding, model.head) as tied:
        assert tied is None
