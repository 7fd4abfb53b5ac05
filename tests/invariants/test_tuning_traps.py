"""What a name of a LoRA target reaches: in plain PEFT, and in a plan (row E7 of the stack's traps).

Every test shows the trap in PEFT first. Where that part fails, a newer PEFT or transformers has
mended it or moved its layers, and what is said of it in messages and guides can go.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForImageTextToText

from sightline.config import RunConfig, TrainingConfig, TuningConfig
from sightline.errors import ModelError, PlanError, SightlineError
from sightline.families import mapped_family_of
from sightline.model import Checkpoint, open_checkpoint, skeleton
from sightline.tuning import TuningPlan, place_of, resolve_plan

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
GATED_VISION = ("qwen2_5_vl",)
MERGER_LAYERS = {
    "qwen2_vl": ["mlp.0", "mlp.2"],
    "qwen2_5_vl": ["mlp.0", "mlp.2"],
    "qwen3_vl": ["linear_fc1", "linear_fc2"],
}
MENDED = "plain PEFT does not do this any more: the trap is mended upstream"
FROZEN = {"language": "freeze", "projector": "freeze", "vision": "freeze"}


@pytest.fixture(scope="module", params=FAMILY_KEYS)
def checkpoint(request, tiny_folder) -> Checkpoint:
    return open_checkpoint(str(tiny_folder(request.param)))


def peft_hits(checkpoint: Checkpoint, **settings: Any) -> dict[tuple[str, str], int]:
    """Modules that plain PEFT adapts, counted by tower and kind."""
    adapted = get_peft_model(
        skeleton(checkpoint), LoraConfig(task_type="CAUSAL_LM", **settings), low_cpu_mem_usage=True
    )
    found: dict[tuple[str, str], int] = {}
    for name, _ in adapted.named_modules():
        plain, dot, rest = name.removeprefix("base_model.model.").partition(".base_layer")
        if dot and not rest:
            place = place_of(plain, checkpoint.family.modules)
            found[place.tower, place.kind] = found.get((place.tower, place.kind), 0) + 1
    return found


def plan_of(checkpoint: Checkpoint, **tuning: Any) -> TuningPlan:
    plan = resolve_plan(
        skeleton(checkpoint),
        checkpoint.family,
        TuningConfig.model_validate(FROZEN | tuning),
        TrainingConfig(),
    )
    assert all(module.trains_in(0) == (module.mode != "freeze") for module in plan.modules)
    return plan


def plan_hits(plan: TuningPlan, mode: str = "lora") -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for module in plan.modules:
        if module.mode == mode:
            key = (module.place.tower, module.place.kind)
            found[key] = found.get(key, 0) + 1
    return found


def refusal(checkpoint: Checkpoint, **tuning: Any) -> str:
    with pytest.raises(PlanError) as caught:
        plan_of(checkpoint, **tuning)
    return str(caught.value)


def towers(hits: dict[tuple[str, str], int]) -> set[str]:
    return {tower for tower, _ in hits}


def test_all_linear_reaches_every_tower_but_the_head(checkpoint: Checkpoint) -> None:
    reached = peft_hits(checkpoint, target_modules="all-linear")
    assert towers(reached) == {"vision", "projector", "language"}, MENDED
    assert ("vision", "embedding") not in reached, "all-linear has come to the patch embedding"
    deepstack = len(checkpoint.family.modules.projectors) > 1
    assert (("projector", "deepstack") in reached) == deepstack
    plan = plan_of(checkpoint, language="lora", lora={"target_modules": "all-linear"})
    assert plan_hits(plan) == {key: n for key, n in reached.items() if key[0] == "language"}
    everything = plan_of(checkpoint, language="lora", projector="lora", vision="lora")
    assert plan_hits(everything) == reached


def test_gate_proj_also_hits_a_gated_vision_tower(checkpoint: Checkpoint) -> None:
    reached = peft_hits(checkpoint, target_modules=["gate_proj"])
    gated = checkpoint.family.key in GATED_VISION
    assert towers(reached) == ({"language", "vision"} if gated else {"language"}), MENDED
    plan = plan_of(checkpoint, language="lora", lora={"target_modules": ["gate_proj"]})
    assert towers(plan_hits(plan)) == {"language"}
    [target] = plan.targets
    assert target.hits == {"language": reached["language", "mlp"]}
    assert target.left_out == ({"vision": reached["vision", "mlp"]} if gated else {})


def test_proj_also_hits_the_convolution_of_the_patch_embedding(checkpoint: Checkpoint) -> None:
    reached = peft_hits(checkpoint, target_modules=["proj"])
    assert reached.get(("vision", "embedding")) == 1, MENDED
    assert towers(reached) == {"vision"}
    named = {"target_modules": ["proj"]}
    blocks = {"mode": "freeze", "parts": [{"mode": "lora", "blocks": "0-"}]}
    plan = plan_of(checkpoint, vision=blocks, lora=named)
    assert plan_hits(plan) == {("vision", "attention"): reached["vision", "attention"]}
    assert plan.targets[0].left_out == {"vision": 1}
    said = refusal(checkpoint, language="lora", lora=named)
    assert f"it hits {sum(reached.values())} in vision" in said
    assert "Set tuning.vision: lora" in said


def test_the_merger_s_layers_share_their_names_with_other_towers(checkpoint: Checkpoint) -> None:
    layers = MERGER_LAYERS[checkpoint.family.key]
    reached = peft_hits(checkpoint, target_modules=layers)
    if len(checkpoint.family.modules.projectors) > 1:
        assert set(reached) == {
            ("vision", "mlp"),
            ("projector", "merger"),
            ("projector", "deepstack"),
        }
    else:
        assert set(reached) == {("projector", "merger")}
    plan = plan_of(checkpoint, projector="lora", lora={"target_modules": layers})
    assert plan_hits(plan) == {key: n for key, n in reached.items() if key[0] == "projector"}
    left_out = sum(target.left_out.get("vision", 0) for target in plan.targets)
    assert left_out == reached.get(("vision", "mlp"), 0)
    # Without names it needs none: a plan knows the layers of every merger.
    assert plan_hits(plan_of(checkpoint, projector="lora")) == plan_hits(plan)


def test_merger_as_a_target_raises(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="is not supported"):
        peft_hits(checkpoint, target_modules=["merger"])
    said = refusal(checkpoint, projector="lora", lora={"target_modules": ["merger"]})
    assert "'merger' hits nothing that is set to lora" in said
    assert "no layer but a block that holds" in said


def test_merger_to_save_skips_the_deepstack_mergers(checkpoint: Checkpoint) -> None:
    adapted = get_peft_model(
        skeleton(checkpoint),
        LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], modules_to_save=["merger"]),
        low_cpu_mem_usage=True,
    )
    saved = {
        name.partition(".modules_to_save")[0].removeprefix("base_model.model.")
        for name, parameter in adapted.named_parameters()
        if ".modules_to_save." in name and parameter.requires_grad
    }
    assert saved == {checkpoint.family.modules.projectors[0]}, MENDED
    plan = plan_of(checkpoint, language="lora", projector="full")
    kinds = {kind for _, kind in plan_hits(plan, "full")}
    deepstack = len(checkpoint.family.modules.projectors) > 1
    assert kinds == ({"merger", "deepstack"} if deepstack else {"merger"})
    every = [m for m in plan.modules if m.place.tower == "projector"]
    assert {module.mode for module in every} == {"full"}
    if deepstack:
        # Named, it is what PEFT takes, and the table of the plan shows what stays frozen.
        named = plan_of(
            checkpoint, language="lora", projector="full", lora={"modules_to_save": ["merger"]}
        )
        assert {kind for _, kind in plan_hits(named, "full")} == {"merger"}


def test_no_target_at_all_raises(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="Please specify `target_modules`"):
        peft_hits(checkpoint, target_modules=None)
    assert plan_hits(plan_of(checkpoint, language="lora")) == {
        key: n
        for key, n in peft_hits(checkpoint, target_modules="all-linear").items()
        if key[0] == "language"
    }


def test_targets_of_attention_miss_the_layers_of_linear_attention() -> None:
    """Of Qwen3.5 only one layer in four has them; a plan is refused until its towers are known."""
    config: Any = AutoConfig.for_model("qwen3_5")
    text = config.text_config
    sizes = {"hidden_size": 128, "intermediate_size": 64, "vocab_size": 300, "pad_token_id": 0}
    for name, value in (sizes | {"num_hidden_layers": 4}).items():
        setattr(text, name, value)
    text.layer_types = text.layer_types[:4]
    config.vision_config.depth = 1
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    adapted = get_peft_model(
        model,
        LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
        low_cpu_mem_usage=True,
    )
    layers = {
        name.split(".layers.")[1].split(".")[0]
        for name, _ in adapted.named_modules()
        if name.endswith("q_proj.base_layer")
    }
    full = [str(i) for i, kind in enumerate(text.layer_types) if kind == "full_attention"]
    assert 0 < len(full) < 4
    assert layers == set(full), MENDED
    with pytest.raises(ModelError, match="qwen3_5"):
        mapped_family_of("qwen3_5", source="a/folder")


@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8"])
def test_merging_into_a_quantised_base_is_refused(quantization: str) -> None:
    values = {
        "model": "a/b",
        "data": {"train": "a.jsonl"},
        "output": "runs/one",
        "tuning": {"quantization": quantization},
    }
    with pytest.raises((SightlineError, ValueError), match="rounded away"):
        RunConfig.model_validate(values)
    assert RunConfig.model_validate(values | {"export": {"merged": False}}).export.merged is False
