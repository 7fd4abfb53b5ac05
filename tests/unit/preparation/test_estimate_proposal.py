"""Settings that fit: the product is kept, and what is proposed is the fastest that fits."""

from __future__ import annotations

import pytest

from sightline.errors import ConfigError
from sightline.preparation.estimate import DEVICES, find_device
from sightline.preparation.estimate.costs import Cost, Settings
from sightline.preparation.estimate.proposal import propose, propose_workers, remedies

RUN = Settings(batch_size=2, accumulation=6, checkpointing=True)


def cost_of(settings: Settings, *, fixed: int = 100, plain: int = 50, again: int = 10) -> Cost:
    each = again if settings.checkpointing else plain
    parts = {"weights": fixed, "activations": each * settings.batch_size}
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
    found = propose(RUN, cost_of, memory)
    assert found.fits
    chosen = found.cost.settings
    assert chosen.batch_size * chosen.accumulation == 12
    assert (chosen.batch_size, chosen.checkpointing) == (batch_size, checkpointing)
    assert found.cost.peak_bytes <= 0.9 * memory


def test_where_nothing_fits_the_smallest_settings_are_told() -> None:
    found = propose(RUN, cost_of, 110)
    assert not found.fits
    assert found.cost.settings == Settings(batch_size=1, accumulation=12, checkpointing=True)


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
    first, second, third = remedies(cost, longest_tokens=9000, vision_tokens=8000)
    assert "data.images.max_pixels" in first
    assert "8,000" in first
    assert "tuning.quantization" in second
    assert "tuning.lora.rank" in third


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
