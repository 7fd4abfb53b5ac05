"""The kinds of LoRA, and ways to say where it goes: trained, proven, loaded by plain PEFT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

from sightline.checks.plain import plain_inputs
from sightline.checks.verify import verify_run
from sightline.evaluation import load_probe
from sightline.records import RunDirectory

TOLERANCE = 1e-3  # of logits with a spread of 2.4: verify's own; fp32 rounding is up to 2e-4

VARIANTS: dict[str, dict[str, Any]] = {
    "dora": {"lora": {"dora": True}},
    "rslora": {"lora": {"rslora": True, "rank": 9}},
    "dora and rslora in every tower": {
        "lora": {"dora": True, "rslora": True, "rank": 4},
        "vision": "lora",
        "projector": "lora",
    },
    "ranks and alphas by part": {
        "language": {
            "mode": "lora",
            "rank": 8,
            "parts": [
                {"blocks": 0, "rank": 3, "alpha": 24},
                {"kind": "mlp", "rank": 2},
                {"blocks": "last 1", "alpha": 5},
            ],
        },
    },
    "a full projector beside lora": {"projector": "full", "vision": "lora"},
    "full blocks beside lora": {
        "language": {"mode": "lora", "parts": [{"blocks": 1, "mode": "full"}]},
    },
    "targets as a regular expression": {
        "lora": {"target_modules": r".*language_model.*\.(q_proj|v_proj|up_proj)"},
    },
    "modules to save by name": {
        "projector": "full",
        "head": "full",
        "lora": {"modules_to_save": ["merger", "lm_head"], "target_modules": ["q_proj"]},
    },
    "the patch embedding by its name": {
        "vision": "lora",
        "lora": {"target_modules": ["proj", "q_proj"]},
    },
    "the patch embedding by dora": {
        "vision": "lora",
        "lora": {"target_modules": ["proj", "q_proj"], "dora": True},
    },
    "embedding and head by lora": {"embeddings": "lora", "head": "lora"},
}

# Every variant on one family, and those whose names mean other modules in the other on both.
CASES = [
    (variant, family)
    for number, variant in enumerate(VARIANTS)
    for place, family in enumerate(["qwen2_5_vl", "qwen3_vl"])
    if number % 2 == place or "full projector" in variant or "embedding by its" in variant
]


def _train(command, folder: Path, shapes: Path, family: str, tuning: dict[str, Any]) -> Path:
    settings = {
        "model": f"tiny:{family}",
        "data": {"train": str(shapes / "train.jsonl"), "preparation": "lean"},
        "tuning": tuning,
        "training": {
            "max_steps": 2,
            "learning_rate": 3e-3,
            "batch_size": 2,
            "gradient_accumulation": 2,
            "warmup_ratio": 0.0,
            "precision": "fp32",
        },
        "verify": {"samples": 2, "max_new_tokens": 12, "enabled": False},
        "output": str(folder / "run"),
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    outcome = command("train", path)
    assert outcome.code == 0, outcome.err
    return folder / "run"


def _adapter_config(run: RunDirectory) -> dict[str, Any]:
    return json.loads((run.adapter / "adapter_config.json").read_text(encoding="utf-8"))


def _logits(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**inputs, use_cache=False).logits


@pytest.mark.parametrize(("variant", "family"), CASES)
def test_every_kind_of_lora_is_proven_and_is_plain_pefts(
    variant: str, family: str, command, tmp_path: Path, shapes_folder: Path
) -> None:
    run = RunDirectory(_train(command, tmp_path, shapes_folder, family, VARIANTS[variant]))
    findings = {finding.id: finding for finding in verify_run(run.path, lambda _: None)}
    failed = {id: finding.measured for id, finding in findings.items() if finding.holds is False}
    assert failed == {}
    assert findings["logits.adapter"].holds is True
    saved = _adapter_config(run)
    wanted = VARIANTS[variant].get("lora", {})
    assert saved["use_dora"] is wanted.get("dora", False)
    assert saved["use_rslora"] is wanted.get("rslora", False)
    probe = load_probe(run)
    base, merged = (
        AutoModelForImageTextToText.from_pretrained(source, dtype=torch.float32)
        for source in (probe.base, str(run.merged))
    )
    messages = probe.samples[0].messages
    inputs = plain_inputs(
        AutoProcessor.from_pretrained(str(run.adapter)), [messages], generation_prompt=False
    )
    before = _logits(base, inputs)
    adapted = _logits(PeftModel.from_pretrained(base, str(run.adapter)), inputs)
    both = _logits(merged, inputs)
    assert float((adapted - both).abs().max()) < TOLERANCE
    # Two steps move them by far more: what is equal is not the base twice.
    assert float((both - before).abs().max()) > 20 * TOLERANCE


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_the_adapter_says_what_the_plan_says(
    family: str, command, tmp_path: Path, shapes_folder: Path
) -> None:
    """Ranks and alphas by part, modules by their whole names, and raw pixels under a Conv3d."""
    tuning = VARIANTS["ranks and alphas by part"] | {
        "vision": "lora",
        "lora": {"target_modules": ["proj", "q_proj", "up_proj"]},
    }
    run = RunDirectory(_train(command, tmp_path, shapes_folder, family, tuning))
    saved = _adapter_config(run)
    hit = set(saved["target_modules"])
    assert "model.visual.patch_embed.proj" in hit
    assert not any("merger" in name or "gate_proj" in name for name in hit)
    ranks = {name.replace("\\", ""): rank for name, rank in saved["rank_pattern"].items()}
    alphas = {name.replace("\\", ""): alpha for name, alpha in saved["alpha_pattern"].items()}
    layers = "model.language_model.layers"
    assert saved["r"] == 16
    assert ranks[f"{layers}.0.self_attn.q_proj"] == 3
    assert ranks[f"{layers}.0.mlp.up_proj"] == 2
    assert ranks[f"{layers}.1.self_attn.q_proj"] == 8
    assert "model.visual.patch_embed.proj" not in ranks
    assert alphas[f"{layers}.0.self_attn.q_proj"] == 24
    assert alphas[f"{layers}.2.mlp.up_proj"] == 5
    assert f"{layers}.1.self_attn.q_proj" not in alphas
