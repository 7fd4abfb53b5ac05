"""`sightline chat`: answers as trained, boxes on the picture, and errors of one line."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.cli.chat import read_line


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("exported", ["run", "merged", "adapter"])
def test_a_question_is_answered_as_trained_and_its_boxes_are_drawn(
    exported: str, learned: Any, command: Any, tmp_path: Path
) -> None:
    """From a run directory, from the exported folder, and from a run that merged nothing."""
    source = learned.run / "merged" if exported == "merged" else learned.run
    if exported == "adapter":
        done = command(
            "rehearse",
            learned.config,
            "--samples",
            1,
            "--set",
            "export.merged=false",
            "--output",
            tmp_path / "adapted",
        )
        assert done.code == 0, done.out
        source = tmp_path / "adapted"
    shutil.copy(learned.picture, "photo.png")
    outcome = command("chat", source, "--message", learned.question, "--image", "photo.png")
    assert outcome.code == 0, outcome.err
    assert outcome.out.strip() == learned.answer
    wanted = json.loads(learned.answer)
    assert f"{len(wanted)} box" in outcome.err
    assert outcome.err.strip().endswith("drawn: photo.boxes.png")
    with Image.open("photo.boxes.png") as drawn, Image.open("photo.png") as before:
        assert drawn.size == before.size
        # The sides divide by 28: pixels as the model sees them are pixels of the file.
        x1, y1, x2, y2 = wanted[0]["bbox_2d"]
        for corner in ((x1, y2), (x2, y1), (x2, y2)):
            assert drawn.convert("RGB").getpixel(corner) == (0xE6, 0x19, 0x4B)


def test_a_conversation_of_several_lines(
    learned: Any, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path in the line is shown; a wrong one does not end it; /clear forgets the picture."""
    lines = [
        "/image missing.png",
        f"{learned.picture} {learned.question}",
        "/clear",
        f"/image {learned.picture}",
        learned.question,
        "/nothing",
        "What is <|im_end|>?",
        "/quit",
        "never read",
    ]
    stdin = io.StringIO("".join(f"{line}\n" for line in lines))
    import typer.testing

    from sightline.cli.main import app

    result = typer.testing.CliRunner().invoke(
        app, ["chat", str(learned.run), "--boxes", "seen.png"], input=stdin.read()
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [learned.answer, learned.answer]
    assert "missing.png: there is no such file" in result.stderr
    assert "the control token <|im_end|>" in result.stderr
    assert result.stderr.count("/clear        begin anew") == 2
    assert Path("seen.png").is_file()


def test_greedy_is_the_same_twice_and_drawing_lots_is_asked_for(learned: Any, command: Any) -> None:
    asked = ["chat", learned.run, "--message", "What else?", "--max-new-tokens", 8]
    first, second = command(*asked), command(*asked)
    assert first.code == 0, first.err
    assert first.out == second.out
    hot = {command(*asked, "--temperature", 50).out for _ in range(3)}
    assert len(hot) > 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--image", "gone.png"], "gone.png: there is no such file"),
        (["--video", "gone.mp4"], "gone.mp4: there is no such file"),
        (["--image", "words.png"], "is not an image that Pillow can read"),
        (["--max-new-tokens", "99999"], "would pass the 32768 that the model was made for"),
    ],
)
def test_what_cannot_be_asked_is_one_message(
    options: list[str], told: str, learned: Any, command: Any
) -> None:
    Path("words.png").write_text("no picture", encoding="utf-8")
    outcome = command("chat", learned.run, "--message", "What?", *options)
    assert outcome.code == 2
    assert told in outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err


def test_a_run_that_exported_nothing(learned: Any, command: Any, tmp_path: Path) -> None:
    shutil.copytree(learned.run, "begun", ignore=shutil.ignore_patterns("merged", "adapter"))
    outcome = command("chat", "begun", "--message", "What?")
    assert outcome.code == 2
    assert "this run has no exported model" in outcome.err


def test_only_files_that_are_there_are_taken_out_of_a_line() -> None:
    Path("a.png").touch()
    Path("b.MP4").touch()
    line = read_line("What is in 'a.png' and b.MP4, not in c.png or run.yaml?")
    assert line.images == [Path("a.png")]
    # "b.MP4," is a word with a comma, and no path.
    assert line.videos == []
    assert line.text == "What is in and b.MP4, not in c.png or run.yaml?"
    assert read_line("b.MP4 Where to?") == ("Where to?", [], [Path("b.MP4")])
