"""Every file of examples/ runs as its first lines say, from nothing but the clone."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from sightline.config import RunConfig, load_config

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

# The commands of the comment at the top of each example.
MAKE_DATA = {
    "detect": ["shapes", "examples/data/detect", "--images", "4", "--max-shapes", "2"],
    "video": [
        "shapes", "examples/data/video", "--images", "0", "--videos", "4",
        "--height", "112", "--width", "112", "--frames", "48", "--layout", "sharegpt",
    ],
    "multi_image": [
        "shapes", "examples/data/multi_image", "--images", "0", "--multi-image", "3",
        "--height", "128", "--width", "128", "--box-space", "thousandths", "--layout", "openai",
    ],
    "staged": ["shapes", "examples/data/detect", "--images", "4", "--max-shapes", "2"],
    "detect_200": [
        "shapes", "examples/data/detect_200", "--images", "200", "--max-shapes", "1",
        "--height", "112", "--width", "112",
    ],
}  # fmt: skip

# What else the comments show, between data and training.
ALSO = {
    "staged": [
        ["tiny", "qwen2_5_vl", "runs/tiny/qwen2_5_vl"],
        ["inspect", "model", "runs/tiny/qwen2_5_vl", "--plan", "examples/staged.yaml"],
    ],
}

# What they show behind it; tests/cli/test_evaluate.py runs it on fewer pictures.
AFTER = {
    "detect_200": [
        "evaluate", "runs/detect_200", "--before", "--batch-size", "20", "--max-new-tokens", "64",
    ],
}  # fmt: skip

# Two epochs show that an example runs; the first one is run as it stands, to exact answers.
SHORTER = {
    "detect": [],
    "video": ["--set", "training.epochs=2", "--set", "verify.answers=consistent"],
    "multi_image": ["--set", "training.epochs=2", "--set", "verify.answers=consistent"],
    "staged": ["--set", "training.epochs=5"],
    # Two steps, and answers to two of its pictures.
    "detect_200": ["--set", "training.max_steps=2", "--set", "evaluation.samples=2"],
}


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with examples/ and nothing else, as the working directory."""
    for path in EXAMPLES.glob("*.yaml"):
        (tmp_path / "examples").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_example_is_listed() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == set(MAKE_DATA) == set(SHORTER)


@pytest.mark.parametrize("name", MAKE_DATA)
def test_the_comment_shows_the_commands_that_are_run_here(name: str) -> None:
    comment = (EXAMPLES / f"{name}.yaml").read_text("utf-8")
    shown = [
        shlex.split(line.removeprefix("#"))[1:]
        for line in comment.splitlines()
        if line.startswith("#   .venv/bin/sightline ")
    ]
    after = [AFTER[name]] if name in AFTER else []
    train = ["train", f"examples/{name}.yaml"]
    assert shown == [MAKE_DATA[name], *ALSO.get(name, []), train, *after]


@pytest.mark.parametrize("name", MAKE_DATA)
def test_without_its_tiny_lines_it_is_a_configuration_of_defaults(name: str, clone: Path) -> None:
    """What the comment tells people to delete leaves a file for a real model."""
    path = clone / "examples" / f"{name}.yaml"
    kept = [line for line in path.read_text("utf-8").splitlines() if not line.endswith("  # tiny")]
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    config = load_config(path)
    fields = RunConfig.model_fields
    assert config.training == fields["training"].default
    if name == "staged":
        plain = config.tuning.model_copy(
            update={"stages": [], "vision": fields["tuning"].default.vision}
        )
        assert len(config.tuning.stages) == 3
    else:
        plain = config.tuning
    assert plain == fields["tuning"].default
    assert config.verify == fields["verify"].default


def _certificate(name: str, command, *options: str) -> dict:
    """Runs an example and reads what proves it."""
    made = command(*MAKE_DATA[name])
    assert made.code == 0, made.err
    for words in ALSO.get(name, []):
        assert command(*words).code == 0
    # Verified by the second command: the first would import everything again for it.
    options = (*options, "--set", "verify.enabled=false")
    trained = command("train", f"examples/{name}.yaml", *options)
    assert trained.code == 0, trained.err
    verified = command("verify", f"runs/{name}")
    assert verified.code == 0, verified.out + verified.err
    return json.loads(Path(f"runs/{name}/certificate.json").read_text("utf-8"))


@pytest.mark.parametrize("name", MAKE_DATA)
def test_an_example_runs_to_its_certificate(name: str, command, clone: Path) -> None:
    assert _certificate(name, command, *SHORTER[name])["verdict"] == "holds"
    assert (clone / "runs" / name / "report.html").is_file()
    # Nothing lands beside the examples but the data that was asked for.
    beside = {path.name for path in (clone / "examples").iterdir()}
    assert beside == {"data", *(f"{stem}.yaml" for stem in MAKE_DATA)}


def test_the_video_example_shows_where_plain_transformers_differs(command, clone: Path) -> None:
    """The line of the certificate that the example's comment announces."""
    checks = _certificate("video", command, *SHORTER["video"])["checks"]
    line = next(check for check in checks if check["id"] == "positions.plain_transformers")
    assert line["holds"] is None
    assert line["figures"]["num_differing"] == 4
