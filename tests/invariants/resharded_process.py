"""Processes that save or load a sharded model together, for several cases with one start.

Arguments: lines of ``PROCESSES FOLDER WHAT OUT``. For each this process forks so many others, which
meet through a file. What they do: ``save``: train some steps, write weights, optimizer and random
numbers of all processes, train on, and write what came of it. ``load``: begin with other weights,
load, train on likewise. ``fail``: save where the first process cannot write; each process writes
what it was told.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from sightline.errors import RunError
from sightline.training.checkpoints import content
from sightline.training.checkpoints.manifest import write_manifest
from sightline.training.checkpoints.random_state import random_states
from sightline.training.checkpoints.sharding import whole
from sightline.training.checkpoints.tensors import TensorWriter
from sightline.training.ranks import from_all, together

SECONDS = 60.0
WORLD, RANK = 1, 0
# What does not divide by the processes, too: 7 rows on 2 or 4, and 3 on 4, where one has none.
SIZES = (5, 7, 3, 4)


class Model(nn.Module):
    """Layers of odd sizes, a number without dimensions, and a part that never trains."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(SIZES))
        self.scale = nn.Parameter(torch.rand(1))
        self.late = nn.Parameter(torch.rand(6, 2))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            inputs = torch.tanh(layer(inputs))
        return (inputs * self.scale).square().mean()


def main(cases: list[str]) -> int:
    for case in cases:
        count, folder, what, out = case.split()
        Path(folder).mkdir(exist_ok=True)
        ranks = [
            _forked(rank, int(count), Path(folder), what, Path(out)) for rank in range(int(count))
        ]
        if not _all_ended_well(ranks):
            print(f"failed: {case}", file=sys.stderr)
            return 1
    return 0


def _forked(rank: int, world: int, folder: Path, what: str, out: Path) -> int:
    child = os.fork()
    if child:
        return child
    global WORLD, RANK
    WORLD, RANK = world, rank
    # A fork's pool of threads is made anew by who first asks; threads of autograd that ask at the
    # same time would fail ("Invalid thread pool!", pytorch's ATen/ParallelOpenMP.cpp).
    torch.set_num_threads(1)
    try:
        if world > 1:
            store = f"file://{out}.store"
            dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
        _act(folder, what, out)
        if world > 1:
            dist.destroy_process_group()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _all_ended_well(ranks: list[int]) -> bool:
    """Wait for all; one that fails, or waits too long, ends the others."""
    deadline = time.monotonic() + SECONDS
    is_well = True
    while ranks:
        for rank in list(ranks):
            ended, status = os.waitpid(rank, os.WNOHANG)
            if ended:
                ranks.remove(rank)
                is_well = is_well and status == 0
        if ranks and (not is_well or time.monotonic() > deadline):
            for rank in ranks:
                os.kill(rank, signal.SIGKILL)
            is_well = False
        time.sleep(0.005)
    return is_well


def _act(folder: Path, what: str, out: Path) -> None:
    model = Model(seed=1 if what == "load" else 0)
    if WORLD > 1:
        mesh = init_device_mesh("cpu", (WORLD,))
        for layer in model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.05)
    if what == "load":
        content.load_weights(folder, parameters)
        content.load_optimizer_state(folder, optimizer, parameters)
    else:
        _train(model, optimizer, 0, 3)
        torch.manual_seed(100 + RANK)
        if what == "fail":
            out.with_suffix(f".{RANK}").write_text(_failing(folder, parameters), encoding="utf-8")
            return
        _save(folder, parameters, optimizer)
    held = sum(_own(parameter).numel() for parameter in parameters.values())
    if what == "load":
        content.load_random_states(folder, RANK)
    drawn = from_all(torch.rand(1).item())
    _train(model, optimizer, 3, 6)
    tensors = {name: whole(parameter).clone() for name, parameter in parameters.items()}
    tensors |= {f"drawn.{rank}": torch.tensor(value) for rank, value in enumerate(drawn)}
    tensors["held"] = torch.tensor(from_all(held))
    if RANK == 0:
        save_file(tensors, str(out))


def _own(tensor: Any) -> torch.Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if WORLD > 1 else tensor


def _save(
    folder: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    place = folder if RANK == 0 else None
    ranks = from_all(random_states())
    with together():
        known = content.write_weights(place, parameters)
        known += content.write_optimizer(place, optimizer, parameters)
    with together():
        if RANK == 0:
            known += content.write_random_states(folder, ranks)
            write_manifest(folder, known)


def _failing(folder: Path, parameters: dict[str, nn.Parameter]) -> str:
    """The disk becomes full at the first tensor, in the process that writes."""

    def full(self: TensorWriter, tensor: torch.Tensor) -> None:
        raise OSError(28, "No space left on device")

    TensorWriter.write = full
    try:
        with together():
            content.write_weights(folder if RANK == 0 else None, parameters)
    except RunError as error:
        return str(error)
    return "went on"


def _train(model: Model, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        inputs = torch.linspace(-1, 1, 4 * SIZES[0]).reshape(4, SIZES[0]) + step
        part = inputs.chunk(WORLD)[RANK]
        model(part).backward()
        optimizer.step()
        optimizer.zero_grad()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
