"""A run of a tiny model on a picture and a video, and copies of it to plant faults in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file

from sightline.checks.finding import Finding
from sightline.checks.verify import verify_run
from sightline.config import RunConfig
from sightline.records import RunDirectory, read_json, write_json
from sightline.training import SilentObserver, train

NUM_STEPS = 30


TrainOn = Callable[..., RunDirectory]


@pytest.fixture(scope="session")
def train_on(tiny_folder: Callable[[str], Path]) -> TrainOn:
    """Trains a tiny model for some steps on a source, with two probes."""

    def run(source: Any, output: Path, *, num_steps: int) -> RunDirectory:
        config = RunConfig.model_validate(
            {
                "model": str(tiny_folder("qwen2_5_vl")),
                "data": {"train": [source]},
                "training": {
                    "max_steps": num_steps,
                    "gradient_accumulation": 1,
                    "learning_rate": 3e-3,
                    "precision": "fp32",
                    "gradient_checkpointing": False,
                },
                "verify": {"samples": 2, "max_new_tokens": 12},
                "output": str(output),
            }
        )
        return train(config, SilentObserver()).run

    return run


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, train_on: TrainOn, shapes_folder: Path
) -> Path:
    """A short run on one picture and one video; both are probes."""
    folder = tmp_path_factory.mktemp("certificate")
    rows = [json.loads(line) for line in (shapes_folder / "train.jsonl").open(encoding="utf-8")]
    picture = next(row for row in rows if isinstance(row.get("image"), str))
    video = next(row for row in rows if "video" in row)
    data = folder / "two.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in (picture, video)), encoding="utf-8")
    source = {"path": data, "media_root": shapes_folder}
    return train_on(source, folder / "run", num_steps=NUM_STEPS).path


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """A copy of the trained run, to plant a fault in.

    Attributes:
        run: Its directory.
    """

    run: RunDirectory

    checks: ClassVar[Sequence[str]] = (
        "preprocessing.settings",
        "tokens.same_ids",
        "tokens.labels",
        "tokens.media_size",
        "tokens.media_pixels",
        "preprocessing.pixels",
        "positions.same_as_training",
        "positions.plain_transformers",
        "positions.conformance",
        "weights.bit_identical",
        "weights.frozen",
        "plan.proof",
        "plan.gradients",
        "plan.movement",
        "packing.alone",
        "loss.exact",
        "merge.rounding",
        "logits.merged",
        "logits.cache",
        "logits.adapter",
        "answers.alone",
        "answers.batched",
        "answers.annotated",
        "serving.stop_tokens",
        "serving.adapter",
    )
    """What is checked, in this order."""

    picture: ClassVar[int] = 0
    video: ClassVar[int] = 1
    """The two samples."""

    def verify(self) -> dict[str, Finding]:
        """Findings by their ids, in their order."""
        told: list[Finding] = []
        findings = verify_run(self.run.path, told.append)
        assert told == findings
        return {finding.id: finding for finding in findings}

    def edit_json(self, path: Path, edit: Callable[[Any], None]) -> None:
        """Change a JSON file of the copy in place."""
        record = read_json(path)
        edit(record)
        write_json(path, record)

    def edit_tensors(self, path: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
        """Change a Safetensors file of the copy in place."""
        tensors = load_file(str(path))
        edit(tensors)
        save_file(tensors, str(path), metadata={"format": "pt"})

    def expect(
        self, fails: set[str], *, may_fail: Set[str] = frozenset(), checks: Sequence[str] = checks
    ) -> dict[str, Finding]:
        """The named checks fail, others than those that may do not, and all are reported."""
        findings = self.verify()
        assert list(findings) == list(checks)
        failing = self.failing(findings)
        assert fails <= failing <= fails | may_fail, failing
        for name in failing:
            assert findings[name].advice, name
            assert findings[name].detail, name
        certificate = read_json(self.run.certificate)
        assert certificate["verdict"] == "fails"
        assert [check["id"] for check in certificate["checks"]] == list(checks)
        assert self.run.read_state()["state"] == "failed"
        return findings

    @staticmethod
    def failing(findings: dict[str, Finding]) -> set[str]:
        """The ids of those that do not hold."""
        return {name for name, finding in findings.items() if finding.holds is False}


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Copy:
    """A copy of the run without what an earlier verification wrote."""
    shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    return Copy(run=RunDirectory.open(tmp_path / "run"))


@pytest.fixture
def as_copy() -> Callable[[RunDirectory], Copy]:
    """Takes another run for one."""
    return lambda run: Copy(run=run)
