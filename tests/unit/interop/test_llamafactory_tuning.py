"""LLaMA-Factory's words for tuning: the plan that they make of a real model, and what is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sightline.config import RunConfig, load_config
from sightline.errors import SightlineError
from sightline.interop.imported import Carried, Imported, render_yaml
from sightline.interop.llamafactory_config import import_llamafactory
from sightline.model import open_checkpoint, skeleton
from sightline.tuning import TuningPlan, resolve_plan

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
FROZEN = {"vision": "freeze", "projector": "freeze", "language": "freeze"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dataset_info.json").write_text('{"demo": {"file_name": "demo.json"}}')
    (tmp_path / "data/demo.json").write_text("[{}]")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def imported(folder: Path, model: str = "Qwen/Qwen3-VL-4B-Instruct", **keys: Any) -> Imported:
    config = folder / "train.yaml"
    config.write_text(yaml.safe_dump({"model_name_or_path": model, "dataset": "demo"} | keys))
    return import_llamafactory(config, folder=folder)


def row(result: Imported, key: str) -> Carried:
    return next(row for row in result.rows if row.key == key)


def loaded(folder: Path, result: Imported) -> RunConfig:
    (folder / "run.yaml").write_text(render_yaml(result))
    return load_config(folder / "run.yaml")


def resolved(folder: Path, model: Path, **keys: Any) -> tuple[TuningPlan, Imported]:
    """The plan of the written run.yaml, laid on the model."""
    result = imported(folder, str(model), **keys)
    config = loaded(folder, result)
    checkpoint = open_checkpoint(str(model))
    plan = resolve_plan(skeleton(checkpoint), checkpoint.family, config.tuning, config.training)
    return plan, result


def trained(plan: TuningPlan) -> dict[str, set[str]]:
    """Modes of each tower in which something trains."""
    found: dict[str, set[str]] = {}
    for module in plan.modules:
        if module.mode != "freeze":
            found.setdefault(module.place.tower, set()).add(module.mode)
    return found


@pytest.mark.parametrize("family", FAMILY_KEYS)
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {"language": {"lora"}}),
        ({"freeze_vision_tower": False}, {"language": {"lora"}, "vision": {"lora"}}),
        (
            {"freeze_multi_modal_projector": False},
            {"language": {"lora"}, "projector": {"lora"}},
        ),
        (
            {"freeze_vision_tower": False, "freeze_language_model": True},
            {"vision": {"lora"}},
        ),
        (
            {"finetuning_type": "full", "freeze_multi_modal_projector": False},
            {t: {"full"} for t in ("language", "projector", "embeddings", "head")},
        ),
        ({"finetuning_type": "full", "train_mm_proj_only": True}, {"projector": {"full"}}),
        ({"train_mm_proj_only": True}, {"projector": {"full"}}),
        ({"finetuning_type": "freeze"}, {"language": {"full"}}),
        (
            {"finetuning_type": "freeze", "freeze_multi_modal_projector": False},
            {"language": {"full"}, "projector": {"full"}},
        ),
        ({"additional_target": "merger"}, {"language": {"lora"}, "projector": {"full"}}),
        (
            {"additional_target": "lm_head"},
            {"language": {"lora"}, "embeddings": {"full"}, "head": {"full"}},
        ),
        (
            {
                "lora_target": "q_proj,gate_proj",
                "freeze_vision_tower": False,
                "freeze_multi_modal_projector": False,
            },
            {"language": {"lora"}, "vision": {"lora"}, "projector": {"lora"}},
        ),
        ({"lora_target": "qkv", "freeze_vision_tower": False}, {"vision": {"lora"}}),
    ],
)
def test_the_plan_is_what_was_meant(
    folder: Path, tiny_folder, family: str, keys: dict[str, Any], expected: dict[str, set[str]]
) -> None:
    model = tied(folder, tiny_folder(family))
    plan, _ = resolved(folder, model, **keys)
    assert trained(plan) == expected
    if "projector" in expected:
        mergers = [m for m in plan.modules if m.place.tower == "projector" and m.mode != "freeze"]
        kinds = {module.place.kind for module in mergers}
        assert kinds == ({"merger", "deepstack"} if family == "qwen3_vl" else {"merger"})


def tied(folder: Path, model: Path) -> Path:
    """The same checkpoint with head and embedding tied."""
    other = folder / f"tied_{model.name}"
    other.mkdir()
    for file in model.iterdir():
        if file.name != "config.json":
            (other / file.name).symlink_to(file)
    config = json.loads((model / "config.json").read_text())
    config["tie_word_embeddings"] = True
    config.setdefault("text_config", {})["tie_word_embeddings"] = True
    (other / "config.json").write_text(json.dumps(config))
    return other


def test_one_of_two_tied_ends_trains_both_and_says_so(folder: Path, tiny_folder) -> None:
    model = tiny_folder("qwen2_5_vl")
    apart, result = resolved(folder, model, additional_target="lm_head")
    assert trained(apart) == {"language": {"lora"}, "head": {"full"}}
    assert "Where the two are tied" in row(result, "additional_target").note
    _, result = resolved(folder, tied(folder, model), additional_target="lm_head")
    said = [row for row in result.rows if row.value == "(tied)"]
    assert [(row.key, row.target) for row in said] == [("additional_target", "tuning.embeddings")]
    assert said[0].verdict == "differs"


@pytest.mark.parametrize(
    ("count", "layers"), [(1, {2}), (2, {1, 2}), (-1, {0}), (9, {0, 1, 2}), (0, None)]
)
def test_freeze_trains_the_last_layers_or_the_first(
    folder: Path, tiny_folder, count: int, layers: set[int] | None
) -> None:
    keys: dict[str, Any] = {"finetuning_type": "freeze", "freeze_trainable_layers": count}
    if layers is None:
        with pytest.raises(SightlineError, match="trains nothing"):
            imported(folder, **keys)
        return
    plan, _ = resolved(folder, tiny_folder("qwen3_vl"), **keys)
    full = [module for module in plan.modules if module.mode == "full"]
    assert {module.place.number for module in full} == layers
    assert {module.place.kind for module in full} == {"attention", "mlp", "norm"}


def test_freeze_takes_kinds_of_layers_and_further_modules(folder: Path, tiny_folder) -> None:
    plan, result = resolved(
        folder,
        tiny_folder("qwen3_vl"),
        finetuning_type="freeze",
        freeze_trainable_modules="self_attn,input_layernorm",
        freeze_extra_modules="lm_head,embed_tokens,norm,odd",
    )
    full = [module for module in plan.modules if module.mode == "full"]
    assert {m.place.kind for m in full if m.place.tower == "language"} == {"attention", "norm"}
    attention = {m.place.number for m in full if m.place.kind == "attention"}
    assert attention == {1, 2}
    # Theirs takes the word norm wherever it stands in a name.
    assert {m.place.number for m in full if m.place.kind == "norm"} == {0, 1, 2, None}
    assert {"embeddings", "head"} <= set(trained(plan))
    assert row(result, "freeze_trainable_layers").note == "their default."
    assert next(r for r in result.rows if r.value == "odd").verdict == "none"
    assert next(r for r in result.rows if r.value == "input_layernorm").verdict == "differs"


@pytest.mark.parametrize(
    ("given", "names", "verdict"),
    [
        ("q_proj,v_proj", ["q_proj", "v_proj"], "carried"),
        (["self_attn.o_proj"], ["self_attn.o_proj"], "carried"),
        ("proj", ".*(proj).*", "differs"),
    ],
)
def test_named_targets_reach_exactly_the_layers_that_they_name(
    folder: Path, tiny_folder, given: Any, names: Any, verdict: str
) -> None:
    plan, result = resolved(folder, tiny_folder("qwen2_5_vl"), lora_target=given)
    assert result.values["tuning"]["lora"]["target_modules"] == names
    assert row(result, "lora_target").verdict == verdict
    assert {m.place.tower for m in plan.modules if m.mode == "lora"} == {"language"}
    leaves = {name.rpartition(".")[2] for name in plan.lora_modules}
    expected = {
        "q_proj,v_proj": {"q_proj", "v_proj"},
        "proj": {f"{x}_proj" for x in ("q", "k", "v", "o", "gate", "up", "down")},
    }
    assert leaves == (expected[given] if isinstance(given, str) else {"o_proj"})


def test_where_the_original_would_have_done_otherwise_is_said(folder: Path) -> None:
    lora = imported(folder, freeze_multi_modal_projector=False)
    said = row(lora, "freeze_multi_modal_projector")
    assert said.verdict == "differs"
    assert "reaches it only where its layers are named" in said.note
    assert "deepstack" in said.note
    assert (
        "deepstack"
        not in row(
            imported(
                folder, model="Qwen/Qwen2.5-VL-3B-Instruct", freeze_multi_modal_projector=False
            ),
            "freeze_multi_modal_projector",
        ).note
    )
    vision = row(
        imported(folder, finetuning_type="full", freeze_vision_tower=False), "freeze_vision_tower"
    )
    assert "stay frozen with the merger" in vision.note
    beside = imported(folder, lora_target="q_proj", freeze_vision_tower=False)
    assert "names nothing in vision" in row(beside, "lora_target").note
    merger = row(imported(folder, additional_target="merger"), "additional_target")
    assert merger.verdict == "differs"
    assert "the merger alone" in merger.note
    alone = row(imported(folder, train_mm_proj_only=True), "train_mm_proj_only")
    assert (alone.target, alone.result) == ("tuning.projector", "full")


def test_kinds_of_lora_are_carried(folder: Path) -> None:
    keys = {"use_dora": True, "use_rslora": True, "lora_rank": 4, "lora_alpha": 12}
    result = imported(folder, **keys)
    lora = loaded(folder, result).tuning.lora
    assert (lora.dora, lora.rslora, lora.rank, lora.alpha) == (True, True, 4, 12)
    assert {row(result, key).verdict for key in keys} == {"carried"}
    odd = imported(folder, pissa_init=True, loraplus_lr_ratio=16.0)
    assert row(odd, "pissa_init").verdict == row(odd, "loraplus_lr_ratio").verdict == "none"
    assert "begin as LoRA's do" in row(odd, "pissa_init").note
    without = imported(folder, finetuning_type="full", lora_rank=4, use_dora=True)
    assert "lora" not in without.values["tuning"]
    assert "belongs to lora" in row(without, "lora_rank").note


@pytest.mark.parametrize(
    ("keys", "kind", "said"),
    [
        ({"quantization_bit": 4}, "nf4", "vision tower so too"),
        ({"quantization_bit": 4, "quantization_type": "fp4"}, "fp4", "vision tower so too"),
        ({"quantization_bit": 8}, "int8", "vision tower so too"),
        ({"quantization_bit": 3, "quantization_method": "hqq"}, "nf4", "3 bits by hqq"),
        ({"quantization_bit": 8, "quantization_method": "eetq"}, "int8", "8 bits by eetq"),
    ],
)
def test_a_quantised_base_is_exported_as_an_adapter(
    folder: Path, keys: dict[str, Any], kind: str, said: str
) -> None:
    result = imported(folder, **keys, double_quantization=True)
    config = loaded(folder, result)
    assert config.tuning.quantization == kind
    assert config.export.merged is False
    rows = {row.target: row for row in result.rows if row.key == "quantization_bit"}
    assert said in rows["tuning.quantization"].note
    assert rows["export.merged"].verdict == "differs"
    assert {row.key for row in result.rows} >= {*keys, "double_quantization"}


def test_quantisation_belongs_to_lora(folder: Path) -> None:
    result = imported(folder, finetuning_type="full", quantization_bit=4)
    assert "quantization" not in result.values["tuning"]
    assert row(result, "quantization_bit").verdict == "none"
    with pytest.raises(SightlineError, match="quantization_type: it is int4"):
        imported(folder, quantization_bit=4, quantization_type="int4")


@pytest.mark.parametrize("method", ["lora", "full", "freeze"])
def test_every_word_ends_in_a_row(folder: Path, method: str) -> None:
    keys = {
        "finetuning_type": method,
        "freeze_vision_tower": True,
        "freeze_multi_modal_projector": False,
        "freeze_language_model": False,
        "train_mm_proj_only": False,
        "freeze_trainable_layers": 2,
        "freeze_trainable_modules": "all",
        "freeze_extra_modules": "norm",
        "lora_target": "all",
        "lora_rank": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "additional_target": "embed_tokens",
        "use_dora": False,
        "use_rslora": False,
        "pissa_init": False,
        "pissa_iter": 16,
        "loraplus_lr_ratio": 2.0,
        "quantization_bit": 4,
        "quantization_method": "bnb",
        "quantization_type": "nf4",
    }
    result = imported(folder, **keys)
    loaded(folder, result)
    assert {row.key for row in result.rows} >= set(keys)
    assert all(row.note for row in result.rows if row.verdict != "carried")
