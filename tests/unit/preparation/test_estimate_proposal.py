"""Settings that fit: the product is kept, and what is proposed is the fastest that fits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sightline.errors import ConfigError
from sightline.preparation.estimate import DEVICES, find_device
from sightline.preparation.estimate.costs import Cost
from sightline.preparation.estimate.proposal import (
    ladder_of,
    propose,
    propose_workers,
    remedies,
)
from sightline.preparation.estimate.settings import Settings

RUN = Settings(batch_size=2, accumulation=6, checkpointing=True)
IN_TOKENS = Settings(
    batch_size=1, accumulation=8, tokens_per_step=20_000, tokens_per_row=3000, checkpointing=True
)


def cost_of(settings: Settings, *, fixed: int = 100, plain: int = 50, again: int = 10) -> Cost:
    each = again if settings.checkpointing else plain
    size = settings.batch_size if settings.tokens_per_row is None else settings.tokens_per_row
    parts = {"weights": fixed, "activations": each * size}
    return Cost(settings=settings, stage=0, batch=(0,), parts=parts, kept={}, flops=0)


@pytest.mark.parametrize(
    ("memory", "batch_size", "checkpointing"),
    [
        (1000, 12, False),
        (400, 4, False),
        (170, 1, False),
        (160, 4, True),
        (123, 1, True),
    ],
)
def test_the_fastest_settings_that_fit(memory: int, batch_size: int, checkpointing: bool) -> None:
    found = propose(ladder_of(RUN, 900), cost_of, memory)
    assert found.fits
    chosen = found.cost.settings
    assert chosen.batch_size * chosen.accumulation == 12
    assert (chosen.batch_size, chosen.checkpointing) == (batch_size, checkpointing)
    assert found.cost.peak_bytes <= 0.9 * memory


def test_where_nothing_fits_the_smallest_settings_are_told() -> None:
    found = propose(ladder_of(RUN, 900), cost_of, 110)
    assert not found.fits
    assert found.cost.settings == Settings(batch_size=1, accumulation=12, checkpointing=True)


@pytest.mark.parametrize(
    ("memory", "tokens_per_row", "checkpointing"),
    [
        (100 + 50 * 16_384, 8192, False),
        (1_000_000, 16_384, False),
        (100 + 50 * 3400, 3000, False),
        (100 + 50 * 2400, 2048, False),
        (100 + 10 * 4000, 3000, True),
    ],
)
def test_a_run_in_tokens_is_told_how_long_its_rows_may_be(
    memory: int, tokens_per_row: int, checkpointing: bool
) -> None:
    found = propose(ladder_of(IN_TOKENS, 1500), cost_of, memory)
    chosen = found.cost.settings
    assert found.fits
    assert (chosen.tokens_per_row, chosen.checkpointing) == (tokens_per_row, checkpointing)
    # Everything else stays, the size of a step above all.
    assert replace(chosen, tokens_per_row=3000, checkpointing=True) == IN_TOKENS


def test_rows_hold_the_longest_sample_and_no_more_than_a_rank_has() -> None:
    def rows(longest: int, num_ranks: int = 1) -> list[int | None]:
        return [one.tokens_per_row for one in ladder_of(IN_TOKENS, longest, num_ranks=num_ranks)]

    assert rows(1500) == [2048, 3000, 4096, 8192, 16_384]
    assert rows(1500, num_ranks=4) == [2048, 3000, 4096]
    # A row of its own limit is no smaller for the sample that is alone in it anyway.
    assert rows(3500) == [4096, 8192, 16_384]
    assert rows(30_000) == [32_768]


def test_what_is_largest_is_named_first() -> None:
    parts = {
        "weights": 50,
        "optimizer": 10,
        "gradients": 5,
        "activations": 300,
        "logits": 0,
        "transient": 0,
    }
    cost = Cost(settings=RUN, stage=0, batch=(0,), parts=parts, kept={}, flops=0)
    told = remedies(cost, longest_tokens=9000, vision_tokens=8000, is_gpu=False)
    first, second, third = told
    assert "data.images.max_pixels" in first
    assert "8,000" in first
    assert "tuning.quantization" in second
    assert "tuning.lora.rank" in third
    with_gpus = remedies(cost, longest_tokens=9000, vision_tokens=8000, is_gpu=True)
    assert "training.parallel fsdp" in with_gpus[1]
    assert [one for one in with_gpus if one not in told] == with_gpus[1:2]


@pytest.mark.parametrize(
    ("pixels", "seconds", "is_gpu", "expected"),
    [
        (0, 1.0, True, 0),
        (1_000_000, 10.0, True, 0),
        (1_000_000, 0.02, True, 2),
        (900_000_000, 0.1, True, 7),
        (900_000_000, 0.1, False, 4),
        (90_000_000, None, True, 7),
    ],
)
def test_workers_prepare_a_batch_while_one_is_computed(
    pixels: int, seconds: float | None, is_gpu: bool, expected: int
) -> None:
    assert propose_workers(pixels, seconds, num_cores=8, is_gpu=is_gpu) == expected


def test_devices_are_found_in_any_case_and_unknown_ones_are_listed() -> None:
    assert find_device("rtx 4090") is DEVICES["RTX-4090"]
    assert not find_device("V100").has_bf16
    assert find_device("cpu").memory_bytes > 2**28
    with pytest.raises(ConfigError, match=r"B300.*H200, H100, A100-80.*cpu"):
        find_device("B300")


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_figures_of_devices_are_whole(device: object) -> None:
    known = DEVICES[device.name]  # type: ignore[attr-defined]
    assert 8 <= known.memory_gib <= 200
    assert known.half_tflops > known.single_tflops > 1  # type: ignore[operator]
    assert known.source
    assert known.has_bf16 == known.has_flash == (known.name not in ("T4", "V100", "V100-32"))
