"""Packed attention on a GPU that is not there: what its kernel keeps, and what it computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.attention import varlen
from transformers import AttentionInterface

from sightline.model import Segments
from sightline.model.segments import LANGUAGE
from sightline.preparation.estimate import find_device
from sightline.preparation.estimate.kernels import Kernels, variable_length
from sightline.preparation.estimate.simulate import Pass, simulate
from sightline.preparation.estimate.timeline import Timeline
from sightline.preparation.estimate.tracker import Tracker
from sightline.training.loss import model_loss

LENGTHS = (5, 7, 7, 1)
TOKENS, HEADS, WIDTH = 20, 4, 16
ROW = [([(1, 16, 16)], 40, 20), ([(1, 8, 8)], 90, 20), ([(1, 8, 8)], 90, 20)]


class Attended:
    """Attention of one packed row, forward and back, on a device and in a dtype."""

    def __init__(
        self, planned: Callable, device: str, dtype: torch.dtype, key_heads: int = HEADS
    ) -> None:
        # A model that attends by segments has registered how.
        planned("qwen2_5_vl", {})
        attend: Any = AttentionInterface()[LANGUAGE]
        borders = torch.tensor([0, *LENGTHS], dtype=torch.int32).cumsum(0)
        kernels = Kernels(find_device(device), autocast=False)
        timeline = Timeline({})
        tracker = Tracker(timeline)
        with torch.device("meta"):
            query, key, value = (
                torch.empty(1, heads, TOKENS, WIDTH, dtype=dtype, requires_grad=True)
                for heads in (HEADS, key_heads, key_heads)
            )
        tracker.ignore([query, key, value])
        with variable_length(), tracker:
            with kernels:
                out, _ = attend(None, query, key, value, None, segments=Segments.of(borders))
            timeline.end_forward()
            self.kept = sum(timeline.kept().values())
            self.forward_flops = tracker.flops
            self.shape = tuple(out.shape)
            out.backward(torch.empty_like(out))
        self.flops = tracker.flops - self.forward_flops
        assert query.grad is not None
        assert query.grad.shape == query.shape


@pytest.fixture
def no_gpu_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("a GPU was asked for")

    monkeypatch.setattr(torch.cuda, "get_device_capability", asked)


@pytest.mark.usefixtures("no_gpu_is_asked")
@pytest.mark.parametrize("key_heads", [HEADS, 1])
def test_a_gpu_keeps_queries_keys_values_the_output_and_a_sum_a_row(
    planned: Callable, key_heads: int
) -> None:
    ran = Attended(planned, "H100", torch.bfloat16, key_heads)
    # Heads lie beside each other for the kernel: queries, keys and values are laid out anew; and
    # what comes out, and the sums, float32. A seed and borders are numbers of a few bytes.
    row = TOKENS * HEADS * WIDTH * 2
    assert ran.shape == (1, TOKENS, HEADS, WIDTH)
    assert ran.kept == pytest.approx(4 * row + TOKENS * HEADS * 4, abs=150)


@pytest.mark.parametrize(("device", "dtype"), [("H100", torch.bfloat16), ("cpu", torch.float32)])
def test_pairs_of_one_sample_are_computed_and_no_others(
    planned: Callable, device: str, dtype: torch.dtype
) -> None:
    ran = Attended(planned, device, dtype)
    pairs = sum(length**2 for length in LENGTHS) * HEADS * WIDTH
    # Two matrix products forward; five back.
    assert ran.forward_flops == 2 * 2 * pairs
    assert ran.flops == 2 * 5 * pairs


def test_a_cpu_joins_what_comes_out_of_its_segments(planned: Callable) -> None:
    ran = Attended(planned, "cpu", torch.float32)
    row = TOKENS * HEADS * WIDTH * 4
    # What each run of segments gave, and all of it joined; queries, keys and values are views.
    assert ran.kept == pytest.approx(2 * row + TOKENS * HEADS * 4, abs=150)


def test_what_torch_brings_is_there_again(planned: Callable) -> None:
    before = varlen.varlen_attn
    Attended(planned, "H100", torch.bfloat16)
    assert varlen.varlen_attn is before


@pytest.mark.usefixtures("no_gpu_is_asked")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_packed_step_of_a_gpu_keeps_no_square_of_its_row(
    planned: Callable, checkpointing: bool
) -> None:
    one = planned("qwen2_5_vl", {}, dtype=torch.bfloat16)

    def ran(samples: Any) -> Pass:
        return simulate(
            one.model,
            one.family,
            one.packed_row(samples),
            model_loss,
            find_device("H100"),
            checkpointing=checkpointing,
            autocast=True,
            accumulates=True,
        )

    short, long = ran(ROW), ran(ROW * 4)
    # Four times the row: no more than four times the memory, and attention no more than that.
    assert long.kept["activations"] < 4.1 * short.kept["activations"]
    assert long.peak_bytes < 4.1 * short.peak_bytes
    assert long.flops == pytest.approx(4 * short.flops, rel=0.02)
