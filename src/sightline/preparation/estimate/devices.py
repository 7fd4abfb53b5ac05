"""Devices as data, from their data sheets, and the machine at hand."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sightline.errors import ConfigError

GIB = 2**30
_FLASH_CAPABILITY = (8, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """What a step runs on.

    Attributes:
        name: As ``--device`` takes it.
        title: Its full name.
        memory_gib: Its memory; what data sheets call GB.
        half_tflops: Dense matrix products of bf16, or of fp16 where it has no bf16, with sums in
            fp32: 10 ** 12 operations a second. None where it is not known.
        single_tflops: The same for fp32 without tensor cores, as torch computes it by default.
        has_bf16: Whether it computes in bf16.
        has_flash: Whether torch's flash attention runs on it: compute capability 8.0 and later.
        is_gpu: Whether it is one.
        source: Where the figures are from.
    """

    name: str
    title: str
    memory_gib: float
    half_tflops: float | None
    single_tflops: float | None
    has_bf16: bool
    has_flash: bool = True
    is_gpu: bool = True
    source: str

    @property
    def memory_bytes(self) -> int:
        """Its memory."""
        return round(self.memory_gib * GIB)

    def tflops(self, dtype: torch.dtype) -> float | None:
        """Dense matrix products of a dtype, 10 ** 12 operations a second; None if not known."""
        return self.single_tflops if dtype == torch.float32 else self.half_tflops


def _old(**figures: object) -> Device:
    return Device(has_bf16=False, has_flash=False, **figures)  # pyright: ignore[reportArgumentType]


DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        Device(
            name="H200",
            title="NVIDIA H200 SXM",
            memory_gib=141,
            half_tflops=989,
            single_tflops=67,
            has_bf16=True,
            source="NVIDIA H200 Tensor Core GPU data sheet; without sparsity",
        ),
        Device(
            name="H100",
            title="NVIDIA H100 SXM",
            memory_gib=80,
            half_tflops=989,
            single_tflops=67,
            has_bf16=True,
            source="NVIDIA H100 Tensor Core GPU data sheet; without sparsity",
        ),
        Device(
            name="A100-80",
            title="NVIDIA A100 80GB",
            memory_gib=80,
            half_tflops=312,
            single_tflops=19.5,
            has_bf16=True,
            source="NVIDIA A100 Tensor Core GPU data sheet",
        ),
        Device(
            name="A100-40",
            title="NVIDIA A100 40GB",
            memory_gib=40,
            half_tflops=312,
            single_tflops=19.5,
            has_bf16=True,
            source="NVIDIA A100 Tensor Core GPU data sheet",
        ),
        Device(
            name="L40S",
            title="NVIDIA L40S",
            memory_gib=48,
            half_tflops=362,
            single_tflops=91.6,
            has_bf16=True,
            source="NVIDIA L40S data sheet; without sparsity",
        ),
        Device(
            name="L4",
            title="NVIDIA L4",
            memory_gib=24,
            half_tflops=121,
            single_tflops=30.3,
            has_bf16=True,
            source="NVIDIA L4 data sheet; half of the figure with sparsity",
        ),
        Device(
            name="A10G",
            title="NVIDIA A10G",
            memory_gib=24,
            half_tflops=70,
            single_tflops=35,
            has_bf16=True,
            source="NVIDIA A10G data sheet; without sparsity",
        ),
        Device(
            name="RTX-4090",
            title="NVIDIA GeForce RTX 4090",
            memory_gib=24,
            half_tflops=165.2,
            single_tflops=82.6,
            has_bf16=True,
            source="NVIDIA Ada GPU Architecture, appendix A; sums in fp32",
        ),
        Device(
            name="RTX-3090",
            title="NVIDIA GeForce RTX 3090",
            memory_gib=24,
            half_tflops=71,
            single_tflops=35.6,
            has_bf16=True,
            source="NVIDIA Ampere GA102 GPU Architecture, appendix A; sums in fp32",
        ),
        _old(
            name="T4",
            title="NVIDIA T4",
            memory_gib=16,
            half_tflops=65,
            single_tflops=8.1,
            source="NVIDIA T4 Tensor Core GPU data sheet",
        ),
        _old(
            name="V100",
            title="NVIDIA V100 SXM2 16GB",
            memory_gib=16,
            half_tflops=125,
            single_tflops=15.7,
            source="NVIDIA V100 Tensor Core GPU data sheet",
        ),
        _old(
            name="V100-32",
            title="NVIDIA V100 SXM2 32GB",
            memory_gib=32,
            half_tflops=125,
            single_tflops=15.7,
            source="NVIDIA V100 Tensor Core GPU data sheet",
        ),
    )
}
"""Devices with figures from their data sheets."""

NAMES: tuple[str, ...] = (*DEVICES, "cpu")
"""What ``--device`` takes."""


def find_device(name: str | None) -> Device:
    """A device by its name.

    Args:
        name: One of `NAMES`, in any case; None for this machine: its GPU, or its cores.

    Raises:
        ConfigError: There is no such device.
    """
    if name is None:
        return _own_gpu() if torch.cuda.is_available() else _own_cpu()
    wanted = name.lower().replace("_", "-").replace(" ", "-")
    if wanted == "cpu":
        return _own_cpu()
    for known, device in DEVICES.items():
        if known.lower() == wanted:
            return device
    raise ConfigError(
        f"--device {name}: no such device is known. Known are {', '.join(NAMES)}.\n"
        "Leave it out for this machine."
    )


def _own_gpu() -> Device:
    """The GPU of this machine, with the data sheet's figures where it is one of these."""
    properties = torch.cuda.get_device_properties(0)
    memory = properties.total_memory / GIB
    title = properties.name.upper().replace(" ", "-")
    named = sorted(DEVICES.values(), key=lambda device: len(device.name), reverse=True)
    for device in named:
        if (
            device.name.partition("-")[0] in title.split("-")
            and device.name.split("-")[-1] in title
        ):
            return replace(device, memory_gib=memory, title=properties.name)
    return Device(
        name="gpu",
        title=properties.name,
        memory_gib=memory,
        half_tflops=_matmul_tflops("cuda", torch.bfloat16),
        single_tflops=_matmul_tflops("cuda", torch.float32),
        has_bf16=torch.cuda.is_bf16_supported(including_emulation=False),
        has_flash=torch.cuda.get_device_capability(0) >= _FLASH_CAPABILITY,
        source="its matrix products, measured now",
    )


def _own_cpu() -> Device:
    """The cores of this machine."""
    return Device(
        name="cpu",
        title=f"CPU, {torch.get_num_threads()} threads",
        memory_gib=_own_memory_bytes() / GIB,
        half_tflops=None,
        single_tflops=_matmul_tflops("cpu", torch.float32),
        has_bf16=False,
        is_gpu=False,
        source="its matrix products, measured now",
    )


def _own_memory_bytes() -> int:
    """Memory of this machine, or what its container may use."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (told := limit.read_text().strip()).isdigit():
        return min(whole, int(told))
    return whole


def _matmul_tflops(device: str, dtype: torch.dtype, *, side: int = 1024, turns: int = 4) -> float:
    """The fastest of some matrix products, 10 ** 12 operations a second."""
    one = torch.ones(side, side, device=device, dtype=dtype)
    times = []
    for _ in range(turns):
        began = time.perf_counter()
        float((one @ one)[0, 0])
        times.append(time.perf_counter() - began)
    return 2 * side**3 / min(times) / 1e12
