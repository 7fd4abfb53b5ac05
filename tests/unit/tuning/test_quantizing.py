"""Which layers a plan lets be quantised."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sightline.errors import PlanError
from sightline.families import TRAINABLE_FAMILIES
from sightline.tuning import apply_plan, plan_rows, quantized_modules

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
LANGUAGE = "model.language_model.layers."


@pytest.mark.parametrize("family", FAMILY_KEYS)
def test_linear_layers_of_the_language_model_and_nothing_else(
    family: str, meta_model, resolved
) -> None:
    model = meta_model(family)
    plan = resolved(model, family, language="lora", projector="full", quantization="nf4")
    found = quantized_modules(model, plan)
    linear = {name for name, one in model.named_modules() if isinstance(one, nn.Linear)}
    assert set(found) == {name for name in linear if name.startswith(LANGUAGE)}
    assert len(found) == 3 * 7
    assert linear - set(found)
    assert quantized_modules(model, resolved(model, family, language="lora")) == ()


def test_frozen_layers_beside_lora_are_quantised_and_full_ones_are_not(
    meta_model, resolved
) -> None:
    model = meta_model("qwen3_vl")
    parts = [{"blocks": 0, "mode": "freeze"}, {"blocks": 1, "kind": "mlp", "mode": "full"}]
    plan = resolved(
        model, "qwen3_vl", language={"mode": "lora", "parts": parts}, quantization="fp4"
    )
    found = quantized_modules(model, plan)
    assert f"{LANGUAGE}0.self_attn.q_proj" in found
    assert f"{LANGUAGE}1.self_attn.q_proj" in found
    assert not [name for name in found if name.startswith(f"{LANGUAGE}1.mlp")]
    assert len(found) == 3 * 7 - 3


def test_what_trains_in_full_in_a_later_stage_is_not_quantised(meta_model, resolved) -> None:
    model = meta_model("qwen2_vl")
    later = {"mode": "lora", "parts": [{"blocks": 2, "mode": "full"}]}
    frozen_first = {"mode": "lora", "parts": [{"blocks": 2, "mode": "freeze"}]}
    plan = resolved(
        model,
        "qwen2_vl",
        language=frozen_first,
        quantization="nf4",
        stages=[{"until": "50%"}, {"language": later}],
    )
    found = quantized_modules(model, plan)
    assert f"{LANGUAGE}1.mlp.up_proj" in found
    assert not [name for name in found if name.startswith(f"{LANGUAGE}2.")]


@pytest.mark.parametrize(
    ("modes", "said"),
    [
        ({"language": "freeze", "vision": "lora"}, "tuning.language is freeze"),
        ({"language": "full", "vision": "lora"}, "tuning.language is full"),
    ],
)
def test_without_lora_on_the_language_model_it_is_refused(
    modes: dict, said: str, meta_model, resolved
) -> None:
    model = meta_model("qwen2_5_vl")
    with pytest.raises(PlanError) as refused:
        quantized_modules(model, resolved(model, "qwen2_5_vl", quantization="int8", **modes))
    assert f"tuning.quantization is int8, but {said}" in str(refused.value)
    assert "Set tuning.language: lora" in str(refused.value)


def test_dora_on_8_bit_weights_is_refused_and_on_4_bit_ones_is_not(meta_model, resolved) -> None:
    model = meta_model("qwen2_5_vl")
    dora = {"language": "lora", "lora": {"dora": True}}
    with pytest.raises(PlanError, match=r"nf4, or tuning\.lora\.dora: false"):
        quantized_modules(model, resolved(model, "qwen2_5_vl", quantization="int8", **dora))
    assert quantized_modules(model, resolved(model, "qwen2_5_vl", quantization="nf4", **dora))


def test_values_in_4_bits_are_counted_one_by_one(meta_model, resolved) -> None:
    """Two share a byte; the table counts values, and bytes as they are held."""
    model = meta_model("qwen2_5_vl")
    plan = resolved(model, "qwen2_5_vl", vision="lora")
    adapted = apply_plan(model, plan)
    whole = _norms(adapted, plan)
    norm = model.get_parameter("model.language_model.norm.weight")
    held = nn.Parameter(torch.zeros(32, 1, dtype=torch.uint8), requires_grad=False)
    held.quant_state = SimpleNamespace(shape=norm.shape, quant_type="nf4")
    model.get_submodule("model.language_model.norm").weight = held
    packed = _norms(adapted, plan)
    assert packed.num_parameters == whole.num_parameters == 64
    assert (whole.weight_bytes, packed.weight_bytes) == (256, 32)
    assert (whole.dtype, packed.dtype) == ("float32", "nf4")


def _norms(model, plan):
    rows = plan_rows(model, plan, TRAINABLE_FAMILIES["qwen2_5_vl"])
    [row] = [row for row in rows if row.tower == "language" and row.block == "norm"]
    return row
