"""``sightline preview``: the page it writes, what it prints, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest


def test_the_page_and_one_line(command, workbench, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "p.html"
    config = workbench([workbench.row()] * 5)
    done = command("preview", config, "--out", page, "--samples", "2")
    assert done.code == 0, done.err
    assert done.out == f"{page}: 2 of 5 samples\n"
    html = page.read_text(encoding="utf-8")
    assert html.startswith("<!DOCTYPE html>")
    assert "2 of 5 samples as Qwen2.5-VL will see them" in html
    assert 'id="s0"' in html
    assert 'id="s2"' in html
    assert 'id="s1"' not in html
    assert [path.name for path in page.parent.iterdir()] == ["p.html"]


def test_the_page_is_beside_the_run_and_samples_have_numbers(
    command, workbench, tmp_path: Path
) -> None:
    config = workbench([workbench.row()] * 3)
    done = command("preview", config, "--sample", "2", "--sample", "1")
    assert done.code == 0, done.err
    page = tmp_path / "run.preview.html"
    assert done.out == f"{page}: 2 of 3 samples\n"
    html = page.read_text(encoding="utf-8")
    assert html.index('id="s2"') < html.index('id="s1"')
    assert "train.jsonl:3" in html
    assert not (tmp_path / "run").exists()


def test_wrong_boxes_are_warned_of(command, workbench) -> None:
    answer = '[{"bbox_2d": [9, 9, 2, 2], "label": "[bold]red"}, {"bbox_2d": [1, 1, 20, 20]}]'
    rows = [workbench.turns(("human", "<image>Find it."), ("gpt", answer))]
    done = command("preview", workbench(rows))
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines()[1:])) <= 80
    told = " ".join(done.out.split())
    assert "warning: 1 of 2 boxes are wrong, the first in sample 0: box 1 ([bold]red): " in told
    assert told.endswith("corners out of order")


def test_bad_samples_are_listed_even_where_training_would_stop(
    command, workbench, tmp_path: Path
) -> None:
    rows = [workbench.row(), workbench.row(image="images/<b>gone.png")]
    done = command("preview", workbench(rows, data__on_bad="stop"))
    assert done.code == 0, done.err
    html = (tmp_path / "run.preview.html").read_text(encoding="utf-8")
    assert "0 dropped, 1 quarantined" in html
    assert "&lt;b&gt;gone.png does not exist" in html


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sample", "1"), "--sample 1: data.train has 1 samples, 0 to 0."),
        (("--sample", "-1"), "--sample -1: data.train has 1 samples, 0 to 0."),
        (("--samples", "0"), "0 samples: a page shows 1 to 64 of them."),
        (("--samples", "65"), "65 samples: a page shows 1 to 64 of them."),
        (("--set", "data.max_lenght=4"), "data.max_lenght"),
    ],
)
def test_bad_input_is_one_message(
    command, workbench, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    done = command("preview", workbench(), *options)
    assert done.code == 2
    assert done.err.startswith("sightline: ")
    assert message in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert not (tmp_path / "run.preview.html").exists()


def test_a_configuration_that_is_not_there(command, tmp_path: Path) -> None:
    done = command("preview", tmp_path / "none.yaml")
    assert done.code == 2
    assert done.err.startswith("sightline: ")
    assert "none.yaml" in done.err


def test_a_page_that_cannot_be_written(command, workbench, tmp_path: Path) -> None:
    (tmp_path / "taken.html").mkdir()
    done = command("preview", workbench(), "--out", tmp_path / "taken.html")
    assert done.code == 2
    assert done.err.startswith(f"sightline: {tmp_path / 'taken.html'}: cannot be written: ")
    assert [path.name for path in tmp_path.glob(".*.html*")] == []


def test_no_weight_is_loaded(command, workbench, tmp_path: Path, tiny_folder) -> None:
    """A folder with everything but weights is enough."""
    model = tmp_path / "light"
    model.mkdir()
    for file in tiny_folder("qwen2_5_vl").iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            (model / file.name).write_bytes(file.read_bytes())
    assert not list(model.glob("*.safetensors"))
    done = command("preview", workbench(), "--set", f"model={model}")
    assert done.code == 0, done.err
