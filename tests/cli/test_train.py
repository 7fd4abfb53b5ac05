"""The command from a configuration to a certificate, for the ways a model can be tuned."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml


def _certificate(run: Path) -> dict:
    return json.loads((run / "certificate.json").read_text(encoding="utf-8"))


def _configuration(folder: Path, shapes: Path, **changes: object) -> Path:
    settings: dict = {
        "model": "tiny:qwen2_vl",
        "data": {"train": str(shapes / "train.jsonl")},
        "training": {
            "max_steps": 2,
            "learning_rate": 1e-3,
            "batch_size": 2,
            "gradient_accumulation": 4,
            "warmup_ratio": 0.0,
        },
        "verify": {"samples": 3, "max_new_tokens": 12},
        "output": str(folder / "run"),
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(settings | changes), encoding="utf-8")
    return path


PLANS = {
    "language in full": {"language": "full", "projector": "freeze"},
    "language and vision in full": {"language": "full", "projector": "full", "vision": "full"},
    "lora everywhere": {
        "language": "lora",
        "projector": "lora",
        "vision": "lora",
        "embeddings": "lora",
        "head": "lora",
    },
    "projector alone": {"language": "freeze", "projector": "full"},
    "lora beside full blocks": {"language": "lora", "projector": "full", "vision": "full"},
    "head and embedding in full": {
        "language": "lora",
        "projector": "freeze",
        "embeddings": "full",
        "head": "full",
    },
}


@pytest.mark.parametrize(
    ("plan", "family"),
    [(plan, ("qwen2_5_vl", "qwen3_vl")[number % 2]) for number, plan in enumerate(PLANS)],
)
def test_every_plan_ends_with_a_certificate(
    plan: str, family: str, command, tmp_path: Path, shapes_folder: Path
) -> None:
    from sightline.checks.verify import verify_run

    config = _configuration(tmp_path, shapes_folder, model=f"tiny:{family}", tuning=PLANS[plan])
    trained = command("train", config, "--set", "verify.enabled=false")
    assert trained.code == 0, trained.err
    findings = {finding.id: finding for finding in verify_run(tmp_path / "run", lambda _: None)}
    failed = {id: finding.measured for id, finding in findings.items() if finding.holds is False}
    assert failed == {}
    uses_lora = "lora" in PLANS[plan].values()
    assert (findings["logits.adapter"].holds is True) == uses_lora
    assert (tmp_path / "run" / "adapter").is_dir() == uses_lora


def test_tied_weights_tuned_in_full_stay_one(command, tmp_path: Path, shapes_folder: Path) -> None:
    from sightline.model import make_tiny_model

    folder = make_tiny_model("qwen2_5_vl", tmp_path / "tied", tied=True)
    config = _configuration(
        tmp_path,
        shapes_folder,
        model=str(folder),
        tuning={"language": "full", "projector": "full", "embeddings": "full", "head": "full"},
    )
    assert command("train", config).code == 0
    assert _certificate(tmp_path / "run")["verdict"] == "holds"


def test_bf16_weights_run_to_a_certificate(command, tmp_path: Path, shapes_folder: Path) -> None:
    config = _configuration(tmp_path, shapes_folder)
    outcome = command("train", config, "--set", "training.precision=bf16")
    assert outcome.code == 0, outcome.out + outcome.err
    certificate = _certificate(tmp_path / "run")
    assert certificate["dtype"] == "bfloat16"
    merged = next(check for check in certificate["checks"] if check["id"] == "merge.rounding")
    # bf16 keeps 8 bits: an update of two steps is mostly below the last of them.
    assert 0.01 < merged["figures"]["lost_share"] < 1
    assert 0 < merged["figures"]["still_share"] < 1
    assert (merged["holds"], "in bfloat16" in merged["measured"]) == (None, True)


def test_evaluation_does_not_depend_on_the_batch_size(
    command, tmp_path: Path, shapes_folder: Path
) -> None:
    losses = []
    for batch_size in (1, 3):
        folder = tmp_path / str(batch_size)
        folder.mkdir()
        data = str(shapes_folder / "train.jsonl")
        config = _configuration(folder, shapes_folder, data={"train": data, "eval": data})
        arguments = [
            "--set",
            f"training.batch_size={batch_size}",
            "--set",
            "training.eval_every=1",
            "--set",
            "training.max_steps=1",
            "--set",
            "training.learning_rate=1e-30",
            "--set",
            "verify.enabled=false",
        ]
        assert command("train", config, *arguments).code == 0
        rows = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses += [row["eval_loss"] for row in map(json.loads, rows) if "eval_loss" in row]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_plain_peft_and_plain_transformers_load_what_was_exported(
    command, tmp_path: Path, shapes_folder: Path
) -> None:
    """Nothing of Sightline on this side: the libraries alone."""
    config = _configuration(tmp_path, shapes_folder)
    assert command("train", config, "--set", "verify.enabled=false").code == 0
    script = (
        "import sys, torch\n"
        "from peft import PeftModel\n"
        "from transformers import AutoModelForImageTextToText, AutoProcessor\n"
        "base, adapter, merged = sys.argv[1:]\n"
        "AutoProcessor.from_pretrained(merged)\n"
        "plain = AutoModelForImageTextToText.from_pretrained(merged).eval()\n"
        "model = AutoModelForImageTextToText.from_pretrained(base)\n"
        "model = PeftModel.from_pretrained(model, adapter).eval()\n"
        "ids = torch.tensor([[5, 6, 7, 8]])\n"
        "gap = (plain(input_ids=ids).logits - model(input_ids=ids).logits).abs().max()\n"
        "assert 'sightline' not in sys.modules\n"
        "assert gap < 1e-3, gap\n"
    )
    run = tmp_path / "run"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            script,
            str(tmp_path / "tiny" / "qwen2_vl"),
            str(run / "adapter"),
            str(run / "merged"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_run_repeats_itself_whatever_ran_before(
    command, tmp_path: Path, shapes_folder: Path
) -> None:
    """Adapters are initialised from the run's seed, not from what the process drew before."""
    import torch

    losses = []
    for _ in range(2):
        torch.rand(3)
        config = _configuration(tmp_path, shapes_folder)
        arguments = ["--set", "verify.enabled=false", "--set", "training.precision=fp32"]
        assert command("train", config, *arguments, "--overwrite").code == 0
        rows = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses.append([json.loads(row)["loss"] for row in rows])
    assert losses[0] == losses[1]
