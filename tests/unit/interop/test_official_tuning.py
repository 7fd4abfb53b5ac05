"""The official script's words for tuning: the plan that they make of a real model."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.config import load_config
from sightline.interop.imported import Carried, Imported, render_yaml
from sightline.interop.official import import_official
from sightline.model import open_checkpoint, skeleton
from sightline.tuning import TuningPlan, resolve_plan

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "qwenvl/data").mkdir(parents=True)
    entry = '{"annotation_path": "a.json", "data_path": ""}'
    (tmp_path / "qwenvl/data/__init__.py").write_text(f"data_dict = {{'a': {entry}}}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def imported(folder: Path, flags: str, model: object = "Qwen/Qwen3-VL-4B-Instruct") -> Imported:
    config = folder / "sft.sh"
    config.write_text(
        f"python train_qwen.py --dataset_use a --model_name_or_path {model} {flags}\n"
    )
    return import_official(config, folder=folder)


def row(result: Imported, key: str) -> Carried:
    return next(row for row in result.rows if row.key == key)


def resolved(folder: Path, model: Path, flags: str) -> TuningPlan:
    (folder / "run.yaml").write_text(render_yaml(imported(folder, flags, model)))
    config = load_config(folder / "run.yaml")
    checkpoint = open_checkpoint(str(model))
    return resolve_plan(skeleton(checkpoint), checkpoint.family, config.tuning, config.training)


def trained(plan: TuningPlan) -> dict[str, set[str]]:
    """Modes of each tower in which something trains."""
    found: dict[str, set[str]] = {}
    for module in plan.modules:
        if module.mode != "freeze":
            found.setdefault(module.place.tower, set()).add(module.mode)
    return found


FULL = {tower: {"full"} for tower in ("language", "embeddings", "head")}
ALL = "--tune_mm_llm True --tune_mm_mlp True --tune_mm_vision True"


@pytest.mark.parametrize("family", FAMILY_KEYS)
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--tune_mm_llm True", FULL),
        ("--tune_mm_llm True --tune_mm_mlp True", FULL | {"projector": {"full"}}),
        ("--tune_mm_mlp True", {"projector": {"full"}}),
        (ALL, FULL | {"projector": {"full"}, "vision": {"full"}}),
        ("--lora_enable True", {"language": {"lora"}}),
        (
            "--lora_enable True --tune_mm_llm True --tune_mm_mlp True --tune_mm_vision False",
            {"language": {"lora"}, "projector": {"full"}},
        ),
        (
            f"--lora_enable True {ALL}",
            {"language": {"lora"}, "projector": {"full"}, "vision": {"full"}},
        ),
    ],
)
def test_the_plan_is_what_was_meant(
    folder: Path, tiny_folder, family: str, flags: str, expected: dict[str, set[str]]
) -> None:
    plan = resolved(folder, tiny_folder(family), flags)
    assert trained(plan) == expected
    if "lora" in flags:
        leaves = {name.rpartition(".")[2] for name in plan.lora_modules}
        assert leaves == {"q_proj", "k_proj", "v_proj", "o_proj"}
    if "projector" in expected:
        kinds = {m.place.kind for m in plan.modules if m.place.tower == "projector"}
        assert {m.place.kind for m in plan.modules if m.mode == "full"} >= kinds


def test_rates_stand_with_their_towers(folder: Path, tiny_folder) -> None:
    flags = f"{ALL} --mm_projector_lr 1e-5 --vision_tower_lr 1e-6"
    plan = resolved(folder, tiny_folder("qwen3_vl"), flags)
    rates = {module.place.tower: module.learning_rates[0] for module in plan.modules}
    assert rates == dict.fromkeys(FULL, 5e-05) | {"projector": 1e-5, "vision": 1e-6}
    assert row(imported(folder, flags), "vision_tower_lr").verdict == "carried"
    alone = row(imported(folder, f"{ALL} --vision_tower_lr 1e-6"), "vision_tower_lr")
    assert alone.verdict == "differs"
    assert "only beside mm_projector_lr" in alone.note
    zero = imported(folder, f"{ALL} --mm_projector_lr 0 --vision_tower_lr 1e-6")
    assert row(zero, "mm_projector_lr").verdict == "none"
    assert row(zero, "vision_tower_lr").verdict == "differs"
    frozen = imported(folder, "--tune_mm_llm True --vision_tower_lr 1e-6")
    assert row(frozen, "vision_tower_lr").verdict == "none"
    lora = imported(folder, "--lora_enable True --tune_mm_mlp True --mm_projector_lr 1e-5")
    assert lora.values["tuning"]["projector"] == {"mode": "full", "learning_rate": 1e-5}
    assert "lora_enable freezes" in row(lora, "mm_projector_lr").note


def test_where_the_original_would_have_done_otherwise_is_said(folder: Path) -> None:
    lora = imported(folder, "--lora_enable True --tune_mm_mlp True --tune_mm_llm True")
    assert row(lora, "tune_mm_mlp").verdict == "differs"
    assert "lora_enable freezes it there" in row(lora, "tune_mm_mlp").note
    assert row(lora, "tune_mm_llm").verdict == "none"
    head = [r for r in imported(folder, "--tune_mm_mlp True").rows if r.target == "tuning.head"]
    assert [r.verdict for r in head] == ["differs"]
    assert "goes on training a head" in head[0].note
    assert "deepstack" in row(imported(folder, "--tune_mm_mlp True"), "tune_mm_mlp").note
    older = imported(folder, "--tune_mm_mlp True", "Qwen/Qwen2.5-VL-3B-Instruct")
    assert row(older, "tune_mm_mlp").verdict == "carried"


@pytest.mark.parametrize(
    ("flags", "dropout", "start"),
    [
        ("", 0.05, "their default"),
        ("--lora_dropout 0", 0.0, "As it says"),
        ("--lora_dropout 0.1", 0.1, ""),
    ],
)
def test_dropout_of_zero(folder: Path, flags: str, dropout: float, start: str) -> None:
    result = imported(folder, f"--lora_enable True {flags}")
    assert result.values["tuning"]["lora"]["dropout"] == dropout
    assert row(result, "lora_dropout").note.startswith(start)


@pytest.mark.parametrize("lora", ["True", "False"])
def test_every_word_ends_in_a_row(folder: Path, lora: str) -> None:
    flags = {
        "lora_enable": lora,
        "lora_r": "8",
        "lora_alpha": "16",
        "lora_dropout": "0.1",
        "tune_mm_llm": "True",
        "tune_mm_mlp": "True",
        "tune_mm_vision": "False",
        "mm_projector_lr": "1e-5",
        "vision_tower_lr": "1e-6",
    }
    result = imported(folder, " ".join(f"--{key} {value}" for key, value in flags.items()))
    assert {row.key for row in result.rows} >= set(flags)
    assert "does not know" not in " ".join(row.note for row in result.rows)
