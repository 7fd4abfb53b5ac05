"""ms-swift's words for tuning: the plan that they make of a real model, and what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sightline.config import RunConfig, load_config
from sightline.errors import SightlineError
from sightline.interop.imported import Carried, Imported, render_yaml
from sightline.interop.swift import import_swift
from sightline.model import open_checkpoint, skeleton
from sightline.tuning import TuningPlan, resolve_plan

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/own.jsonl").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def imported(folder: Path, flags: str, model: Any = "Qwen/Qwen3-VL-4B-Instruct") -> Imported:
    config = folder / "train.sh"
    config.write_text(f"swift sft --model {model} --dataset data/own.jsonl {flags}\n")
    return import_swift(config, folder=folder)


def row(result: Imported, key: str) -> Carried:
    return next(row for row in result.rows if row.key == key)


def loaded(folder: Path, result: Imported) -> RunConfig:
    (folder / "run.yaml").write_text(render_yaml(result))
    return load_config(folder / "run.yaml")


def resolved(folder: Path, model: Path, flags: str) -> tuple[TuningPlan, Imported]:
    """The plan of the written run.yaml, laid on the model."""
    result = imported(folder, flags, model)
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


LANGUAGE = {"language": {"lora"}}
FULL = {tower: {"full"} for tower in ("language", "embeddings", "head")}


@pytest.mark.parametrize("family", FAMILY_KEYS)
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", LANGUAGE),
        ("--freeze_vit false", LANGUAGE | {"vision": {"lora"}}),
        ("--freeze_aligner false", LANGUAGE | {"projector": {"lora"}}),
        ("--freeze_llm true --freeze_aligner false", {"projector": {"lora"}}),
        ("--train_type full", FULL),
        ("--train_type full --freeze_aligner false", FULL | {"projector": {"full"}}),
        (
            "--tuner_type lora_llm",
            LANGUAGE | {"vision": {"full"}, "projector": {"full"}},
        ),
        ("--tuner_type lora_llm --freeze_vit true", LANGUAGE | {"projector": {"full"}}),
        ("--target_modules q_proj gate_proj", LANGUAGE),
        ("--target_modules qkv", {"vision": {"lora"}}),
        ("--target_modules q_proj --freeze_vit false", LANGUAGE | {"vision": {"lora"}}),
        ("--target_regex '.*layers.*q_proj'", LANGUAGE),
        ("--target_regex '^model.visual.merger.*'", {"projector": {"lora"}}),
        (
            "--target_regex '.*q_proj' --freeze_aligner false",
            LANGUAGE | {"projector": {"lora"}},
        ),
        ("--modules_to_save merger", LANGUAGE | {"projector": {"full"}}),
        (
            "--modules_to_save all-embedding lm_head",
            LANGUAGE | {"embeddings": {"full"}, "head": {"full"}},
        ),
        (
            "--train_type full --freeze_parameters_ratio 1 "
            "--trainable_parameters model.visual.merger",
            {"projector": {"full"}},
        ),
        (
            "--train_type full --freeze_parameters model.language_model lm_head --freeze_vit false",
            {"vision": {"full"}},
        ),
        (
            "--train_type full --freeze_parameters_regex 'visual|embed|lm_head'",
            {"language": {"full"}},
        ),
    ],
)
def test_the_plan_is_what_was_meant(
    folder: Path, tiny_folder, family: str, flags: str, expected: dict[str, set[str]]
) -> None:
    plan, _ = resolved(folder, tiny_folder(family), flags)
    assert trained(plan) == expected


@pytest.mark.parametrize(
    ("flags", "full"),
    [
        ("--freeze_parameters_ratio 0.34", {1, 2, None}),
        ("--freeze_parameters model.language_model.layers.0. model.layers.1.", {2, None}),
        ("--freeze_parameters_ratio 1 --trainable_parameters model.language_model.layers.2", {2}),
        (
            "--freeze_parameters_ratio 1 --trainable_parameters model.language_model.layers.0.mlp.",
            {0},
        ),
    ],
)
def test_layers_are_frozen_and_trained_by_their_names(
    folder: Path, tiny_folder, flags: str, full: set[int | None]
) -> None:
    plan, _ = resolved(folder, tiny_folder("qwen3_vl"), f"--train_type full {flags}")
    found = [m for m in plan.modules if m.place.tower == "language" and m.mode == "full"]
    assert {module.place.number for module in found} == full
    if "mlp" in flags:
        assert {module.place.kind for module in found} == {"mlp"}


def test_what_is_trained_again_comes_after_what_is_frozen(folder: Path, tiny_folder) -> None:
    model = tiny_folder("qwen3_vl")
    flags = "--train_type full --freeze_vit false --freeze_parameters"
    again, _ = resolved(
        folder,
        model,
        f"{flags} model.language_model.layers.0. --trainable_parameters model.language_model",
    )
    language = {m.place.number for m in again.modules if m.place.tower == "language"}
    full = [m for m in again.modules if m.mode == "full"]
    assert {m.place.number for m in full if m.place.tower == "language"} == language
    share, _ = resolved(folder, model, f"{flags}_ratio 0.34")
    assert set(trained(share)) == {"language", "head"}
    deep = "model.visual.deepstack_merger_list"
    some, _ = resolved(folder, model, f"{flags}_ratio 1 --trainable_parameters {deep}")
    assert {m.place.kind for m in some.modules if m.mode == "full"} == {"deepstack"}


def test_rates_stand_with_their_towers(folder: Path, tiny_folder) -> None:
    flags = "--freeze_vit false --freeze_aligner false --vit_lr 1e-6 --aligner_lr 2e-5"
    plan, result = resolved(folder, tiny_folder("qwen3_vl"), flags)
    rates = {m.place.tower: m.learning_rates[0] for m in plan.modules if m.mode != "freeze"}
    assert rates == {"language": 1e-4, "vision": 1e-6, "projector": 2e-5}
    assert row(result, "vit_lr").verdict == "carried"
    named = imported(folder, f"{flags} --optimizer multimodal")
    assert row(named, "vit_lr").verdict == row(named, "optimizer").verdict == "carried"
    other = imported(folder, f"{flags} --optimizer muon")
    assert row(other, "vit_lr").verdict == "differs"
    assert "does not look at it with optimizer muon" in row(other, "vit_lr").note
    frozen = imported(folder, "--vit_lr 1e-6")
    assert row(frozen, "vit_lr").verdict == "none"
    assert "vision" not in frozen.values["tuning"]


def test_where_the_original_would_have_done_otherwise_is_said(folder: Path) -> None:
    reached = row(imported(folder, "--target_modules q_proj gate_proj"), "target_modules")
    assert reached.verdict == "differs"
    assert "the vision tower of Qwen2.5-VL" in reached.note
    assert row(imported(folder, "--target_modules q_proj"), "target_modules").verdict == "carried"
    wide = row(imported(folder, "--target_regex '.*(q_proj|qkv)'"), "target_regex")
    assert "Theirs adapts vision too" in wide.note
    beside = row(imported(folder, "--target_modules q_proj --freeze_vit false"), "target_modules")
    assert "names nothing in vision" in beside.note
    kept = row(imported(folder, "--modules_to_save merger"), "modules_to_save")
    assert "merger alone" in kept.note
    llm = row(imported(folder, "--tuner_type lora_llm --freeze_vit true"), "freeze_vit")
    assert (llm.verdict, llm.result) == ("differs", "freeze")
    older = imported(folder, "--train_type full --freeze_parameters visual model.layers.1")
    names = {r.value: r for r in older.rows if r.key == "freeze_parameters"}
    assert "today's transformers" in names["visual"].note
    assert "layers.10 has too" in names["model.layers.1"].note


def test_lora_llm_leaves_things_out(folder: Path) -> None:
    lora = imported(folder, "--tuner_type lora_llm").values["tuning"]["lora"]
    assert lora == {"rank": 8}
    given = imported(folder, "--tuner_type lora_llm --lora_dropout 0.1 --use_dora true")
    assert given.values["tuning"]["lora"] == {"rank": 8, "dropout": 0.1, "dora": True}
    assert row(given, "lora_dropout").verdict == row(given, "use_dora").verdict == "differs"


@pytest.mark.parametrize(
    ("flags", "kind", "verdict"),
    [
        ("--quant_method bnb --quant_bits 4", "nf4", "carried"),
        ("--quant_method bnb --quant_bits 4 --bnb_4bit_quant_type fp4", "fp4", "carried"),
        ("--quant_method bnb --quant_bits 8", "int8", "carried"),
        ("--quant_method hqq --quant_bits 4", "nf4", "differs"),
        ("--quant_bits 4", None, "none"),
        ("--train_type full --quant_method bnb --quant_bits 4", None, "none"),
    ],
)
def test_a_quantised_base_is_exported_as_an_adapter(
    folder: Path, flags: str, kind: str | None, verdict: str
) -> None:
    result = imported(folder, flags)
    config = loaded(folder, result)
    assert config.tuning.quantization == (kind or "none")
    assert config.export.merged is (kind is None)
    assert row(result, "quant_bits").verdict == "none" if kind is None else "differs"
    rows = {r.target: r for r in result.rows if r.key == "quant_bits"}
    assert rows["tuning.quantization" if kind else None].verdict == verdict


def test_kinds_of_lora_are_carried(folder: Path) -> None:
    result = imported(folder, "--use_dora true --use_rslora true --lora_alpha 12.0")
    lora = loaded(folder, result).tuning.lora
    assert (lora.dora, lora.rslora, lora.alpha) == (True, True, 12)
    odd = imported(folder, "--lora_dtype bfloat16 --lora_bias all --init_weights pissa")
    for key in ("lora_dtype", "lora_bias", "init_weights"):
        assert row(odd, key).verdict == "none"
        assert "does not know" not in row(odd, key).note


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--target_regex '(('", ("target_regex", "a regular expression is expected")),
        (
            "--quant_method bnb --quant_bits 4 --bnb_4bit_quant_type int4",
            ("bnb_4bit_quant_type", "int4"),
        ),
        ("--freeze_llm true", ("trains nothing",)),
    ],
)
def test_what_cannot_be_meant_is_refused(folder: Path, flags: str, words: tuple[str, ...]) -> None:
    with pytest.raises(SightlineError) as caught:
        imported(folder, flags)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("kind", ["lora", "full", "lora_llm"])
def test_every_word_ends_in_a_row(folder: Path, kind: str) -> None:
    flags = {
        "tuner_type": kind,
        "freeze_vit": "false",
        "freeze_aligner": "false",
        "freeze_llm": "false",
        "vit_lr": "1e-6",
        "aligner_lr": "1e-5",
        "target_modules": "all-linear",
        "target_regex": "'.*(q_proj|qkv|merger.*)'",
        "modules_to_save": "embed_tokens lm_head odd",
        "freeze_parameters": "odd",
        "freeze_parameters_ratio": "0.5",
        "freeze_parameters_regex": "'((' ",
        "trainable_parameters": "lm_head",
        "trainable_parameters_regex": "merger",
        "lora_rank": "8",
        "lora_alpha": "32",
        "lora_dropout": "0.05",
        "lora_dtype": "float32",
        "use_dora": "false",
        "use_rslora": "false",
        "lorap_lr_ratio": "16",
        "quant_bits": "4",
        "quant_method": "bnb",
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": "bfloat16",
        "bnb_4bit_use_double_quant": "true",
    }
    result = imported(folder, " ".join(f"--{key} {value}" for key, value in flags.items()))
    loaded(folder, result)
    assert {row.key for row in result.rows} >= set(flags)
    assert all(row.note for row in result.rows if row.verdict != "carried")
