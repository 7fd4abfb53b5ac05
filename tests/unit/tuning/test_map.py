"""The map of a model against the model itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, Qwen3VLMoeConfig

from sightline.config import TrainingConfig, TuningConfig
from sightline.families import FAMILIES, MappedFamily
from sightline.model import open_architecture
from sightline.tuning import apply_plan, named_parameters, place_of, resolve_plan
from sightline.tuning.map import MapNode, map_model, map_record

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
PLANS: dict[str, dict[str, Any]] = {
    "default": {},
    "vision in full": {"vision": "full", "language": "freeze"},
    "every tower": {"vision": "lora", "embeddings": "full", "head": "full"},
    "parts": {
        "language": {
            "mode": "freeze",
            "parts": [{"blocks": "last 2", "kind": "attention", "mode": "lora", "rank": 4}],
        }
    },
    "dora": {"lora": {"dora": True, "rank": 8}},
}


@pytest.fixture(params=FAMILY_KEYS)
def architecture(request: Any, tiny_folder: Callable[[str], Any]) -> tuple[MappedFamily, Any]:
    """A family and a small configuration of it."""
    family = FAMILIES[request.param]
    assert isinstance(family, MappedFamily)
    if request.param == "qwen3_vl_moe":
        return family, _moe_config()
    return family, open_architecture(str(tiny_folder(request.param))).config


def _moe_config() -> Qwen3VLMoeConfig:
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    text = {
        "num_hidden_layers": 3,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "moe_intermediate_size": 32,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "vocab_size": 256,
        "rope_parameters": rope | {"mrope_interleaved": True},
        "tie_word_embeddings": False,
    }
    vision = {
        "depth": 4,
        "hidden_size": 64,
        "intermediate_size": 96,
        "out_hidden_size": 64,
        "num_heads": 4,
        "deepstack_visual_indexes": [1, 3],
        "num_position_embeddings": 64,
    }
    return Qwen3VLMoeConfig(text_config=text, vision_config=vision, tie_word_embeddings=False)


def _build(config: Any, device: str = "meta") -> Any:
    with torch.device(device):
        return AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)


def _resolve(model: Any, family: MappedFamily, tuning: dict[str, Any]) -> Any:
    return resolve_plan(model, family, TuningConfig.model_validate(tuning), TrainingConfig())


def _leaves(nodes: tuple[MapNode, ...]) -> Iterator[MapNode]:
    for node in nodes:
        if node.children:
            yield from _leaves(node.children)
        else:
            yield node


def test_every_weight_is_counted_once(architecture: tuple[MappedFamily, Any]) -> None:
    family, config = architecture
    model = _build(config)
    nodes = map_model(model, family)
    weights = dict(model.named_parameters())
    assert sum(node.num_parameters for node in nodes) == sum(w.numel() for w in weights.values())
    assert sum(node.weight_bytes for node in nodes) == 2 * sum(w.numel() for w in weights.values())
    for node in nodes:
        inside = [
            weight.numel()
            for name, weight in weights.items()
            if place_of(name, family.modules).tower == node.tower
        ]
        assert node.num_parameters == sum(inside)
        assert (node.how, node.num_trainable, node.stages) == (None, 0, ())
        assert node.dtype == "bfloat16"


@pytest.mark.parametrize("tuning", PLANS.values(), ids=PLANS)
def test_figures_are_those_of_the_real_model(
    architecture: tuple[MappedFamily, Any], tuning: dict[str, Any]
) -> None:
    """The same plan on weights in memory: values, bytes and dtypes, tower by tower."""
    family, config = architecture
    real = _build(config, "cpu")
    real = apply_plan(real, _resolve(real, family, tuning))
    model = _build(config)
    nodes = map_model(model, family, _resolve(model, family, tuning))
    for node in nodes:
        inside = [
            item
            for item in named_parameters(real)
            if place_of(item.name, family.modules).tower == node.tower
        ]
        trained = [item.parameter for item in inside if item.parameter.requires_grad]
        size = sum(weight.numel() * weight.element_size() for weight in trained)
        assert node.num_trainable == sum(weight.numel() for weight in trained)
        assert node.gradient_bytes == size
        assert node.optimizer_bytes == 2 * size
        assert node.weight_bytes == sum(
            item.parameter.numel() * item.parameter.element_size() for item in inside
        )
        assert bool(node.stages) == bool(trained)
    assert sum(node.num_trainable for node in nodes) > 0


def test_paths_lead_to_modules_that_own_all_weights(
    architecture: tuple[MappedFamily, Any],
) -> None:
    family, config = architecture
    model = _build(config)
    owners = {
        name
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    }
    nodes = map_model(model, family)
    found = [
        f"{leaf.path}.{name}" if name else leaf.path
        for leaf in _leaves(nodes)
        for name in leaf.modules or ("",)
    ]
    assert sorted(found) == sorted(owners)
    for node in nodes:
        model.get_submodule(node.path)
        for block in node.children:
            model.get_submodule(block.path)
            assert block.path.endswith(f".{block.name}") or block.path == block.name
            number = block.name.rpartition(".")[2]
            assert block.words.blocks == (int(number) if number.isdigit() else None)
            assert {leaf.words.blocks for leaf in block.children} == {block.words.blocks}


def test_words_address_what_they_stand_for(architecture: tuple[MappedFamily, Any]) -> None:
    """A part with a leaf's words trains the leaf, and of numbered blocks nothing else."""
    family, config = architecture
    model = _build(config)
    for leaf in _leaves(map_model(model, family)):
        words = {"blocks": leaf.words.blocks, "kind": leaf.words.kind}
        given = {key: value for key, value in words.items() if value is not None}
        own: Any = {"mode": "freeze", "parts": [given | {"mode": "full"}]} if given else "full"
        frozen = {"language": "freeze", "projector": "freeze"}
        plan = _resolve(model, family, frozen | {leaf.words.tower: own})
        trained = {module.name for module in plan.modules if module.mode == "full"}
        meant = {f"{leaf.path}.{name}" if name else leaf.path for name in leaf.modules or ("",)}
        assert meant <= trained
        if leaf.words.blocks is not None:
            assert meant == trained


