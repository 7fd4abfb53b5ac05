"""The end of memory says what was in hand, what it costs, and which settings need less."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightline.config import RunConfig, load_config
from sightline.errors import DataError, OutOfMemoryError
from sightline.training.memory_usage import Usage, memory_kind, usage_of
from sightline.training.out_of_memory import (
    Held,
    HeldSample,
    out_of_memory_explained,
    settings_that_need_less,
)

GIB = 2**30
CPU_TEXT = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)"  # noqa: E501
GPU_TEXT = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.11 GiB"


def configured(tmp_path: Path, *overrides: str) -> RunConfig:
    path = tmp_path / "run.yaml"
    path.write_text("model: tiny:qwen2_vl\ndata: {train: train.jsonl}\noutput: run\n")
    return load_config(path, list(overrides))


def sample(number: int, tokens: int, vision: int = 0) -> HeldSample:
    return HeldSample(
        origin=f"train.jsonl:{number}",
        num_tokens=tokens,
        num_vision_tokens=vision,
        num_patches=4 * vision,
    )


def advice(
    tmp_path: Path, samples: Sequence[HeldSample], *overrides: str, **usage: Any
) -> list[str]:
    config = configured(tmp_path, *overrides)
    return settings_that_need_less(samples, config, Usage(place="this machine", **usage))


def too_large() -> MemoryError:
    """What numpy raises."""
    try:
        np.empty(2**58)
    except MemoryError as error:
        return error
    raise AssertionError("no machine has that much")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError(GPU_TEXT), "gpu"),
        (RuntimeError(GPU_TEXT), "gpu"),
        (RuntimeError("CUBLAS error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "gpu"),
        (RuntimeError(CPU_TEXT), "cpu"),
        (RuntimeError("std::bad_alloc"), "cpu"),
        (MemoryError(), "cpu"),
        (too_large(), "cpu"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "cpu"),
        (OSError(errno.ENOENT, "No such file"), None),
        (RuntimeError("shapes differ"), None),
        (ValueError("out of memory"), None),
        (DataError("can't allocate memory"), None),
    ],
)
def test_which_errors_are_the_end_of_memory(error: Exception, kind: str | None) -> None:
    assert memory_kind(error) == kind


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(CPU_TEXT, 8 * GIB), (GPU_TEXT, int(2.5 * GIB)), ("std::bad_alloc", None)],
)
def test_what_was_asked_for(text: str, wanted: int | None) -> None:
    assert usage_of("cpu", text).wanted == wanted


def test_every_other_error_passes(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), out_of_memory_explained(configured(tmp_path)):
        _ = 1 / 0


def test_the_message(tmp_path: Path) -> None:
    config = configured(tmp_path, "training.tokens_per_row=8192", "training.tokens_per_step=20000")
    held = Held(samples=[sample(3, 900, 400), sample(31, 5020, 4800), sample(7, 2000)])
    with pytest.raises(OutOfMemoryError) as caught, out_of_memory_explained(config, lambda: held):
        raise RuntimeError(CPU_TEXT)
    assert caught.value.exit_code == 3
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("out of memory on this machine: 8.0 GiB more were asked for")
    assert lines[1:5] == [
        "It was on 3 samples with 7,920 tokens, 5,200 of them vision (20,800 patches):",
        "  train.jsonl:31: 5,020 tokens, 4,800 vision",
        "  train.jsonl:7: 2,000 tokens, 0 vision",
        "  train.jsonl:3: 900 tokens, 400 vision",
    ]
    assert lines[5:7] == ["What needs less:", "  training.tokens_per_row: 5020 (now 8,192)"]


def test_many_samples_are_counted(tmp_path: Path) -> None:
    held = Held(samples=[sample(number, 100) for number in range(20)])
    with (
        pytest.raises(OutOfMemoryError, match="  and 14 shorter ones\n"),
        out_of_memory_explained(configured(tmp_path), lambda: held),
    ):
        raise MemoryError


def test_a_message_comes_even_where_nothing_more_can_be_read(tmp_path: Path) -> None:
    def held() -> Held:
        raise MemoryError

    with (
        pytest.raises(OutOfMemoryError, match=r"^out of memory on this machine"),
        out_of_memory_explained(configured(tmp_path), held),
    ):
        raise MemoryError


def test_tensors_of_the_step_are_given_back_before_the_message(tmp_path: Path) -> None:
    freed = []

    class Tensor:
        def __del__(self) -> None:
            freed.append(True)

    def step() -> None:
        _activations = Tensor()
        raise MemoryError

    def held() -> Held:
        assert freed
        return Held()

    with pytest.raises(OutOfMemoryError), out_of_memory_explained(configured(tmp_path), held):
        step()


def test_checkpointing_comes_first(tmp_path: Path) -> None:
    found = advice(tmp_path, [sample(1, 100)], "training.gradient_checkpointing=false")
    assert found[0] == "training.gradient_checkpointing: true"
    assert not any("checkpointing" in one for one in advice(tmp_path, [sample(1, 100)]))


def test_a_batch_becomes_smaller_and_the_step_stays(tmp_path: Path) -> None:
    batch = ["training.batch_size=6", "training.gradient_accumulation=4"]
    found = advice(tmp_path, [sample(number, 100) for number in range(6)], *batch)
    assert found[0] == (
        "training.batch_size: 3 with training.gradient_accumulation: 8 (now 6 and 4)"
    )


def test_what_fits_is_taken_from_what_was_needed(tmp_path: Path) -> None:
    """Of 10 GiB for the batch 5 are there, less a margin."""
    memory = {"in_use": 8 * GIB, "wanted": 4 * GIB, "resting": 2 * GIB, "limit": 7 * GIB}
    assert Usage(place="", **memory).share_that_fits == 0.425
    rows = ["training.tokens_per_step=20000", "training.tokens_per_row=10000"]
    found = advice(tmp_path, [sample(number, 1000) for number in range(10)], *rows, **memory)
    assert found[0] == "training.tokens_per_row: 4250 (now 10,000)"


@pytest.mark.parametrize(
    "memory",
    [
        {"in_use": 8, "wanted": None, "resting": 2, "limit": 6},
        # Weights and optimizer alone are too much, or the batch would have fitted.
        {"in_use": 8, "wanted": 4, "resting": 7, "limit": 6},
        {"in_use": 3, "wanted": 1, "resting": 2, "limit": 60},
    ],
)
def test_no_share_is_made_up(memory: dict[str, int | None]) -> None:
    assert Usage(place="", **memory).share_that_fits is None


def test_one_sample_has_to_become_shorter(tmp_path: Path) -> None:
    found = advice(tmp_path, [sample(1, 5000, 4800)], "data.images.max_pixels=1000000")
    assert found[0] == "data.images.max_pixels or data.videos.max_pixels: 500,000 (now 1,000,000)"
    assert found[1] == "data.max_length: 2500; data.fit says how"
    assert "pixels" not in advice(tmp_path, [sample(1, 5000)])[0]


def test_without_a_batch_it_is_what_trains(tmp_path: Path) -> None:
    found = advice(tmp_path, [])
    assert found[0].startswith("tuning: lora in place of full")
    assert found[1] == "tuning.quantization: nf4"


def test_processes_can_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert any(one.startswith("training.parallel: fsdp") for one in advice(tmp_path, []))
    shared = advice(tmp_path, [], "training.parallel=fsdp")
    assert not any("training.parallel" in one for one in shared)


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from sightline.config import load_config
from sightline.errors import OutOfMemoryError
from sightline.training.out_of_memory import out_of_memory_explained
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
config = load_config(Path(sys.argv[1]), [])
try:
    with out_of_memory_explained(config):
        held = torch.ones(2**27)
        torch.ones(2**29) if sys.argv[2] == "torch" else bytearray(2**31)
except OutOfMemoryError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize("who", ["torch", "python"])
def test_memory_that_really_ends(tmp_path: Path, who: str) -> None:
    configured(tmp_path)
    made = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "run.yaml"), who],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert made.stdout.startswith("out of memory on this machine: "), made.stderr
    assert ("2.0 GiB more were asked for" in made.stdout) == (who == "torch")
    assert "that it may." in made.stdout
