"""FSDP2: every process holds a slice of each weight, and all of a block only while it computes.

torch's own `fully_shard` is used, on the CPU (gloo) and on GPUs (nccl) alike. accelerate offers it
on GPUs only, decides by class names which modules are wrapped, and brings checkpoints of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from peft import PeftModel
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from sightline.families import MappedFamily
from sightline.training.parallel.values import whole
from sightline.training.parallel.zero import is_partitioned

_ROOM = 1.3
"""Memory that a model takes to generate a few answers, as a multiple of its weights."""


def shard(model: nn.Module, family: MappedFamily, *, dtype: torch.dtype) -> nn.Module:
    """Leave a slice of every weight in each process: of each block, then of all the rest.

    Weights that do not train are shared out, too: memory is the point. It has to be done before
    anything keeps hold of parameters, such as an optimizer: others take their place.

    Args:
        model: The planned model, the same in every process. On a machine with GPUs it may be on
            the CPU: slices are put on the GPU block by block.
        family: Its family.
        dtype: Dtype in which it computes. Weights that train are float32 beside a bf16 base: they
            are sent and used in bf16, and gradients are summed over processes in float32.

    Returns:
        The same model. A call of it is a collective: all processes have to make it.
    """
    how: dict[str, Any] = {"mesh": _mesh(), "mp_policy": _precision(dtype)}
    for block in _blocks(model, family):
        fully_shard(block, reshard_after_forward=True, **how)
    # Also the outermost: after a forward pass that no backward pass follows, as in evaluation,
    # whole weights would otherwise stay in the place of slices, and whoever asks for parameters
    # would get those.
    fully_shard(model, reshard_after_forward=True, **how)
    return model


def is_sharded(model: nn.Module) -> bool:
    """Whether processes share the weights of a model."""
    return isinstance(model, FSDPModule)


def is_shared_out(model: nn.Module) -> bool:
    """Whether no process has a whole model, by FSDP2 or by ZeRO 3.

    Args:
        model: The planned model.
    """
    return is_sharded(model) or any(is_partitioned(one) for one in model.parameters())


def never_wrapped(accelerator: Any) -> None:
    """Let accelerate take a sharded model as it is: nothing around it, autocast in its forward.

    It would put DDP around everything that trains in several processes, and refuses to where it
    meets slices. A model that is prepared for evaluation is not wrapped.

    Args:
        accelerator: The Trainer's.
    """
    before = accelerator.prepare_model

    def prepare_model(model: nn.Module, **_: Any) -> nn.Module:
        return before(model, device_placement=False, evaluation_mode=True)

    accelerator.prepare_model = prepare_model


@torch.no_grad()
def take_values(target: nn.Module | None, source: nn.Module) -> None:
    """Fill a whole model with the values of a sharded one, one tensor at a time.

    Args:
        target: The same model, planned alike and not sharded; None in the processes that only
            give their slices.
        source: The sharded model.
    """
    into = dict(target.named_parameters()) if target is not None else None
    names = [name for name, _ in source.named_parameters()]
    assert into is None or list(into) == names, "they are planned alike"
    for name, parameter in source.named_parameters():
        value = whole(parameter)
        if into is not None:
            into[name].copy_(value)


def roomy_device(model: nn.Module) -> torch.device:
    """Where a whole model can be called: the GPU where it fits beside what is there, or the CPU.

    Args:
        model: The whole model, on the CPU.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    num_bytes = sum(one.numel() * one.element_size() for one in model.parameters())
    free, _ = torch.cuda.mem_get_info()
    return torch.device("cuda" if free > _ROOM * num_bytes else "cpu")


def _blocks(model: nn.Module, family: MappedFamily) -> Iterator[nn.Module]:
    """The blocks of both towers, whatever PEFT put around the model."""
    plain: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    for path in (family.modules.vision_blocks, family.modules.language_blocks):
        yield from plain.get_submodule(path)


def _mesh() -> DeviceMesh:
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    return init_device_mesh(kind, (dist.get_world_size(),))


def _precision(dtype: torch.dtype) -> MixedPrecisionPolicy:
    if dtype == torch.float32:
        return MixedPrecisionPolicy(cast_forward_inputs=False)
    # Inputs stay as they are: positions and angles are float32, and must not be rounded.
    return MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
