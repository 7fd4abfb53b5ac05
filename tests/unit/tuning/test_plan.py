"""Plans in words against exact module names."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForImageTextToText

from sightline.config import TrainingConfig, TuningConfig
from sightline.errors import PlanError
from sightline.families import TRAINABLE_FAMILIES
from sightline.model import open_checkpoint
from sightline.tuning import (
    TuningPlan,
    apply_plan,
    named_parameters,
    place_of,
    plan_rows,
    refuse_unlike_plan,
    resolve_plan,
)

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(params=FAMILY_KEYS)
def family_and_model(request, tiny_folder):
    checkpoint = open_checkpoint(str(tiny_folder(request.param)))
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(checkpoint.config)
    return TRAINABLE_FAMILIES[request.param], model


def _plan(model, family, **modes) -> TuningPlan:
    frozen = {"language": "freeze", "projector": "freeze", "vision": "freeze"}
    tuning = TuningConfig.model_validate(frozen | modes)
    return resolve_plan(model, family, tuning, TrainingConfig())


def _trained_towers(model, family) -> set[str]:
    return {
        place_of(item.name, family.modules).tower
        for item in named_parameters(model)
        if item.parameter.requires_grad
    }


def test_every_parameter_is_in_a_tower(family_and_model) -> None:
    family, model = family_and_model
    towers = {place_of(name, family.modules).tower for name, _ in model.named_parameters()}
    assert towers == {"vision", "projector", "language", "embeddings", "head"}


@pytest.mark.parametrize("tower", ["language", "projector", "vision"])
@pytest.mark.parametrize("mode", ["lora", "full"])
def test_one_tower_trains_and_no_other(family_and_model, tower: str, mode: str) -> None:
    family, model = family_and_model
    plan = _plan(model, family, **{tower: mode})
    planned = apply_plan(model, plan)
    refuse_unlike_plan(planned, plan, family)
    assert _trained_towers(planned, family) == {tower}


def test_the_projector_in_full_beside_lora_on_the_language_model(family_and_model) -> None:
    family, model = family_and_model
    num_merger = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if place_of(name, family.modules).tower == "projector"
    )
    plan = _plan(model, family, language="lora", projector="full")
    planned = apply_plan(model, plan)
    refuse_unlike_plan(planned, plan, family)
    assert _trained_towers(planned, family) == {"language", "projector"}
    trained = sum(
        item.parameter.numel()
        for item in named_parameters(planned)
        if item.parameter.requires_grad and not item.is_adapter
    )
    assert trained == num_merger


def test_deepstack_mergers_are_projector() -> None:
    modules = TRAINABLE_FAMILIES["qwen3_vl"].modules
    name = "model.visual.deepstack_merger_list.1.linear_fc1.weight"
    assert place_of(name, modules) == ("projector", "deepstack_merger_list.1", "deepstack")


def test_lora_on_the_vision_tower_leaves_the_merger_alone(family_and_model) -> None:
    family, model = family_and_model
    plan = _plan(model, family, vision="lora")
    assert plan.lora_modules
    assert all(".blocks." in name for name in plan.lora_modules)


@pytest.mark.parametrize("tower", ["head", "embeddings"])
def test_lora_on_tied_weights_is_refused(family_and_model, tower: str) -> None:
    family, model = family_and_model
    _plan(model, family, language="lora", **{tower: "lora"})
    model.lm_head.weight = model.model.language_model.embed_tokens.weight
    with pytest.raises(PlanError, match="ties its head to its token embedding"):
        _plan(model, family, language="lora", **{tower: "lora"})


def test_half_of_tied_weights_is_refused(family_and_model) -> None:
    family, model = family_and_model
    model.lm_head.weight = model.model.language_model.embed_tokens.weight
    with pytest.raises(PlanError, match="one weight cannot be frozen and trained"):
        _plan(model, family, language="lora", head="full")


def test_a_parameter_that_trains_against_the_plan_is_seen(family_and_model) -> None:
    family, model = family_and_model
    plan = _plan(model, family, projector="full")
    planned = apply_plan(model, plan)
    next(iter(planned.parameters())).requires_grad_(True)
    with pytest.raises(PlanError, match="trains, but the plan says freeze"):
        refuse_unlike_plan(planned, plan, family)


def test_the_table_adds_up(family_and_model) -> None:
    family, model = family_and_model
    total = sum(parameter.numel() for parameter in model.parameters())
    projector = {"mode": "full", "learning_rate": 1e-5}
    plan = _plan(model, family, language="lora", projector=projector)
    planned = apply_plan(model, plan)
    rows = plan_rows(planned, plan, family)
    assert sum(row.num_parameters for row in rows) == total
    trainable = sum(p.numel() for p in planned.parameters() if p.requires_grad)
    assert sum(row.num_trainable for row in rows) == trainable
    assert sum(row.gradient_bytes for row in rows) == 4 * trainable
    assert sum(row.optimizer_bytes for row in rows) == 8 * trainable
    assert sum(row.weight_bytes for row in rows) == sum(p.nbytes for p in planned.parameters())
    rates = {row.tower: row.learning_rates for row in rows if row.num_trainable}
    assert rates == {"projector": [1e-5], "language": [1e-4]}
    assert [row.tower for row in rows] == sorted(
        [row.tower for row in rows],
        key=["vision", "projector", "language", "embeddings", "head"].index,
    )
