"""``sightline verify``: its forms, and a verification beside an earlier one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sightline.records.certificate import CertificateRecord, certificate_schema

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory, shapes_folder: Path) -> Path:
    """The directory of a run whose verification holds."""
    from sightline.checks.verify import verify_run
    from sightline.config import RunConfig
    from sightline.training import SilentObserver, train

    folder = tmp_path_factory.mktemp("verify")
    config = RunConfig.model_validate(
        {
            "model": "tiny:qwen2_vl",
            "data": {"train": str(shapes_folder / "train.jsonl")},
            "training": {
                "max_steps": 6,
                "learning_rate": 1e-3,
                "warmup_ratio": 0.0,
                "gradient_accumulation": 1,
                "precision": "fp32",
            },
            "verify": {"samples": 2, "max_new_tokens": 4},
            "output": str(folder / "run"),
        }
    )
    run = train(config, SilentObserver()).run.path
    verify_run(run, lambda _: None)
    return run


@pytest.fixture
def run(verified: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(verified, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    return tmp_path / "run"


def _edit(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_json_is_the_certificate_and_nothing_else(run: Path, command: Any) -> None:
    outcome = command("verify", run, "--json")
    assert outcome.code == 0
    printed = json.loads(outcome.out)
    assert printed == json.loads((run / "certificate.json").read_text())
    assert CertificateRecord.model_validate(printed).verdict == "holds"
    assert len(printed["weights"]["sha256"]) == 64
    assert printed["data"] == json.loads((run / "run.json").read_text())["data"]["fingerprint"]


def test_a_folder_of_runs_is_verified_run_by_run(run: Path, command: Any) -> None:
    shutil.copytree(run, run.parent / "second")
    weights = run.parent / "second" / "merged" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    outcome = command("verify", run.parent, "--json")
    assert outcome.code == 1
    verdicts = {name: one["verdict"] for name, one in json.loads(outcome.out)["runs"].items()}
    assert verdicts == {"run": "holds", "second": "fails"}
    assert command("verify", run.parent / "second", "--json").code == 1
    (run.parent / "empty").mkdir()
    assert command("verify", run.parent / "empty").code == 2


def test_the_schema_in_the_documents_is_the_one_of_certificates() -> None:
    schema = json.loads((DOCS / "certificate.schema.json").read_text())
    assert _told(schema) == _told(certificate_schema())
    assert schema["additionalProperties"] is False


def _told(schema: Any) -> Any:
    """Without what older pydantic leaves out, and what says nothing."""
    if isinstance(schema, list):
        return [_told(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    silent = ("additionalProperties", True)
    return {key: _told(value) for key, value in schema.items() if (key, value) != silent}


def test_the_same_again_changes_nothing(run: Path, command: Any) -> None:
    outcome = command("verify", run, "--against", run)
    assert outcome.code == 0, outcome.out
    assert "nothing changed since the earlier certificate" in outcome.out
    checks = json.loads((run / "certificate.json").read_text())["checks"]
    assert [check["id"] for check in checks[-2:]] == ["against.artefact", "against.answers"]
    assert all(check["holds"] for check in checks[-2:])


def test_what_changed_is_told(run: Path, verified: Path, tmp_path: Path, command: Any) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    for name in ("certificate.json", "predictions.json"):
        shutil.copy(verified / name, earlier / name)
    before = json.loads((earlier / "certificate.json").read_text())
    _edit(
        earlier / "certificate.json",
        versions=before["versions"] | {"transformers": "4.49.0"},
        weights={"sha256": "0" * 64, "num_tensors": 1},
    )
    told = json.loads((earlier / "predictions.json").read_text())
    told["samples"][1]["answer"] = "another"
    _edit(earlier / "predictions.json", **told)
    outcome = command("verify", run, "--against", earlier, "--sarif", tmp_path / "found.sarif")
    assert outcome.code == 1
    [line] = [line for line in outcome.out.splitlines() if line.strip().startswith("transformers ")]
    assert line.split()[1] == "4.49.0"
    assert len(line) <= 80
    assert "weights differs" in outcome.out
    assert "1 of 2 equal" in outcome.out
    [log] = json.loads((tmp_path / "found.sarif").read_text())["runs"]
    failing = [one["ruleId"] for one in log["results"] if one["level"] == "error"]
    assert failing == ["against.artefact", "against.answers"]


def test_a_folder_without_a_certificate_is_refused_before_anything_is_lost(
    run: Path, tmp_path: Path, command: Any
) -> None:
    outcome = command("verify", run, "--against", tmp_path)
    assert outcome.code == 2
    assert outcome.err.startswith(f"sightline: {tmp_path / 'certificate.json'}: there is no")
    assert (run / "certificate.json").is_file()


def test_check_writes_sarif_with_the_lines_of_bad_samples(tmp_path: Path, command: Any) -> None:
    turns = [{"from": "human", "value": "Red?"}, {"from": "gpt", "value": "Yes."}]
    asked = [{"from": "human", "value": "<image>Red?"}, turns[1]]
    rows = [{"conversations": turns}, {"conversations": asked, "image": "missing.png"}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = tmp_path / "run.yaml"
    config.write_text(
        f"model: tiny:qwen2_vl\ndata: {{train: {tmp_path}/train.jsonl}}\noutput: {tmp_path}/run\n"
    )
    outcome = command("check", config, "--sarif", tmp_path / "found.sarif")
    assert outcome.code == 0, outcome.err
    [log] = json.loads((tmp_path / "found.sarif").read_text())["runs"]
    [found] = [one for one in log["results"] if one["ruleId"] == "media.missing"]
    place = found["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"].endswith("train.jsonl")
    assert place["region"] == {"startLine": 2}
