"""A sound run holds, and the command says what was found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from typer.testing import CliRunner

from sightline.checks import logits, verify
from sightline.checks.finding import verdict
from sightline.cli.main import app
from sightline.records import read_json


def test_an_untouched_copy_holds(copy: Any) -> None:
    findings = copy.verify()
    assert list(findings) == list(copy.checks)
    assert copy.failing(findings) == set()
    assert verdict(list(findings.values())) == "holds"
    assert copy.run.read_state()["state"] == "verified"

    certificate = read_json(copy.run.certificate)
    assert certificate["verdict"] == "holds"
    assert certificate["family"] == "qwen2_5_vl"
    assert certificate["dtype"] == "float32"
    assert certificate["num_samples"] == 2
    assert certificate["checks"] == [finding.record() for finding in findings.values()]

    predictions = read_json(copy.run.predictions)
    assert [row["index"] for row in predictions["samples"]] == [copy.picture, copy.video]
    assert [row["media"][0]["kind"] for row in predictions["samples"]] == ["image", "video"]
    assert predictions["samples"][copy.picture]["annotated_boxes"]
    assert predictions["control"] is None


def test_verifying_twice_says_the_same(copy: Any) -> None:
    first, second = copy.verify(), copy.verify()
    assert [finding.record() for finding in first.values()] == [
        finding.record() for finding in second.values()
    ]


def test_the_figures_are_of_something(copy: Any) -> None:
    """A check that looked at nothing would hold too."""
    findings = copy.verify()
    assert findings["tokens.same_ids"].figures["num_samples"] == 2
    assert findings["weights.bit_identical"].figures["num_tensors"] > 50
    assert findings["weights.frozen"].figures["num_tensors"] > 10
    assert findings["plan.gradients"].figures["num_trainable_tensors"] > 10
    assert findings["plan.proof"].figures["num_trainable_tensors"] > 10
    assert findings["plan.proof"].figures["num_frozen_tensors"] > 10
    assert findings["plan.movement"].figures["num_tensors"] > 10
    assert min(findings["plan.movement"].figures["change"].values()) > 0
    for name in ("logits.merged", "logits.cache", "logits.adapter"):
        assert len(findings[name].figures["per_sample"]) == 2
    assert findings["answers.alone"].figures["num_samples"] == 2
    assert findings["merge.rounding"].figures["num_layers"] > 10
    assert findings["merge.rounding"].figures["lost_share"] < 1e-4
    assert findings["merge.rounding"].figures["still_share"] < 0.5


# Pictures that transformers opens otherwise.


def _hide_half(path: Path) -> None:
    """Save the picture with an alpha channel that shows all of it, or none of its left half."""
    with Image.open(path) as opened:
        image = opened.convert("RGBA")
    image.putalpha(255)
    image.paste((255, 0, 0, 0), (0, 0, image.width // 2, image.height))
    image.save(path)


def test_a_run_on_transparent_pictures_holds_and_says_so(
    as_copy: Callable[[Any], Any], tmp_path: Path, train_on, shapes_folder: Path
) -> None:
    shutil.copytree(shapes_folder, tmp_path / "data")
    rows = [json.loads(line) for line in (tmp_path / "data/train.jsonl").open(encoding="utf-8")]
    two = [row for row in rows if isinstance(row.get("image"), str)][:2]
    data = tmp_path / "data/two.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in two), encoding="utf-8")
    clear = tmp_path / "data" / two[0]["image"]
    _hide_half(clear)
    copy = as_copy(train_on(str(data), tmp_path / "run", num_steps=6))
    findings = copy.verify()
    assert copy.failing(findings) == set()
    told = findings["tokens.media_pixels"]
    assert told.measured.startswith("1 of 2 pictures are read otherwise")
    assert str(clear) in told.detail
    assert "sightline.data.images.load_image" in told.advice

    # Without it the comparison is between two pictures: that it would fail is what it is for.
    context = verify._load(copy.run)
    assert context.misread == {str(clear)}
    context.misread = frozenset()
    assert logits.merged_equals_trained(context).holds is False


# The command.


def test_the_command_ends_with_what_was_found(copy: Any) -> None:
    good = CliRunner().invoke(app, ["verify", str(copy.run.path)])
    assert good.exit_code == 0, good.output
    assert "verdict The exported model is the model that was trained." in good.stdout
    assert copy.run.report.is_file()

    copy.edit_tensors(
        copy.run.adapter / "adapter_model.safetensors",
        lambda tensors: [tensor.mul_(1.5) for name, tensor in tensors.items() if "lora_B" in name],
    )
    bad = CliRunner().invoke(app, ["verify", str(copy.run.path)])
    assert bad.exit_code == 1, bad.output
    assert "verdict Not proven: see the checks that fail." in bad.stdout
    assert "Base plus adapter equals the merged model (logits.adapter)\n  largest at" in bad.stdout


def test_the_command_serves_a_control(copy: Any) -> None:
    outcome = CliRunner().invoke(app, ["verify", "--control", str(copy.run.path)])
    assert outcome.exit_code == 0, outcome.output
    control = read_json(copy.run.predictions)["control"]
    assert control["num_samples"] == len(control["samples"]) == 2


def test_the_command_refuses_what_is_no_run(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["verify", str(tmp_path)])
    assert outcome.exit_code == 2
    assert "not a run directory; run.json is missing." in outcome.stderr
