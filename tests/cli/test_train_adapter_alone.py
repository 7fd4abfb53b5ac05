"""A run without a merged model: the adapter on its base is what is proven."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from sightline.checks.finding import Finding
from sightline.checks.verify import verify_run
from sightline.errors import ModelError, VerifyError
from sightline.model import quantized
from sightline.records import RunDirectory, read_json, write_json
from sightline.training import exporting

WEIGHTS = "adapter_model.safetensors"


def _configuration(folder: Path, shapes: Path, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "model": "tiny:qwen2_5_vl",
        "data": {"train": str(shapes / "train.jsonl")},
        "training": {
            "max_steps": 2,
            "learning_rate": 3e-3,
            "batch_size": 2,
            "gradient_accumulation": 2,
            "warmup_ratio": 0.0,
        },
        "export": {"merged": False},
        "verify": {"samples": 2, "max_new_tokens": 12, "enabled": False},
        "output": str(folder / "run"),
    }
    for key, value in changes.items():
        settings[key] = settings.get(key, {}) | value if isinstance(value, dict) else value
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, shapes_folder: Path) -> Path:
    """A run with an adapter alone, and its base beside it."""
    from sightline.config import load_config
    from sightline.training import SilentObserver, train

    folder = tmp_path_factory.mktemp("alone")
    return train(load_config(_configuration(folder, shapes_folder)), SilentObserver()).run.path


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> RunDirectory:
    """A copy of the run and of its base, to plant a fault in."""
    run = RunDirectory(Path(shutil.copytree(trained, tmp_path / "run")))
    base = Path(read_json(run.probe)["base"])
    shutil.copytree(base, tmp_path / "base")
    _edit(run.probe, lambda record: record.update(base=str(tmp_path / "base")))
    return run


def _edit(path: Path, edit: Callable[[Any], None]) -> None:
    record = read_json(path)
    edit(record)
    write_json(path, record)


def _nudge(path: Path, wanted: str) -> None:
    tensors = load_file(str(path))
    name = next(name for name in sorted(tensors) if wanted in name)
    tensors[name].view(-1)[0] += 0.5
    save_file(tensors, str(path), metadata={"format": "pt"})


def _verify(run: RunDirectory) -> dict[str, Finding]:
    return {finding.id: finding for finding in verify_run(run.path, lambda _: None)}


def _failing(findings: dict[str, Finding]) -> set[str]:
    return {id for id, finding in findings.items() if finding.holds is False}


def test_only_the_adapter_is_written_and_every_check_is_made_on_it(
    copied: RunDirectory, command
) -> None:
    assert not copied.merged.exists()
    assert {"processor_config.json", "sightline.json", WEIGHTS} <= {
        path.name for path in copied.adapter.iterdir()
    }
    outcome = command("verify", copied.path)
    assert outcome.code == 0, outcome.out
    assert "The adapter on" in outcome.out
    certificate = read_json(copied.certificate)
    base = read_json(copied.probe)["base"]
    assert certificate["artefact"] == {
        "folder": "adapter",
        "what": "adapter",
        "base": base,
        "quantization": "none",
    }
    checks = {check["id"]: check for check in certificate["checks"]}
    open_ = {id for id, check in checks.items() if check["holds"] is None}
    assert open_ == {
        "tokens.media_size",
        "tokens.media_pixels",
        "positions.plain_transformers",
        "positions.conformance",
        "merge.rounding",
        "logits.adapter",
        "serving.adapter",
    }
    assert checks["serving.stop_tokens"]["holds"] is True
    assert "vLLM refuses modules_to_save" in checks["serving.adapter"]["detail"]
    assert "Serve it with PEFT" in outcome.out
    assert checks["logits.merged"]["title"].startswith("The adapter on its base")
    assert "nothing was merged" in checks["logits.adapter"]["measured"]
    # The whole base is compared, but for the projector, which trained in full.
    assert checks["weights.frozen"]["figures"]["num_tensors"] == 64
    assert "on the adapter and its base loaded afresh" in copied.report.read_text(encoding="utf-8")
    assert command("report", copied.path).code == 0


def test_one_changed_value_of_the_adapter(copied: RunDirectory) -> None:
    _nudge(copied.adapter / WEIGHTS, "lora_B")
    failing = _failing(_verify(copied))
    assert {"weights.bit_identical", "logits.merged"} <= failing
    assert "weights.frozen" not in failing


def test_one_changed_value_of_the_base(copied: RunDirectory, tmp_path: Path) -> None:
    """In a tower that LoRA does not touch: PEFT's own loading cannot know."""
    _nudge(tmp_path / "base" / "model.safetensors", "blocks.0.attn.qkv.weight")
    findings = _verify(copied)
    assert findings["weights.frozen"].figures["num_differing"] == 1
    assert "is not the base that trained" in findings["weights.frozen"].advice
    assert findings["weights.bit_identical"].holds is True


