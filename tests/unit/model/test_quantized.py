"""Refusals and names of quantised weights, which need no bitsandbytes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers.quantizers.quantizers_utils import should_convert_module

from sightline.errors import ModelError
from sightline.model import QuantizedWeights, quantized, refuse_unquantizable

CPU = torch.device("cpu")
NESTED = ("layers.1.up", "layers.1.up_too", "layers.11.up", "more.layers.1.up", "head")


class _Nest(nn.Module):
    """Linear layers whose names begin and end like those of others."""

    def __init__(self) -> None:
        super().__init__()
        for name in NESTED:
            *path, last = name.split(".")
            place: nn.Module = self
            for part in path:
                if part not in dict(place.named_children()):
                    place.add_module(part, nn.Module())
                place = place.get_submodule(part)
            place.add_module(last, nn.Linear(2, 2))
        self.norm = nn.LayerNorm(2)


def test_a_missing_package_is_refused_with_the_name_of_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    with pytest.raises(ModelError) as refused:
        refuse_unquantizable("nf4", CPU)
    assert "nf4, but bitsandbytes is not installed" in str(refused.value)
    assert "pip install 'sightline[qlora]'" in str(refused.value)
    assert "tuning.quantization: none" in str(refused.value)


class _Deaf(nn.Module):
    """A layer of a library that computes, but gives no gradient."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given.detach() + torch.zeros((), requires_grad=True)


def _broken(name: str) -> Any:
    raise RuntimeError("libbitsandbytes_cuda.so was not found\nand much more")


@pytest.mark.parametrize("kind", ["nf4", "fp4", "int8"])
def test_a_package_that_does_not_run_here_is_refused_with_its_reason(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantized, "find_spec", lambda name: object())
    monkeypatch.setattr(quantized, "import_module", _broken)
    with pytest.raises(ModelError) as refused:
        refuse_unquantizable(kind, CPU)
    assert f"{kind}, but bitsandbytes cannot compute with such weights on cpu" in str(refused.value)
    assert "libbitsandbytes_cuda.so was not found" in str(refused.value)
    assert "much more" not in str(refused.value)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_package_without_gradients_is_refused(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = SimpleNamespace(nn=SimpleNamespace(Linear4bit=_Deaf, Linear8bitLt=_Deaf))
    monkeypatch.setattr(quantized, "find_spec", lambda name: object())
    monkeypatch.setattr(quantized, "import_module", lambda name: layers)
    with pytest.raises(ModelError, match="a trial layer gave no gradient"):
        refuse_unquantizable(kind, CPU)


@pytest.mark.parametrize("wanted", [NESTED[:1], NESTED[1:3], NESTED[3:4], NESTED[4:]])
def test_transformers_skips_exactly_what_is_kept(wanted: tuple[str, ...]) -> None:
    """By its own rule, which matches the beginning and the end of names."""
    weights = QuantizedWeights.of(_Nest(), "nf4", wanted)
    assert weights.modules == wanted
    assert set(weights.kept) == set(NESTED) - set(wanted)
    skipped = weights.loading(torch.float32, CPU)["quantization_config"].llm_int8_skip_modules
    converted = [name for name in NESTED if should_convert_module(name, skipped)]
    # `more.layers.1.up` ends like `layers.1.up`, so the plain name would skip both.
    assert converted == list(wanted)


@pytest.mark.parametrize(("kind", "bits"), [("nf4", 4), ("fp4", 4), ("int8", 8)])
def test_the_arithmetic_is_in_the_dtype_of_the_run(kind: Any, bits: int) -> None:
    weights = QuantizedWeights(kind=kind, modules=("a",), kept=())
    loading = weights.loading(torch.bfloat16, CPU)
    settings = loading["quantization_config"]
    assert loading["device_map"] == {"": CPU}
    assert settings.load_in_4bit is (bits == 4)
    assert settings.load_in_8bit is (bits == 8)
    if bits == 4:
        assert settings.bnb_4bit_quant_type == kind
        assert settings.bnb_4bit_compute_dtype is torch.bfloat16
        assert settings.bnb_4bit_use_double_quant is True


def test_a_model_that_is_not_quantised_as_asked_is_refused() -> None:
    weights = QuantizedWeights.of(_Nest(), "nf4", NESTED[:2])
    with pytest.raises(ModelError) as refused:
        quantized.settle(_Nest(), weights)
    assert "0 layers are quantised, 2 were to be; layers.1.up is not quantised" in str(
        refused.value
    )


def test_a_record_of_it_is_the_same_again() -> None:
    weights = QuantizedWeights(kind="int8", modules=("a", "b"), kept=("c",))
    record = {"kind": "int8", "modules": ["a", "b"], "kept": ["c"]}
    assert QuantizedWeights.from_record(record) == weights
