"""Norms, largest values and clipping of tensors; slices of them are in tests/invariants."""

from __future__ import annotations

import pytest
import torch

from sightline.training.parallel import (
    any_nonzero,
    clip_gradients,
    largest,
    norms,
    over_slices,
    whole,
)


def test_norms_of_groups_are_those_of_all_their_values() -> None:
    groups = [[torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])], [], [torch.tensor([2.0])]]
    assert norms(groups).tolist() == [5.0, 0.0, 2.0]
    assert norms([[], []]).tolist() == [0.0, 0.0]


def test_a_norm_of_what_is_not_finite_is_not() -> None:
    assert torch.isnan(norms([[torch.tensor([1.0, float("nan")])]]))[0]


def test_any_value_that_is_not_zero_counts() -> None:
    found = any_nonzero([torch.zeros(3), torch.tensor([0.0, -1e-30]), torch.tensor([torch.nan])])
    assert found == [False, True, True]
    assert any_nonzero([]) == []


def test_the_largest_is_a_magnitude() -> None:
    assert largest(torch.tensor([1.0, -3.0])) == 3.0
    assert largest(torch.zeros(0)) == 0.0


@pytest.mark.parametrize("most", [0.5, 1e9])
def test_clipping_is_torchs(most: float) -> None:
    torch.manual_seed(0)
    ours = [torch.randn(4, 3), torch.randn(5)]
    theirs = [torch.nn.Parameter(torch.zeros_like(one)) for one in ours]
    for parameter, gradient in zip(theirs, ours, strict=True):
        parameter.grad = gradient.clone()
    norm = torch.nn.utils.clip_grad_norm_(theirs, most)
    assert torch.allclose(clip_gradients(ours, most), norm)
    for parameter, gradient in zip(theirs, ours, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(gradient, parameter.grad)


def test_what_nobody_shares_is_looked_at_as_it_is() -> None:
    tensor = torch.arange(4.0)
    assert whole(tensor).data_ptr() == tensor.data_ptr()
    assert over_slices([tensor, tensor * 2], torch.sum).tolist() == [6.0, 12.0]
