"""What a checkpoint holds, file by file.

``weights.safetensors``     every tensor that trains in any stage
``optimizer.safetensors``   the optimizer's tensors; ``optimizer.json``: its groups and numbers
``rng.safetensors``         random number generators, of each process its own
``state.json``              the schedule, the log interval that is open, the run's origin
``trainer_state.json``      the Trainer's own
``manifest.json``           all of these with sizes and digests
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightline.errors import RunError
from sightline.records import read_json, write_json, writing
from sightline.training.checkpoints.optimizer import load_optimizer, optimizer_state
from sightline.training.checkpoints.random_state import States, set_random_states
from sightline.training.checkpoints.sharding import load_part, spec_of, whole
from sightline.training.checkpoints.tensors import TensorFiles, TensorWriter, WrittenFile

WEIGHTS, OPTIMIZER, RANDOM = "weights", "optimizer", "rng"
_NUMBERS = "optimizer.json"


def write_weights(folder: Path | None, parameters: Mapping[str, nn.Parameter]) -> list[WrittenFile]:
    """Write what trains; all processes take part.

    Args:
        folder: Where to; None in the processes that do not write.
        parameters: By name, the same in every process.

    Raises:
        RunError: It cannot be written.
    """
    return _write(folder, WEIGHTS, parameters)


def load_weights(folder: Path, parameters: Mapping[str, nn.Parameter]) -> None:
    """Fill what trains, each process its own part.

    Args:
        folder: The checkpoint.
        parameters: By name.

    Raises:
        RunError: The checkpoint has other tensors than the model.
    """
    files = TensorFiles(folder, WEIGHTS)
    missing = [name for name in parameters if name not in set(files.names)]
    unknown = [name for name in files.names if name not in parameters]
    if missing or unknown:
        raise RunError(
            f"{folder} has not the weights of this model: {len(missing)} are missing and "
            f"{len(unknown)} are unknown, {(*missing, *unknown)[0]} for one.\n"
            "Start the run anew with --overwrite."
        )
    for name, parameter in parameters.items():
        load_part(files, name, parameter)


def write_optimizer(
    folder: Path | None, optimizer: Any, parameters: Mapping[str, nn.Parameter]
) -> list[WrittenFile]:
    """Write the optimizer's state; all processes take part.

    Args:
        folder: Where to; None in the processes that do not write.
        optimizer: The optimizer.
        parameters: Those that it holds, by name.

    Raises:
        RunError: It cannot be written.
    """
    state = optimizer_state(optimizer, parameters)
    written = _write(folder, OPTIMIZER, state.tensors)
    if folder is not None:
        write_json(folder / _NUMBERS, state.numbers)
    return written


def load_optimizer_state(
    folder: Path, optimizer: Any, parameters: Mapping[str, nn.Parameter]
) -> None:
    """Let the optimizer know what it knew, each process its own part.

    Args:
        folder: The checkpoint.
        optimizer: The optimizer.
        parameters: Those that it holds, by name.

    Raises:
        RunError: The checkpoint is of another optimizer.
    """
    numbers = read_json(folder / _NUMBERS)
    load_optimizer(optimizer, parameters, TensorFiles(folder, OPTIMIZER), numbers)


def write_random_states(folder: Path, ranks: Sequence[States]) -> list[WrittenFile]:
    """Write the random number generators of all processes.

    Args:
        folder: Where to.
        ranks: Those of each process.

    Raises:
        RunError: They cannot be written.
    """
    tensors = {
        f"{rank}.{name}": tensor
        for rank, states in enumerate(ranks)
        for name, tensor in states.items()
    }
    return _write(folder, RANDOM, tensors)


def load_random_states(folder: Path, rank: int) -> None:
    """Set the random number generators of this process.

    Args:
        folder: The checkpoint.
        rank: Number of this process. One that the checkpoint does not know takes those of another,
            as all processes have the same at the start of a run.
    """
    files = TensorFiles(folder, RANDOM)
    known = 1 + max(int(name.partition(".")[0]) for name in files.names)
    prefix = f"{rank % known}."
    set_random_states(
        {
            name.removeprefix(prefix): files.tensor(name)
            for name in files.names
            if name.startswith(prefix)
        }
    )


def _write(
    folder: Path | None, stem: str, tensors: Mapping[str, torch.Tensor]
) -> list[WrittenFile]:
    """Write tensors one by one; all processes take part, and go through all of them.

    Raises:
        RunError: The file system refuses, told when every tensor was gathered.
    """
    # The largest dtypes first, so that every tensor stands at a multiple of its width.
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    if folder is None:
        for name in order:
            whole(tensors[name])
        return []
    specs = [spec_of(name, tensors[name]) for name in order]
    fault: OSError | None = None
    with TensorWriter(folder, stem, specs) as writer:
        for name in order:
            tensor = whole(tensors[name])
            if fault is None:
                try:
                    writer.write(tensor)
                except OSError as error:
                    # The other processes still wait for the tensors that are left.
                    fault = error
        with writing(folder / stem):
            if fault is not None:
                raise fault
            return writer.written()
