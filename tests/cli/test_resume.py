"""``sightline resume``: a killed run goes on to the certificate that it would have had."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import yaml

from sightline.data.shapes import write_shapes
from sightline.records import RunDirectory, read_json, read_jsonl, write_json

NUM_STEPS = 40


@pytest.fixture(scope="module")
def killed(tmp_path_factory, started) -> Path:
    """The directory of a run that was killed behind its first checkpoints."""
    folder = tmp_path_factory.mktemp("killed")
    write_shapes(folder / "data", num_images=3, height=56, width=56)
    settings = {
        "model": "tiny:qwen2_vl",
        "data": {"train": str(folder / "data" / "train.jsonl")},
        "training": {
            "max_steps": NUM_STEPS,
            "learning_rate": 1e-3,
            "batch_size": 1,
            "gradient_accumulation": 1,
            "save_every": 1,
        },
        "export": {"merged": False},
        "verify": {"samples": 1, "max_new_tokens": 4},
        "output": str(folder / "there"),
    }
    config = folder / "run.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    process = started("-m", "sightline", "train", config)
    checkpoints = folder / "there" / "checkpoints"
    deadline = time.monotonic() + 120
    while not any(checkpoints.glob("checkpoint-*")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    newest = max(int(path.name.partition("-")[2]) for path in checkpoints.glob("checkpoint-*"))
    assert newest < NUM_STEPS
    # It may be anywhere: what it needs is in it.
    (folder / "there").rename(folder / "a #run: moved")
    return folder / "a #run: moved"


@pytest.fixture
def run(killed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(killed, tmp_path / killed.name))


def test_a_killed_run_goes_on_to_its_certificate(command, run: Path) -> None:
    refused = command("train", run / "config.yaml", "--set", f"output={json.dumps(str(run))}")
    assert refused.code == 2
    assert "resume" in refused.err
    outcome = command("resume", run)
    assert outcome.code == 0, outcome.out + outcome.err
    assert read_json(run / "certificate.json")["verdict"] == "holds"
    assert (run / "report.html").is_file()
    state = RunDirectory(run).read_state()
    assert (state["state"], state["steps"]) == ("verified", NUM_STEPS)
    steps = [line["step"] for line in read_jsonl(run / "metrics.jsonl")]
    assert steps == list(range(1, NUM_STEPS + 1))
    assert len(read_jsonl(run / "ledger.jsonl")) == 3
    # Once more: it is finished, and nothing is trained or written.
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    outcome = command("resume", run)
    assert outcome.code == 0
    assert f"the run is finished after {NUM_STEPS} steps" in " ".join(outcome.out.split())
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_one_that_was_killed_in_its_verification_is_verified(command, run: Path) -> None:
    outcome = command("resume", run, "--set", "verify.enabled=false")
    assert outcome.code == 0, outcome.out + outcome.err
    assert not (run / "certificate.json").exists()
    assert "There is nothing to go on with" in command("resume", run).out
    adapter = run / "adapter" / "adapter_model.safetensors"
    before = adapter.stat().st_mtime_ns
    outcome = command("resume", run, "--set", "verify.enabled=true")
    assert outcome.code == 0, outcome.out + outcome.err
    assert "was not verified yet" in outcome.out
    assert read_json(run / "certificate.json")["verdict"] == "holds"
    assert adapter.stat().st_mtime_ns == before


def test_one_that_was_not_proven_is_said_to_be_so(command, run: Path) -> None:
    write_json(run / "run.json", read_json(run / "run.json") | {"state": "failed", "steps": 40})
    outcome = command("resume", run)
    assert outcome.code == 1
    assert "not proven" in outcome.out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: shutil.rmtree(run), "there is no such run directory"),
        (lambda run: (run / "run.json").unlink(), "run.json is missing"),
        (lambda run: (run / "config.yaml").unlink(), "config.yaml"),
    ],
)
def test_what_is_no_run_is_refused_in_one_message(command, run: Path, change, said: str) -> None:
    change(run)
    outcome = command("resume", run)
    assert outcome.code == 2
    assert said in outcome.err
    assert "Traceback" not in outcome.err


def test_a_key_that_would_change_the_result_is_refused(command, run: Path) -> None:
    before = (run / "config.yaml").read_bytes()
    outcome = command("resume", run, "--set", "training.learning_rate=0.5")
    assert outcome.code == 2
    assert "training.learning_rate: 0.001 then, 0.5 now" in outcome.err
    assert (run / "config.yaml").read_bytes() == before