def test_a_base_that_does_not_stop_after_an_answer(copied: RunDirectory) -> None:
    """It is said, and no fault of the run: an adapter has no such settings."""
    base = Path(read_json(copied.probe)["base"])
    _edit(base / "generation_config.json", lambda record: record.update(eos_token_id=446))
    findings = _verify(copied)
    assert _failing(findings) == set()
    told = findings["serving.stop_tokens"]
    assert told.holds is None
    assert told.detail == f"{base}/generation_config.json: eos_token_id"
    assert "Add the id of <|im_end|> to eos_token_id" in told.advice


def test_another_base_under_lora_is_refused(copied: RunDirectory, tmp_path: Path) -> None:
    _nudge(tmp_path / "base" / "model.safetensors", "layers.0.self_attn.q_proj.weight")
    with pytest.raises(ModelError, match="not the base that this adapter was trained on"):
        _verify(copied)
    assert not copied.certificate.exists()


def test_another_scale_in_the_configuration(copied: RunDirectory) -> None:
    _edit(copied.adapter / "adapter_config.json", lambda record: record.update(lora_alpha=320))
    assert "logits.merged" in _failing(_verify(copied))


def test_another_pixel_budget_beside_the_adapter(copied: RunDirectory) -> None:
    """The processor that is proven is the adapter's, not the base's."""

    def halve(record: dict[str, Any]) -> None:
        record["image_processor"]["size"]["longest_edge"] //= 2

    _edit(copied.adapter / "processor_config.json", halve)
    assert "preprocessing.settings" in _failing(_verify(copied))


def test_an_adapter_that_is_not_there(copied: RunDirectory) -> None:
    copied.adapter.rename(copied.path / "merged")
    with pytest.raises(VerifyError, match="the adapter that this run exported is not there"):
        _verify(copied)


def test_a_frozen_weight_that_moved_in_training(
    command, tmp_path: Path, shapes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base on disk is as it was, so only the training process can tell."""
    name = "base_model.model.model.visual.blocks.1.norm1.weight"

    def nudge(model: Any) -> None:
        with torch.no_grad():
            model.get_parameter(name).add_(1e-3)

    monkeypatch.setattr(exporting, "take_processed_pixels", nudge)
    assert command("train", _configuration(tmp_path, shapes_folder)).code == 0
    found = _verify(RunDirectory(tmp_path / "run"))["weights.frozen"]
    assert found.holds is False
    assert found.detail == "model.visual.blocks.1.norm1.weight"
    assert "do not use this model" in found.advice


def test_a_bf16_base_is_proven_in_bf16(command, tmp_path: Path, shapes_folder: Path) -> None:
    config = _configuration(tmp_path, shapes_folder, training={"precision": "bf16"})
    assert command("train", config).code == 0
    run = RunDirectory(tmp_path / "run")
    assert _failing(_verify(run)) == set()
    saved = load_file(str(run.adapter / WEIGHTS))
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    assert read_json(run.certificate)["dtype"] == "bfloat16"


def test_a_merged_model_of_before_does_not_stay(
    command, tmp_path: Path, shapes_folder: Path
) -> None:
    config = _configuration(tmp_path, shapes_folder)
    kept = ["--set", "training.save_every=2", "--set", "export.merged=true"]
    assert command("train", config, *kept).code == 0
    run = RunDirectory(tmp_path / "run")
    assert run.merged.is_dir()
    assert command("train", config, "--resume").code == 0
    assert not run.merged.exists()
    assert read_json(run.probe)["artefact"] == "adapter"
    refused = command("train", config)
    assert refused.code == 2
    assert "a finished run is there" in refused.err


def test_quantisation_without_its_package_stops_before_anything_is_read(
    command, tmp_path: Path, shapes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    config = _configuration(tmp_path, shapes_folder, tuning={"quantization": "nf4"})
    refused = command("train", config)
    assert refused.code == 2
    assert "pip install 'sightline[qlora]'" in refused.err
    assert "conversations" not in refused.out
    assert not (tmp_path / "run").exists()


def test_quantisation_with_a_merged_export_is_refused(
    command, tmp_path: Path, shapes_folder: Path
) -> None:
    config = _configuration(tmp_path, shapes_folder, tuning={"quantization": "nf4"})
    refused = command("train", config, "--set", "export.merged=true")
    assert refused.code == 2
    assert "Set export.merged: false" in refused.err


def test_a_merged_run_says_so_too(command, tmp_path: Path, shapes_folder: Path) -> None:
    config = _configuration(tmp_path, shapes_folder, export={"merged": True})
    assert command("train", config).code == 0
    run = RunDirectory(tmp_path / "run")
    assert _failing(_verify(run)) == set()
    assert json.loads(run.certificate.read_text())["artefact"] == {
        "folder": "merged",
        "what": "merged model",
        "base": None,
        "quantization": "none",
    }
