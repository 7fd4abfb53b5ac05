"""The optimizer's state by the names of parameters: tensors apart from numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from sightline.errors import RunError
from sightline.training.checkpoints.sharding import load_part
from sightline.training.checkpoints.tensors import TensorFiles

# No name of a parameter has it.
_BETWEEN = "::"


class OptimizerState(NamedTuple):
    """The state of an optimizer.

    Attributes:
        tensors: By ``PARAMETER::KEY``, such as ``exp_avg``; as they are, `DTensor` or plain.
        numbers: For JSON: the optimizer's class, its groups with their numbers and the names of
            their parameters, and what a state has beside tensors.
    """

    tensors: dict[str, torch.Tensor]
    numbers: dict[str, Any]


def optimizer_state(optimizer: Any, parameters: Mapping[str, nn.Parameter]) -> OptimizerState:
    """What the optimizer knows.

    Args:
        optimizer: The optimizer, or accelerate's wrapper around it.
        parameters: Every parameter that it holds, by name.
    """
    names = {id(parameter): name for name, parameter in parameters.items()}
    tensors: dict[str, torch.Tensor] = {}
    others: dict[str, Any] = {}
    for parameter, state in _inner(optimizer).state.items():
        name = names[id(parameter)]
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{name}{_BETWEEN}{key}"] = value
            else:
                others.setdefault(name, {})[key] = value
    groups = [
        {
            "parameters": [names[id(parameter)] for parameter in group["params"]],
            "numbers": {key: _number(group[key]) for key in group if key != "params"},
        }
        for group in optimizer.param_groups
    ]
    kind = type(_inner(optimizer)).__name__
    return OptimizerState(tensors, {"class": kind, "groups": groups, "others": others})


def load_optimizer(
    optimizer: Any,
    parameters: Mapping[str, nn.Parameter],
    files: TensorFiles,
    numbers: Mapping[str, Any],
) -> None:
    """Let the optimizer know what it knew.

    Args:
        optimizer: The optimizer, or accelerate's wrapper around it.
        parameters: Every parameter that it holds, by name.
        files: The tensors.
        numbers: The numbers of `OptimizerState`.

    Raises:
        RunError: It is another optimizer, or holds other parameters.
    """
    inner = _inner(optimizer)
    names = {id(parameter): name for name, parameter in parameters.items()}
    _refuse_other(type(inner).__name__, numbers["class"], "class of the optimizer")
    _refuse_other(len(optimizer.param_groups), len(numbers["groups"]), "number of its groups")
    for group, kept in zip(optimizer.param_groups, numbers["groups"], strict=True):
        held = [names[id(parameter)] for parameter in group["params"]]
        _refuse_other(held, kept["parameters"], "parameters of a group")
        for key, value in kept["numbers"].items():
            group[key] = tuple(value) if isinstance(group.get(key), tuple) else value
    inner.state.clear()
    groups = {
        names[id(parameter)]: group
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for full_name in files.names:
        name, _, key = full_name.rpartition(_BETWEEN)
        tensor = _like(parameters[name], files, full_name, key, groups[name])
        load_part(files, full_name, tensor)
        inner.state[parameters[name]][key] = tensor
    for name, values in numbers["others"].items():
        inner.state[parameters[name]].update(values)


@torch.no_grad()
def _like(
    parameter: nn.Parameter, files: TensorFiles, name: str, key: str, group: Mapping[str, Any]
) -> torch.Tensor:
    """An empty tensor for one of the state, where the optimizer would have made it itself."""
    dtype = files.dtype(name)
    if files.shape(name) == tuple(parameter.shape) and key != "step":
        return torch.empty_like(parameter, dtype=dtype, requires_grad=False)
    # AdamW counts steps on the CPU, except where one kernel does it all.
    on_device = key != "step" or group.get("fused") or group.get("capturable")
    device = parameter.device if on_device else torch.device("cpu")
    return torch.empty(files.shape(name), dtype=dtype, device=device)


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    # accelerate's wrapper is an optimizer, too, and holds the one that has the state.
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, torch.Tensor) else value


def _refuse_other(now: Any, then: Any, what: str) -> None:
    if now != then:
        raise RunError(
            f"the checkpoint has another {what}: {_short(then)} then, {_short(now)} now.\n"
            "Start the run anew with --overwrite."
        )


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} with {value[0]}" if value else "none"
    return str(value)
