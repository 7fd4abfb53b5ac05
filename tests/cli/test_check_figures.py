"""What ``sightline check`` says is what happens when it is done."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.usefixtures("unestimated")


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    """Sixty conversations of many lengths over pictures of many sizes, in two sources."""
    chosen = random.Random(7)
    for number in range(12):
        size = chosen.randrange(200, 1400), chosen.randrange(200, 1400)
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    for name, count in (("a", 40), ("b", 20)):
        rows = [
            {
                "image": f"{chosen.randrange(12)}.png",
                "conversations": [
                    {"from": "human", "value": f"<image>What is it, {name}{number}?"},
                    {"from": "gpt", "value": "A thing. " * chosen.randrange(1, 30)},
                ],
            }
            for number in range(count)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "run.yaml"
    path.write_text(
        "model: tiny:qwen2_5_vl\n"
        "data: {train: [{path: a.jsonl}, {path: b.jsonl}], max_length: 900}\n"
        f"output: {tmp_path}/runs/first\n"
    )
    return path


def _said(command, run_yaml: Path, *sets: str) -> dict:
    done = command("check", run_yaml, "--json", *(word for key in sets for word in ("--set", key)))
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_lengths_are_those_of_the_samples(command, run_yaml: Path, tmp_path: Path) -> None:
    said = _said(command, run_yaml)
    ledger = tmp_path / "runs" / "first.check" / "ledger.jsonl"
    rows = [json.loads(line) for line in ledger.read_text("utf-8").splitlines()]
    for name, source in zip(("a", "b"), said["sources"], strict=True):
        lengths = [row["num_tokens"] for row in rows if row["file"].endswith(f"{name}.jsonl")]
        assert source["samples"] == len(lengths)
        for rank in (50, 90, 95, 99):
            found = np.percentile(lengths, rank, method="inverted_cdf")
            assert source["lengths"][f"p{rank}"] == found
        assert source["lengths"]["max"] == max(lengths)
    everything = np.array([row["num_tokens"] for row in rows])
    for keep in said["keeps"]:
        fits = everything[everything <= keep["max_length"]]
        assert len(fits) >= len(everything) * keep["percent"] / 100
        # One token less would not do.
        assert (everything < keep["max_length"]).mean() < keep["percent"] / 100
        assert (keep["samples"], keep["tokens"]) == (len(fits), fits.sum())
    for kind in ("image", "supervised"):
        assert said["tokens"][kind] == sum(row[f"num_{kind}_tokens"] for row in rows)


def test_fewer_pixels_save_what_was_said(command, run_yaml: Path) -> None:
    said = _said(command, run_yaml)
    [advice] = [one for one in said["suggestions"] if "instead of" in one["what"]]
    key, pixels = re.match(r"(data\.images\.max_pixels): (\d+) instead of", advice["what"]).groups()
    later = _said(command, run_yaml, f"{key}={pixels}")
    assert said["tokens"]["image"] - later["tokens"]["image"] == advice["tokens"] > 0


def test_the_max_length_that_keeps_all_keeps_all(command, run_yaml: Path) -> None:
    said = _said(command, run_yaml, "data.fit=[drop]")
    assert said["fates"]["dropped"] > 0
    advice = said["suggestions"][0]["what"]
    limit = re.match(r"data\.max_length: (\d+) keeps 100 % whole", advice)[1]
    later = _said(command, run_yaml, "data.fit=[drop]", f"data.max_length={limit}")
    assert later["fates"] == {"kept": 60, "fitted": 0, "dropped": 0, "quarantined": 0}
    less = _said(command, run_yaml, "data.fit=[drop]", f"data.max_length={int(limit) - 1}")
    assert less["fates"]["dropped"] > 0


def test_suggestions_come_in_the_order_of_what_they_save(command, run_yaml: Path) -> None:
    said = _said(command, run_yaml, "data.fit=[drop]")["suggestions"]
    assert len(said) >= 3
    saved = [(one["samples"], one["tokens"]) for one in said]
    assert saved == sorted(saved, reverse=True)
