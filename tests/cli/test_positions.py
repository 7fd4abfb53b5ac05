"""``sightline doctor`` and ``sightline inspect positions`` as processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.families import FAMILIES

EXAMPLE = """\
model: tiny:qwen2_5_vl
data:
  train: data/train.jsonl
output: run
"""


def test_the_doctor_says_what_the_installed_release_does(command) -> None:
    done = command("doctor")
    assert done.code == 0
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    for family in FAMILIES.values():
        assert any(line.strip().startswith(family.title) for line in lines), family.title
    words = " ".join(done.out.split())
    assert "text after a video is placed at 47 instead of 136" in words
    assert "vLLM" in words


def test_the_doctor_as_json(command) -> None:
    done = command("doctor", "--family", "qwen2_5_vl", "--family", "qwen3_vl", "--json")
    record = json.loads(done.out)
    assert [family["key"] for family in record["families"]] == ["qwen2_5_vl", "qwen3_vl"]
    cases = {case["case"]: case for case in record["families"][0]["cases"]}
    assert (cases["long video"]["theirs"], cases["long video"]["ours"]) == (47, 136)
    assert all(case["verdict"] == "agrees" for case in record["families"][1]["cases"])
    assert record["families"][1]["rotary_difference"] <= 1e-6


def test_a_family_that_the_doctor_does_not_know(command) -> None:
    done = command("doctor", "--family", "qwen2_5")
    assert done.code == 2
    assert done.err.startswith("sightline: --family qwen2_5: known are qwen2_vl,")
    assert "Traceback" not in done.err


def test_a_sample_of_a_run_is_drawn(
    command, tmp_path: Path, shapes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(shapes_folder)
    config = tmp_path / "run.yaml"
    config.write_text(EXAMPLE, encoding="utf-8")
    picture = tmp_path / "p.png"
    done = command("inspect", "positions", str(config), "--sample", "1", "--output", str(picture))
    assert done.code == 0, done.err
    assert "Qwen2.5-VL" in done.out
    assert "train.jsonl:2" in done.out
    assert "image 1 x " in done.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "run").exists()
    missing = command("inspect", "positions", str(config), "--sample", "999")
    assert missing.code == 2
    assert "--sample 999: data.train has" in missing.err


def test_a_typed_layout_needs_its_family(command) -> None:
    for arguments in (("--layout", "8"), ("--family", "qwen2_vl"), ()):
        done = command("inspect", "positions", *arguments)
        assert done.code == 2
        assert "name a configuration, or give --family and --layout" in done.err
    done = command("inspect", "positions", "--family", "qwen2_vl", "--layout", "8 image:1x3x2")
    assert done.code == 2
    assert "height 3 and width 2" in done.err
