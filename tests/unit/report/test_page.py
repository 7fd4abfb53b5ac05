"""The page of one run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import RunError
from sightline.report.facts import verdict_of
from sightline.report.html import script_hash
from sightline.report.page import SCRIPTS, render_run
from sightline.report.run import load_run

ATTACK = '<script>alert("x")</script><img src=x onerror=alert(1)>'


def test_page_needs_nothing_from_outside(tmp_path: Path, maker: Any, read_page: Any) -> None:
    path = render_run(maker.make_run(tmp_path / "run"))
    html = path.read_text(encoding="utf-8")
    page = read_page(html)
    assert path == tmp_path / "run" / "report.html"
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert "url(" not in html
    assert page.addresses
    assert all(address.startswith(("#", "data:image/")) for address in page.addresses)
    assert not {"link", "iframe", "object"} & set(page.tags)


def test_a_browser_may_run_the_scripts_of_the_page_and_no_others(
    tmp_path: Path, maker: Any, read_page: Any
) -> None:
    html = render_run(maker.make_run(tmp_path / "run")).read_text(encoding="utf-8")
    page = read_page(html)
    allowed = re.findall(r"'(sha256-[^']+)'", html)
    assert allowed == [script_hash(script) for script in page.scripts]
    assert len(allowed) == len(SCRIPTS)
    assert "script-src" in html
    assert "'unsafe-inline'" not in html.split("script-src")[1].split('"')[0]


@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_in_a_script_ends_it(name: str) -> None:
    templates = files("sightline.report") / "templates"
    source = (templates / name).read_text(encoding="utf-8").lower()
    assert "</script" not in source
    assert "<!--" not in source


def test_page_is_well_formed(tmp_path: Path, maker: Any, read_page: Any) -> None:
    page = read_page(render_run(maker.make_run(tmp_path / "run")).read_text(encoding="utf-8"))
    assert page.faults == []
    assert len(page.ids) == len(set(page.ids))
    inside = [address[1:] for address in page.addresses if address.startswith("#")]
    assert set(inside) <= set(page.ids)


def test_verdict_of_a_proven_run(tmp_path: Path, maker: Any, read_page: Any) -> None:
    page = read_page(render_run(maker.make_run(tmp_path / "run")).read_text(encoding="utf-8"))
    assert "The exported model is the model that was trained" in page.text
    assert "All 6 checks hold" in page.text
    assert "Not proven" not in page.text


def test_verdict_names_what_fails_and_what_to_do(
    tmp_path: Path, maker: Any, read_page: Any
) -> None:
    run = maker.make_run(tmp_path / "run", fails=True)
    page = read_page(render_run(run).read_text(encoding="utf-8"))
    assert "Not proven: 1 check fails" in page.text
    assert "With the cache as without it : logits differ by 5.8 at most" in page.text
    assert "Training and inference place tokens differently." in page.text
    assert "✗ fails" in page.text
    assert "The exported model is the model that was trained" not in page.text


def test_two_failing_checks_are_counted(tmp_path: Path, maker: Any, read_page: Any) -> None:
    run = maker.make_run(tmp_path / "run", fails=True)
    checks = json.loads((run / "certificate.json").read_text(encoding="utf-8"))["checks"]
    checks[0]["holds"] = False
    maker.rewrite(run / "certificate.json", checks=checks)
    page = read_page(render_run(run).read_text(encoding="utf-8"))
    assert "Not proven: 2 checks fail 4 of 6 checks hold." in page.text


def test_a_verdict_that_contradicts_its_checks_is_not_believed(
    tmp_path: Path, maker: Any, read_page: Any
) -> None:
    run = maker.make_run(tmp_path / "run", fails=True)
    maker.rewrite(run / "certificate.json", verdict="holds")
    page = read_page(render_run(run).read_text(encoding="utf-8"))
    assert "Not proven: 1 check fails" in page.text


def test_page_shows_model_data_and_settings(tmp_path: Path, maker: Any, read_page: Any) -> None:
    text = read_page(render_run(maker.make_run(tmp_path / "run")).read_text(encoding="utf-8")).text
    for words in (
        "Family Qwen2.5-VL",
        "Training took 1 min 12 s",
        "Pixels lean; 2,088,576 grey levels compared, all equal to the processor's",
        "Samples 4 Images 4 Videos 0 Tokens 530",
        "with a loss 160",
        "Learning rate 8e-3",
        "rank 16, alpha 32, dropout 0.0",
        "transformers 5.23.0",
        "Final loss 6.4e-4",
        "69,104,896 values train",
        "layers.0-35",
        "The same weights, served with 1-D positions: 2 of 4.",
    ):
        assert words in text


def test_a_run_by_the_processor_says_so(tmp_path: Path, maker: Any, read_page: Any) -> None:
    run = maker.make_run(tmp_path / "run")
    maker.rewrite(run / "run.json", preparation={"kind": "processor", "compared": None})
    page = read_page(render_run(run).read_text(encoding="utf-8"))
    assert "Pixels prepared by the checkpoint's processor" in page.text


def test_everything_from_data_is_escaped(tmp_path: Path, maker: Any, read_page: Any) -> None:
    run = maker.make_run(tmp_path / "run", fails=True)
    predictions = json.loads((run / "predictions.json").read_text(encoding="utf-8"))
    for sample in (*predictions["samples"], *predictions["control"]["samples"]):
        sample |= {"question": ATTACK, "annotation": ATTACK, "answer": ATTACK + "!", "file": ATTACK}
        sample["equal"] = False
        for found in (*sample["annotated_boxes"], *sample["predicted_boxes"]):
            found["label"] = ATTACK
    predictions["control"]["title"] = ATTACK
    maker.rewrite(run / "predictions.json", **predictions)
    check = maker.check_record(1, holds=False, title=ATTACK, measured=ATTACK, advice=ATTACK)
    maker.rewrite(run / "certificate.json", verdict="fails", checks=[check])
    maker.rewrite(run / "run.json", model=ATTACK, family=ATTACK, device='"><script>')
    (run / "config.yaml").write_text(f"model: '{ATTACK}'\n", encoding="utf-8")
    html = render_run(run).read_text(encoding="utf-8")
    page = read_page(html)
    assert page.faults == []
    assert len(page.scripts) == html.count("<script>") == len(SCRIPTS)
    assert "alert" not in "".join(page.scripts)
    assert "<img src=x" not in html
    assert ATTACK in page.text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ledger.jsonl", "There is no ledger.jsonl"),
        ("plan.json", "There is no plan.json"),
        ("metrics.jsonl", "No step was logged"),
        ("certificate.json", "Not proven: the run was not verified"),
        ("predictions.json", "There is no predictions.json"),
        ("config.yaml", "The exported model is the model that was trained"),
    ],
)
def test_a_missing_file_is_said(
    tmp_path: Path, maker: Any, read_page: Any, name: str, words: str
) -> None:
    run = maker.make_run(tmp_path / "run")
    (run / name).unlink()
    page = read_page(render_run(run).read_text(encoding="utf-8"))
    assert page.faults == []
    assert words in page.text


def test_a_run_that_only_began_has_a_page(tmp_path: Path, maker: Any, read_page: Any) -> None:
    run = maker.make_run(tmp_path / "run")
    maker.rewrite(run / "run.json", state="training", finished=None, seconds=None)
    for path in run.iterdir():
        if path.name != "run.json":
            path.unlink()
    page = read_page(render_run(run).read_text(encoding="utf-8"))
    assert page.faults == []
    assert "Not proven: training did not finish" in page.text


@pytest.mark.parametrize(
    ("here", "named"),
    [(".", "'my runs/first'"), ("my runs", "first"), ("elsewhere", "'{whole}/my runs/first'")],
)
def test_a_command_names_the_run_as_it_is_typed_here(
    tmp_path: Path, maker: Any, monkeypatch: pytest.MonkeyPatch, here: str, named: str
) -> None:
    run = maker.make_run(tmp_path / "my runs/first")
    (run / "certificate.json").unlink()
    (tmp_path / here).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / here)
    verdict = verdict_of(load_run(run))
    assert verdict.detail == f"Prove it: sightline verify {named.format(whole=tmp_path.resolve())}"


def test_samples_that_did_not_train_are_listed(tmp_path: Path, maker: Any, read_page: Any) -> None:
    run = maker.make_run(tmp_path / "run")
    with (run / "ledger.jsonl").open("a", encoding="utf-8") as file:
        row = {
            "sample": 4,
            "file": "shapes/train.jsonl",
            "line": 5,
            "row": 4,
            "policies": ["drop"],
            "fate": "dropped",
            "reason": "longer than 4096 tokens",
            "num_tokens": 5000,
            "num_image_tokens": 4800,
            "num_video_tokens": 0,
            "num_supervised_tokens": 40,
            "num_images": 1,
            "num_videos": 0,
        }
        file.write(json.dumps(row) + "\n")
    page = read_page(render_run(run).read_text(encoding="utf-8"))
    assert "1 sample did not train as it is" in page.text
    assert "shapes/train.jsonl:5 dropped: drop longer than 4096 tokens" in page.text


def test_at_most_24_samples_are_drawn(tmp_path: Path, maker: Any, read_page: Any) -> None:
    run = maker.make_run(tmp_path / "run", control=False)
    first = json.loads((run / "predictions.json").read_text(encoding="utf-8"))["samples"][0]
    many = [first | {"index": index, "equal": index != 29} for index in range(30)]
    maker.rewrite(run / "predictions.json", samples=many)
    page = read_page(render_run(run).read_text(encoding="utf-8"))
    assert page.tags.count("article") == 24
    assert "29 of 30 answers" in page.text
    assert "24 samples drawn, those that differ first; 6 left out." in page.text
    assert "Sample 29" in page.text


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not a run directory: it has neither run\.json"):
        render_run(tmp_path)


def test_report_does_not_import_torch() -> None:
    code = "import sys, sightline.report; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("False\n", "")
