"""Faults in exported weights and in what the run proved, each found by its check."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.records import read_json

# Weights.


def test_one_changed_weight_of_a_frozen_tensor(copy: Any) -> None:
    frozen = set(read_json(copy.run.probe)["frozen_fingerprints"])

    def nudge(tensors: dict[str, torch.Tensor]) -> None:
        name = next(name for name in tensors if _as_loaded(name) in frozen)
        tensors[name].view(-1)[0] += 1e-3

    copy.edit_tensors(copy.run.merged / "model.safetensors", nudge)
    findings = copy.expect(
        {"weights.bit_identical", "weights.frozen"},
        may_fail={"logits.merged", "logits.adapter", "answers.alone"},
    )
    assert findings["weights.bit_identical"].figures["num_differing"] == 1
    assert findings["weights.frozen"].figures["num_differing"] == 1


def _as_loaded(name: str) -> str:
    """A name in the file as the loaded model calls it."""
    if name.startswith("visual."):
        return f"model.{name}"
    if name.startswith("model.") and not name.startswith(
        ("model.visual.", "model.language_model.")
    ):
        return f"model.language_model.{name.removeprefix('model.')}"
    return name


def test_an_adapter_that_was_never_merged(copy: Any) -> None:
    base = Path(read_json(copy.run.probe)["base"])
    shutil.copy(base / "model.safetensors", copy.run.merged / "model.safetensors")
    copy.expect(
        {
            "weights.bit_identical",
            "merge.rounding",
            "logits.merged",
            "logits.adapter",
            "answers.alone",
        },
        may_fail={"answers.annotated"},
    )


def test_packing_that_was_not_proven(copy: Any) -> None:
    """Rows of two samples each: their logits together and alone."""
    proof = {"samples": ["a:1", "a:2"], "num_compared": 16, "tolerance": 1e-4}

    def tell(share: float) -> None:
        proof["largest_share"] = share
        copy.edit_json(copy.run.state_file, lambda record: record.update(packing=proof))

    tell(1e-6)
    assert copy.verify()["packing.alone"].holds is True
    tell(0.5)
    copy.expect({"packing.alone"})


def test_a_loss_that_was_a_mean_of_means(copy: Any) -> None:
    def damage(record: dict[str, Any]) -> None:
        record["loss"]["loss"] *= 1.01

    assert copy.verify()["loss.exact"].figures["num_samples"] > 1
    copy.edit_json(copy.run.state_file, damage)
    copy.expect({"loss.exact"})


def test_a_trainable_tensor_without_a_gradient(copy: Any) -> None:
    copy.edit_json(copy.run.probe, lambda record: record["without_gradient"].append("a.weight"))
    findings = copy.expect({"plan.gradients"})
    assert findings["plan.gradients"].detail == "a.weight"


def test_a_proof_with_a_fault(copy: Any) -> None:
    fault = {"name": "a.weight", "tower": "vision", "what": "no gradient"}

    def damage(record: dict) -> None:
        record["before"]["faults"].append(fault)
        record["before"]["cause"] = "The batch has no picture."

    copy.edit_json(copy.run.proof, damage)
    finding = copy.expect({"plan.proof"})["plan.proof"]
    assert (finding.detail, finding.advice) == ("a.weight", "The batch has no picture.")


def test_a_tensor_that_did_not_move(copy: Any) -> None:
    copy.edit_json(copy.run.proof, lambda record: record["end"]["unmoved"].append("a.weight"))
    assert copy.expect({"plan.movement"})["plan.movement"].detail == "a.weight"


def test_a_run_without_its_proof_is_not_said_to_be_proven(copy: Any) -> None:
    copy.run.proof.unlink()
    findings = copy.verify()
    assert findings["plan.proof"].holds is None
    assert findings["plan.movement"].holds is None


def test_an_adapter_of_another_scale(copy: Any) -> None:
    def scale(tensors: dict[str, torch.Tensor]) -> None:
        factors = [name for name in tensors if "lora_B" in name]
        assert factors
        for name in factors:
            tensors[name] *= 1.5

    copy.edit_tensors(copy.run.adapter / "adapter_model.safetensors", scale)
    findings = copy.expect({"logits.adapter", "merge.rounding"})
    # What was merged is two thirds of what the adapter says now.
    assert findings["merge.rounding"].figures["lost_share"] == pytest.approx(1 / 3, rel=1e-3)


def test_an_adapter_configuration_of_another_scale(copy: Any) -> None:
    def double(record: dict[str, Any]) -> None:
        record["lora_alpha"] *= 2

    copy.edit_json(copy.run.adapter / "adapter_config.json", double)
    findings = copy.expect({"logits.adapter", "merge.rounding"})
    assert findings["merge.rounding"].figures["lost_share"] == pytest.approx(1 / 2, rel=1e-3)
