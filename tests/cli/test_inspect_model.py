"""``sightline inspect model``: a model as a tree, with what a plan does to it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForImageTextToText

STAGES = [
    {"name": "projector", "until": "30%", "language": "freeze"},
    {
        "name": "upper",
        "until": "plateau",
        "language": {"mode": "lora", "parts": [{"blocks": "0", "mode": "freeze"}]},
    },
    {"name": "everything", "learning_rate_factor": 0.5, "vision": "lora"},
]


@pytest.fixture
def config_only(tmp_path: Path, tiny_folder: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with config.json and nothing else, in the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = Path("only")
    folder.mkdir()
    shutil.copy(tiny_folder("qwen3_vl") / "config.json", folder)
    return folder


@pytest.fixture
def plan(tmp_path: Path) -> Any:
    """Writes a run.yaml with a section ``tuning``."""

    def write(**changes: Any) -> Path:
        data = tmp_path / "train.jsonl"
        data.touch()
        settings = {
            "model": "tiny:qwen3_vl",
            "data": {"train": str(data), "eval": str(data)},
            "training": {"precision": "fp32"},
            "output": str(tmp_path / "runs" / "first"),
        }
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(settings | changes), encoding="utf-8")
        return path

    return write


def _lines(outcome: Any) -> list[str]:
    assert outcome.code == 0, outcome.err
    assert max(map(len, outcome.out.splitlines())) <= 80
    return [" ".join(line.split()) for line in outcome.out.splitlines() if line.strip()]


def test_a_model_without_a_plan_says_how_it_is_addressed(command, config_only: Path) -> None:
    lines = _lines(command("inspect", "model", config_only))
    assert lines[0] == f"Qwen3-VL, {config_only}"
    told = " ".join(lines)
    assert "└─ blocks.0-1 66.9 K float32 262 KiB blocks: 0-1" in told
    assert "├─ attention 33.3 K float32 130 KiB kind: attention │ qkv, proj" in told
    assert "└─ deepstack_merger_list.0 82.8 K float32 323 KiB blocks: 0 reads block 0" in told
    assert "head: lm_head 32.8 K float32 128 KiB tuning.head" in told
    assert "├─ layers.0-2 111 K" in told
    model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(config_only))
    assert f"all {sum(w.numel() for w in model.parameters()) / 1e3:.3g} K" in told
    # Nothing is written beside it.
    assert [path.name for path in config_only.iterdir()] == ["config.json"]


def test_a_plan_is_laid_on_it(command, config_only: Path, plan: Any) -> None:
    path = plan(tuning={"language": {"mode": "lora", "rank": 4}, "lora": {"alpha": 8}})
    told = " ".join(_lines(command("inspect", "model", config_only, "--plan", path)))
    assert "├─ layers.0-2 111 K lora r4" in told
    assert "projector 165 K full 165 K 1e-4" in told
    assert "memory weights" in told
    assert "Stages" not in told
    assert "stage" not in told


def test_a_plan_for_another_model_says_so(command, config_only: Path, plan: Any) -> None:
    path = plan()
    told = " ".join(_lines(command("inspect", "model", config_only, "--plan", path)))
    assert f"its plan is laid on {config_only}" in told.replace("- ", "-")
    assert "names the model tiny:qwen3_vl" in told
    told = command("inspect", "model", "tiny:qwen3_vl", "--plan", path).out
    assert "names the model" not in told


def test_stages_are_listed_and_drawn(command, config_only: Path, plan: Any) -> None:
    path = plan(tuning={"stages": STAGES}, training={"precision": "fp32", "learning_rate": 2e-4})
    lines = _lines(command("inspect", "model", config_only, "--plan", path))
    told = " ".join(lines)
    assert "├─ layers.0 37 K lora r16 16.4 K 1e-4 3" in told
    assert "├─ layers.1-2 74 K lora r16 32.8 K ≤2e-4 2-3" in told
    assert "1 projector 30 % of the run projector: full, 2e-4 165 K" in told
    assert "2 upper a plateau projector: full, 2e-4" in told
    assert "language layers.1-2: lora r16, 2e-4" in told
    assert "3 everything end of the run vision: lora r16, 1e-4" in told
    [strip] = [line for line in lines if line.startswith("language ·")]
    assert strip.count("·") == pytest.approx(56 / 3, abs=1)
    assert "not to scale: where a stage ends is not known" in told
    path = plan(tuning={"stages": [STAGES[0], STAGES[1] | {"until": 20}, STAGES[2]]})
    known = ["--set", "training.max_steps=40"]
    outcome = command("inspect", "model", config_only, "--plan", path, *known)
    [strip] = [line for line in _lines(outcome) if line.startswith("language ·")]
    assert strip.count("·") == pytest.approx(56 * 0.3, abs=1)
    assert "not to scale" not in outcome.out


def test_names_say_what_they_hit_by_tower(command, tiny_folder, plan: Any) -> None:
    path = plan(tuning={"lora": {"target_modules": ["gate_proj", "q_proj"]}})
    model = tiny_folder("qwen2_5_vl")
    told = " ".join(_lines(command("inspect", "model", model, "--plan", path)))
    assert "target_modules gate_proj 3 in language 2 in vision" in told
    assert "target_modules q_proj 3 in language -" in told


def test_the_record(command, config_only: Path, plan: Any) -> None:
    path = plan(tuning={"stages": STAGES})
    outcome = command("inspect", "model", config_only, "--plan", path, "--json")
    record = json.loads(outcome.out)
    assert set(record) == {
        "schema", "model", "family", "dtype", "is_tied", "totals", "plan", "tree", "notes",
    }  # fmt: skip
    assert record["schema"] == 1
    assert record["family"] == {"key": "qwen3_vl", "title": "Qwen3-VL"}
    assert set(record["plan"]) == {
        "path", "num_steps", "stages", "targets", "dora", "rslora", "quantization",
    }  # fmt: skip
    nodes = list(_walk(record["tree"]))
    keys = {
        "name", "tower", "kind", "path", "modules", "words", "num_parameters", "num_trainable",
        "dtype", "how", "rank", "alpha", "learning_rates", "weight_decay", "stages",
        "weight_bytes", "gradient_bytes", "optimizer_bytes", "reads_from", "tied_to", "children",
    }  # fmt: skip
    assert all(set(node) == keys for node in nodes)
    leaves = [node for node in nodes if not node["children"]]
    for key, total in record["totals"].items():
        assert sum(leaf[key] for leaf in leaves) == total
    [layer] = [n for n in nodes if n["name"] == "layers.2"]
    assert (layer["how"], layer["rank"], layer["stages"]) == ("lora", 16, [2, 3])
    plain = json.loads(command("inspect", "model", config_only, "--json").out)
    assert plain["plan"] is None
    assert {node["how"] for node in _walk(plain["tree"])} == {None}


def _walk(nodes: list[dict[str, Any]]) -> Any:
    for node in nodes:
        yield node
        yield from _walk(node["children"])


def test_a_tiny_model_that_is_not_there_says_how_to_make_it(
    command, tmp_path: Path, plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = command("inspect", "model", "runs/tiny/qwen2_5_vl")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == (
        "sightline: runs/tiny/qwen2_5_vl: there is no such folder.\n"
        "To make a tiny model there: sightline tiny qwen2_5_vl runs/tiny/qwen2_5_vl\n"
    )
    for missing in ("runs/models/mine", str(tmp_path / "nothing")):
        outcome = command("inspect", "model", missing)
        assert outcome.code == 2
        assert outcome.err == (
            f"sightline: {missing}: there is no such folder.\n"
            "Check the spelling. A hub id is OWNER/NAME, without a leading dot or slash.\n"
        )
    # Where the plan's own run would make it, it counts as made.
    outcome = command("inspect", "model", "runs/tiny/qwen3_vl", "--plan", plan(output="runs/a"))
    assert outcome.code == 0, outcome.err
    assert "names the model" not in outcome.out
    assert not (tmp_path / "runs").exists()


def test_a_plan_that_cannot_be_laid_on_the_model_is_refused(
    command, config_only: Path, plan: Any
) -> None:
    path = plan(tuning={"language": {"mode": "lora", "parts": [{"blocks": "7", "mode": "full"}]}})
    outcome = command("inspect", "model", config_only, "--plan", path)
    assert outcome.code == 2
    assert "blocks 7 matches nothing" in outcome.err
    assert "Traceback" not in outcome.err
    outcome = command("inspect", "model", config_only, "--set", "tuning.vision=full")
    assert outcome.code == 2
    assert "--plan run.yaml" in outcome.err


def test_a_folder_without_a_known_model_is_refused(command, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    assert "has no config.json" in command("inspect", "model", folder).err
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    outcome = command("inspect", "model", folder)
    assert outcome.code == 2
    assert "'llama' in config.json is not a family" in outcome.err
    (folder / "config.json").write_text('{"model_type": "glm4v"}', encoding="utf-8")
    assert "its towers are not" in command("inspect", "model", folder).err
    (folder / "config.json").write_text("{broken", encoding="utf-8")
    outcome = command("inspect", "model", folder)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err


def test_the_dtype_is_the_one_that_training_would_load(
    command, config_only: Path, plan: Any
) -> None:
    path = plan(training={"precision": "bf16"})
    record = json.loads(command("inspect", "model", config_only, "--plan", path, "--json").out)
    assert record["dtype"] == "bfloat16"
    dtypes = {node["tower"]: node["dtype"] for node in record["tree"]}
    # What trains in full is kept in float32.
    assert (dtypes["vision"], dtypes["projector"]) == ("bfloat16", "float32")
    path = plan(training={"precision": "auto"})
    record = json.loads(command("inspect", "model", config_only, "--plan", path, "--json").out)
    assert record["dtype"] == ("bfloat16" if torch.cuda.is_available() else "float32")
    assert any("training.precision is auto" in note for note in record["notes"])


def test_a_run_writes_the_plan_that_the_map_showed(
    command, tmp_path: Path, shapes_folder: Path, plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The map is laid on no weights, the run on real ones: every figure is the same."""
    monkeypatch.chdir(tmp_path)
    data = str(shapes_folder / "train.jsonl")
    stages = [{"until": 2, "language": "freeze"}, {"vision": "lora", "learning_rate_factor": 0.5}]
    tuning = {
        "language": {"mode": "lora", "parts": [{"blocks": "0", "kind": "mlp", "mode": "full"}]},
        "lora": {"rank": 4, "dora": True},
        "stages": stages,
    }
    path = plan(
        data={"train": data},
        training={"precision": "bf16", "max_steps": 4, "gradient_accumulation": 1},
        tuning=tuning,
        verify={"enabled": False},
        output="runs/first",
    )
    outcome = command("train", path)
    assert outcome.code == 0, outcome.err
    written = json.loads((tmp_path / "runs/first/plan.json").read_text("utf-8"))
    outcome = command("inspect", "model", "runs/tiny/qwen3_vl", "--plan", path, "--json")
    record = json.loads(outcome.out)
    rows = [
        leaf | {"block": block["name"]}
        for tower in record["tree"]
        for block in tower["children"]
        for leaf in block["children"]
    ]
    assert written["totals"] == record["totals"]
    assert written["rows"] == [
        {key: row[key] for key in old} for row, old in zip(rows, written["rows"], strict=True)
    ]
