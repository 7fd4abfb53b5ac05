"""A base whose frozen weights are held in 4 or 8 bits by bitsandbytes, for QLoRA.

Which layers, is said by exact names. What bitsandbytes does not carry along as it should is mended
here: on CPUs with AVX512-BF16 the first forward pass in evaluation mode would pack the 4-bit
weights into another layout, in place and for good, with block scales rounded to bf16. Training
that goes on afterwards would get no gradient through them, and say nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig

from sightline.config import Quantization
from sightline.errors import ModelError

_CLASSES = ("Linear4bit", "Linear8bitLt")
# One warns of a faster kernel for the layout that is turned off here, the other of every pass.
_TALKERS = ("bitsandbytes.backends.cpu.ops", "bitsandbytes.autograd._functions")
_INSTEAD = "or set tuning.quantization: none."


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizedWeights:
    """Which linear layers of a model are quantised, and how.

    Attributes:
        kind: nf4, fp4 or int8.
        modules: Those that are, full dotted names.
        kept: All others, full dotted names.
    """

    kind: Quantization
    modules: tuple[str, ...]
    kept: tuple[str, ...]

    @classmethod
    def of(cls, model: nn.Module, kind: Quantization, modules: Iterable[str]) -> QuantizedWeights:
        """Name every linear layer of a model on one side or the other.

        Args:
            model: The plain model; the meta device is enough.
            kind: nf4, fp4 or int8.
            modules: Names of the layers to quantise.
        """
        wanted = set(modules)
        linear = [name for name, one in model.named_modules() if isinstance(one, nn.Linear)]
        return cls(
            kind=kind,
            modules=tuple(name for name in linear if name in wanted),
            kept=tuple(name for name in linear if name not in wanted),
        )

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> QuantizedWeights:
        """From what `dataclasses.asdict` made of it, after JSON."""
        return cls(
            kind=record["kind"], modules=tuple(record["modules"]), kept=tuple(record["kept"])
        )

    def loading(self, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
        """Arguments of ``from_pretrained`` that load the model so.

        Args:
            dtype: Dtype of all other weights, and of the arithmetic.
            device: Where the model is put: what is quantised is quantised there.
        """
        settings: dict[str, Any] = (
            {"load_in_8bit": True}
            if self.kind == "int8"
            else {
                "load_in_4bit": True,
                "bnb_4bit_quant_type": self.kind,
                "bnb_4bit_compute_dtype": dtype,
                # The block scales are held in 8 bits too: 0.4 bits less a weight.
                "bnb_4bit_use_double_quant": True,
            }
        )
        # A pattern may match at the start of a longer name: bounded, each means one layer.
        # To transformers 5.17 "layers.1.up" alone is "layers.1.up_too" as well.
        skipped = [f"{re.escape(name)}$" for name in self.kept]
        return {
            "quantization_config": BitsAndBytesConfig(llm_int8_skip_modules=skipped, **settings),
            "device_map": {"": device},
        }


def refuse_unquantizable(kind: Quantization, device: torch.device) -> None:
    """Refuse what this machine cannot hold, before anything is loaded.

    Args:
        kind: nf4, fp4 or int8.
        device: Where the model is to run.

    Raises:
        ModelError: bitsandbytes is missing, or does not work here. Says what to install or set.
    """
    if find_spec("bitsandbytes") is None:
        raise ModelError(
            f"tuning.quantization is {kind}, but bitsandbytes is not installed.\n"
            f"Install it with pip install 'sightline[qlora]', {_INSTEAD}"
        )
    try:
        _try(kind, device)
    except Exception as error:
        # It fails in many ways: a library for another system, a driver, an operation not there.
        told = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"tuning.quantization is {kind}, but bitsandbytes cannot compute with such weights on "
            f"{device.type} here: {told[0]}\n"
            f"Install a release of bitsandbytes for this system and device, {_INSTEAD}"
        ) from error


def _try(kind: Quantization, device: torch.device) -> None:
    for talker in _TALKERS:
        logging.getLogger(talker).setLevel(logging.ERROR)
    # Not among the packages of development: an import statement could not be checked.
    bnb: Any = import_module("bitsandbytes")
    layer: Any = (
        bnb.nn.Linear8bitLt(64, 64, has_fp16_weights=False)
        if kind == "int8"
        else bnb.nn.Linear4bit(64, 64, compute_dtype=torch.float32, quant_type=kind)
    )
    layer = layer.to(device)
    given = torch.ones(1, 64, device=device, requires_grad=True)
    layer(given).sum().backward()
    if given.grad is None or not bool(torch.isfinite(given.grad).all()):
        raise ModelError("a trial layer gave no gradient")


def settle(model: nn.Module, wanted: QuantizedWeights) -> None:
    """See that a loaded model is quantised as asked, and keep its weights in one layout.

    Args:
        model: The model as ``from_pretrained`` made it.
        wanted: What was asked for.

    Raises:
        ModelError: Other layers are quantised than those that were asked for.
    """
    found = {name for name, module in model.named_modules() if is_quantized(module)}
    if found != set(wanted.modules):
        first = min(found ^ set(wanted.modules))
        raise ModelError(
            f"{len(found)} layers are quantised, {len(wanted.modules)} were to be; {first} is "
            f"{'' if first in found else 'not '}quantised.\n"
            "This release of transformers reads llm_int8_skip_modules otherwise: use another one, "
            f"{_INSTEAD}"
        )
    for name in wanted.modules:
        layer: Any = model.get_submodule(name)
        if type(layer).__name__ == "Linear4bit":
            # bitsandbytes 0.45 to 0.50 at least; see the module's docstring.
            layer.support_avx512bf16_for_cpu = False


def is_quantized(module: nn.Module) -> bool:
    """Whether a module is a linear layer of bitsandbytes, which may not be installed."""
    # PEFT's own layers around them have the same names.
    kind = type(module)
    return kind.__module__.startswith("bitsandbytes.") and kind.__name__ in _CLASSES


@contextmanager
def tokens_rounded_alone(model: nn.Module) -> Iterator[None]:
    """Let 8-bit layers round each token by its own values, while the block runs.

    Otherwise they leave out columns in which any token of the whole batch is over 6, and compute
    those apart: what a sample gets depends a little on the others, though it does not see them.

    Args:
        model: Any model; others than 8-bit layers are left alone.
    """
    states: list[Any] = [
        module.state
        for module in model.modules()
        if is_quantized(module) and type(module).__name__ == "Linear8bitLt"
    ]
    thresholds = [state.threshold for state in states]
    for state in states:
        state.threshold = 0.0
    try:
        yield
    finally:
        for state, threshold in zip(states, thresholds, strict=True):
            state.threshold = threshold


def named_weights(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter, and what a quantised one needs besides to be what it stands for.

    The codes alone are the same for a base of twice the size; its scales are not.

    Args:
        model: Any model.
    """
    yield from model.named_parameters()
    for name, module in model.named_modules():
        if is_quantized(module):
            for own, tensor in _scales(module):
                yield f"{name}.weight.{own}", tensor


@torch.no_grad()
def plain_weight(layer: nn.Module) -> torch.Tensor:
    """The weight of a linear layer as numbers, and the layer as it was.

    Args:
        layer: A layer of any kind, quantised or not.

    Returns:
        (out, in). PEFT has the same, but on the CPU it leaves an 8-bit layer without its scales.
    """
    weight: Any = layer.weight
    if not is_quantized(layer):
        return weight.detach()
    if getattr(weight, "quant_state", None) is not None:
        functional: Any = import_module("bitsandbytes.functional")
        return functional.dequantize_4bit(weight.data, weight.quant_state)
    [(_, scales)] = _scales(layer)
    return weight.data.float() * (scales.float() / 127).unsqueeze(1)


def _scales(layer: Any) -> list[tuple[str, torch.Tensor]]:
    state = getattr(layer.weight, "quant_state", None)
    if state is not None:
        return sorted(state.as_dict(packed=True).items())
    # Until the first forward pass they are kept with the weight, then with the layer's state.
    scales = layer.weight.SCB if layer.weight.SCB is not None else layer.state.SCB
    return [("SCB", scales)]