def test_deepstack_mergers_name_the_blocks_that_they_read() -> None:
    family = FAMILIES["qwen3_vl_moe"]
    assert isinstance(family, MappedFamily)
    model = _build(_moe_config())
    _, projector, *_ = map_model(model, family)
    assert [(block.name, block.reads_from) for block in projector.children] == [
        ("merger", None),
        ("deepstack_merger_list.0", 1),
        ("deepstack_merger_list.1", 3),
    ]


@pytest.mark.parametrize("how", ["freeze", "full"])
def test_a_tied_head_adds_nothing_and_trains_with_the_embedding(
    how: str, tiny_folder: Callable[[str], Any]
) -> None:
    opened = open_architecture(str(tiny_folder("qwen2_5_vl")))
    opened.config.text_config.tie_word_embeddings = True
    opened.config.tie_word_embeddings = True
    for given in ({}, {"language": "freeze"}):
        model = _build(opened.config)
        weights = sum(weight.numel() for weight in model.parameters())
        plan = _resolve(model, opened.family, given | {"head": how, "embeddings": how})
        nodes = map_model(model, opened.family, plan)
        embeddings, head = nodes[3:]
        assert head.tied_to == embeddings.path == "model.language_model.embed_tokens"
        assert (head.num_parameters, head.num_trainable, head.weight_bytes) == (0, 0, 0)
        assert head.how == embeddings.how == how
        assert sum(node.num_parameters for node in nodes) == weights
        assert map_record(nodes, plan, model="m", family=opened.family, dtype=torch.bfloat16)[
            "is_tied"
        ]


def test_stages_and_rates_are_those_of_the_plan(tiny_folder: Callable[[str], Any]) -> None:
    opened = open_architecture(str(tiny_folder("qwen3_vl")))
    model = _build(opened.config)
    upper = {"mode": "lora", "parts": [{"blocks": "0-1", "mode": "freeze"}]}
    stages = [
        {"until": "30%", "language": "freeze"},
        {"until": 50, "language": upper},
        {"learning_rate_factor": 0.1, "vision": {"mode": "full", "learning_rate": 1e-6}},
    ]
    plan = _resolve(model, opened.family, {"stages": stages})
    vision, projector, language, embeddings, _ = map_model(model, opened.family, plan)
    assert (vision.stages, vision.how) == ((3,), "full")
    assert vision.learning_rates == pytest.approx((None, None, 1e-7))
    assert projector.stages == (1, 2, 3)
    assert [(block.name, block.stages) for block in language.children] == [
        ("layers.0", (3,)),
        ("layers.1", (3,)),
        ("layers.2", (2, 3)),
        ("norm", ()),
    ]
    layer = language.children[2]
    assert (layer.how, layer.rank, layer.alpha) == ("lora", 16, 32)
    assert [(part.kind, part.how) for part in layer.children] == [
        ("attention", "lora"),
        ("mlp", "lora"),
        ("norm", "freeze"),
    ]
    assert (embeddings.how, embeddings.stages) == ("freeze", ())
