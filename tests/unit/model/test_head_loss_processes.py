"""Head and loss on two processes, of which one may have nothing to compute.

Run by torchrun this file is one of the processes: it compares the gradients that DDP or FSDP made
of unequal numbers of tokens with those of all tokens on one.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from sightline.model.head_loss import chunked, head_loss, module

NUM_CLASSES, WIDTH = 8192, 8
# Tokens of a chunk, and of one through a module: what they are with a vocabulary of 151,936.
CHUNK, CHUNK_OF_MODULE = 220, 55
TOKENS = ((0, 300), (300, 20), (0, 0), (120, 0))
CASES = {
    "ddp": "ddp",
    "ddp, adapted": "ddp",
    "fsdp": "fsdp",
    "fsdp, a head of its own": "fsdp",
    "fsdp, adapted": "fsdp",
    "fsdp, adapted, parts of their own": "fsdp",
}


@pytest.fixture(scope="module")
def ran() -> subprocess.CompletedProcess[str]:
    """All cases, one after the other in the same two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*command, str(Path(__file__))],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.mark.parametrize("counts", TOKENS)
@pytest.mark.parametrize("case", CASES)
def test_unequal_ranks_neither_hang_nor_differ(
    case: str, counts: tuple[int, int], ran: subprocess.CompletedProcess[str]
) -> None:
    said = [line for line in ran.stdout.splitlines() if line.startswith(f"{case}: {counts}")]
    assert said == [f"{case}: {counts} equal"] * 2, ran.stderr


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(WIDTH, WIDTH)
        self.lm_head = nn.Linear(WIDTH, NUM_CLASSES, bias=False)

    def forward(self, states: torch.Tensor, targets: torch.Tensor, *, plain: bool) -> torch.Tensor:
        hidden = self.body(states)
        if plain:
            logits = self.lm_head(hidden)
            return nn.functional.cross_entropy(logits, targets, reduction="sum")
        return head_loss(self.lm_head, hidden, targets)


def _make(case: str) -> Any:
    torch.manual_seed(0)
    model: Any = _Model()
    if "adapted" in case:
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["body", "lm_head"]))
        for name, one in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(one.data, std=0.3)
        model = model.get_base_model()
    return model


def _distribute(case: str, model: Any) -> Any:
    if CASES[case] == "ddp":
        return DistributedDataParallel(model)
    mesh = init_device_mesh("cpu", (2,))
    if "a head of its own" in case:
        fully_shard(model.lm_head, mesh=mesh)
    if "parts of their own" in case:
        fully_shard(model.lm_head.base_layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def _check(case: str, counts: tuple[int, int], rank: int) -> None:
    model = _make(case)
    alone = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(sum(counts))
    states = torch.randn(sum(counts), WIDTH, generator=generator)
    targets = torch.randint(0, NUM_CLASSES, (sum(counts),), generator=generator)
    number = max(sum(counts), 1)
    (alone(states, targets, plain=True) / number).backward()
    mine = slice(0, counts[0]) if rank == 0 else slice(counts[0], None)
    shared = _distribute(case, model)
    # Gradients are averaged over the two.
    (2 * shared(states[mine], targets[mine], plain=False) / number).backward()
    for (name, right), one in zip(alone.named_parameters(), model.parameters(), strict=True):
        if right.grad is None:
            assert one.grad is None, name
            continue
        found = one.grad.full_tensor() if isinstance(one.grad, DTensor) else one.grad
        error = float((found - right.grad).norm())
        assert error <= 1e-6 * float(right.grad.norm()), (case, counts, name, error)
    # In one piece: the other process writes to the same pipe.
    sys.stdout.write(f"{case}: {counts} equal\n")
    sys.stdout.flush()


def _main() -> None:
    dist.init_process_group("gloo")
    chunked._SMALLEST = chunked._LARGEST = CHUNK * NUM_CLASSES * 4
    module._LOGITS = CHUNK_OF_MODULE * NUM_CLASSES * 4
    assert chunked.chunk_length(300, NUM_CLASSES, WIDTH) == 150
    for case in CASES:
        for counts in TOKENS:
            _check(case, counts, dist.get_rank())
    dist.destroy_process_group()


if __name__ == "__main__":
    _main()
