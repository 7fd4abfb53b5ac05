"""What README and the pages of the guide show is so: commands, configurations, samples, Python."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from sightline.config import RunConfig, Source, load_config
from sightline.data import read_source
from sightline.data.shapes import write_shapes

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"
FIRST_RUN, CHECK = DOCS / "first-run.md", DOCS / "check.md"


def _fences(document: Path, language: str) -> list[str]:
    """Fenced blocks of one language, in order."""
    text = document.read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def _run_yaml(document: Path) -> str:
    [smallest] = [block for block in _fences(document, "yaml") if block.startswith("model:")]
    return smallest


@pytest.fixture(scope="module")
def detect(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with examples/ in it, in which examples/detect.yaml has been trained."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("data"))
    return folder


@pytest.fixture
def trained(detect: Path, command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, as the working directory."""
    monkeypatch.chdir(detect)
    if not (detect / "runs").exists():
        data, config = "examples/data/detect", "examples/detect.yaml"
        assert command("shapes", data, "--images", "4", "--max-shapes", "2").code == 0
        assert command("train", config, "--set", "verify.enabled=false").code == 0
    return detect


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with train.jsonl and its pictures, as the working directory."""
    monkeypatch.chdir(tmp_path)
    write_shapes(tmp_path / "own", num_images=2, height=112, width=112)
    for path in (tmp_path / "own").iterdir():
        path.rename(tmp_path / path.name)
    return tmp_path


def test_the_smallest_run_yaml_is_the_same_in_both_readmes_and_runs(command, own_data) -> None:
    smallest = _run_yaml(README)
    assert yaml.safe_load(_run_yaml(CHINESE)) == yaml.safe_load(smallest)
    (own_data / "run.yaml").write_text(smallest, encoding="utf-8")
    tried = ["--set", "model=tiny:qwen2_5_vl", "--set", "training.max_steps=2"]
    quick = ["--set", "output=runs/try", "--set", "verify.enabled=false"]
    outcome = command("train", "run.yaml", *tried, *quick)
    assert outcome.code == 0, outcome.err
    assert (own_data / "runs" / "try" / "merged" / "config.json").is_file()
    # What the README asks of it next: held-out samples.
    evaluated = command("evaluate", "runs/try", "--before", "--max-new-tokens", "8")
    assert evaluated.code == 0, evaluated.err
    assert (own_data / "runs" / "try" / "evaluation.json").is_file()


def test_an_interrupted_run_goes_on(command, own_data) -> None:
    (own_data / "run.yaml").write_text(_run_yaml(README), encoding="utf-8")
    tiny = ["--set", "model=tiny:qwen2_5_vl", "--set", "verify.enabled=false"]
    twice = [*tiny, "--set", "training.epochs=2"]
    assert command("train", "run.yaml", *twice).code == 0
    shutil.rmtree(own_data / "runs" / "first" / "checkpoints" / "checkpoint-2")
    outcome = command("resume", "runs/first")
    assert outcome.code == 0, outcome.err
    state = json.loads((own_data / "runs" / "first" / "run.json").read_text("utf-8"))
    assert state["steps"] == 2


def test_a_configuration_is_shown_with_what_is_overridden(command, trained) -> None:
    outcome = command("config", "examples/detect.yaml", "--set", "training.epochs=5")
    assert outcome.code == 0, outcome.err
    assert yaml.safe_load(outcome.out)["training"]["epochs"] == 5


def test_check_says_what_its_page_shows(command, trained) -> None:
    """All but the paths, which are wrapped, and what depends on the machine."""
    outcome = command("check", "examples/detect.yaml", "--set", "data.max_length=150")
    assert outcome.code == 0, outcome.err
    [shown] = [block for block in _fences(CHECK, "text") if block.startswith("Qwen2.5-VL")]
    said = [line.rstrip() for line in outcome.out.splitlines()]
    shown_lines = shown.splitlines()
    left_out = shown_lines.index("Left out")
    assert said[:2] == shown_lines[:2]
    assert said[2].startswith("here ")
    assert said[3 : left_out + 2] == shown_lines[3 : left_out + 2]
    assert [line for line in said if line.startswith("warning")] == [
        line for line in shown_lines if line.startswith("warning")
    ]


def test_the_run_directory_is_the_one_that_is_listed(command, trained) -> None:
    assert command("verify", "runs/detect", "--control").code == 0
    names = {path.name for path in (trained / "runs" / "detect").iterdir()}
    page = FIRST_RUN.read_text("utf-8")
    table = page[page.index("## The run directory") : page.index("## Exit codes")]
    rows = re.findall(r"^\| (`.+?`) \|", table, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([\w.]+)/?`", row)}
    # A run without an alarm has no such file, and one that tells no tracker no such folder.
    assert listed - {"alarms.jsonl", "tensorboard"} == names
    # Written anew from the same records.
    page = trained / "runs" / "detect" / "report.html"
    page.unlink()
    assert command("report", "runs/detect").code == 0
    assert page.is_file()


def test_the_certificate_has_the_lines_that_are_explained(command, trained) -> None:
    if not (trained / "runs/detect/certificate.json").exists():
        assert command("verify", "runs/detect").code == 0
    certificate = json.loads((trained / "runs/detect/certificate.json").read_text("utf-8"))
    text = (DOCS / "verify.md").read_text("utf-8")
    table = text[text.index("## The certificate") : text.index("## Memorised answers")]
    explained = re.findall(r"^\| `(\w+\.\w+)` \|", table, re.MULTILINE)
    assert explained == [check["id"] for check in certificate["checks"]]


def test_the_python_of_serving_gives_the_annotation(trained) -> None:
    blocks = _fences(DOCS / "serving.md", "python")
    names: dict[str, Any] = {}
    row = json.loads((trained / "examples/data/detect/train.jsonl").read_text().splitlines()[0])
    annotation = row["conversations"][1]["value"]
    exec(blocks[0], names)
    assert names["answer"] == annotation
    for block in blocks[1:]:
        exec(block, names)
    # The base with its adapter, and the model routed through the engine, answer alike.
    for model in (names["adapted"], names["model"]):
        made = model.generate(**names["inputs"], max_new_tokens=128, do_sample=False)
        prompt = names["inputs"]["input_ids"].shape[1]
        said = names["processor"].batch_decode(made[:, prompt:], skip_special_tokens=True)[0]
        assert said == annotation


def test_the_samples_of_the_data_page_are_read(tmp_path: Path) -> None:
    write_shapes(tmp_path / "made", num_images=2, num_videos=1, height=112, width=112)
    shutil.copy(tmp_path / "made/images/00000.png", tmp_path / "a.png")
    shutil.copy(tmp_path / "made/images/00001.png", tmp_path / "c.png")
    shutil.copy(tmp_path / "made/videos/00000.mp4", tmp_path / "b.mp4")
    blocks = _fences(DOCS / "data.md", "json")
    assert len(blocks) == 5
    for block in blocks:
        path = tmp_path / "train.jsonl"
        path.write_text(block, encoding="utf-8")
        samples = list(read_source(Source(path=str(path))))
        assert len(samples) == len(block.splitlines())


def test_the_yaml_of_every_page_is_valid(tmp_path: Path) -> None:
    smallest = yaml.safe_load(_run_yaml(README))
    path = tmp_path / "run.yaml"
    blocks = [block for page in sorted(DOCS.glob("*.md")) for block in _fences(page, "yaml")]
    assert len(blocks) > 12
    for block in blocks:
        path.write_text(yaml.safe_dump(smallest | yaml.safe_load(block)), encoding="utf-8")
        assert load_config(path).output == "runs/first"


def test_the_keys_of_training_exist() -> None:
    """A key in the table of training keys has the default that the table says."""
    text = (DOCS / "training.md").read_text("utf-8")
    table = text[text.index("## The keys") : text.index("## A step is planned")]
    training = RunConfig.model_fields["training"].default
    shown = {name for row in re.findall(r"^\| (`.+?`) \|", table, re.MULTILINE) for name in
             re.findall(r"`(\w+)`", row)}  # fmt: skip
    assert shown <= set(type(training).model_fields)
    assert (training.epochs, training.learning_rate) == (3, 1e-4)
    assert (training.batch_size, training.gradient_accumulation) == (1, 8)
    assert (training.precision, training.save_total_limit) == ("auto", 2)
