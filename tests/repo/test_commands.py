"""Every command that a document shows is run by something, or this test fails.

A command is a line that begins with ``$ `` in a fence marked ``console``, or any line in a fence
marked ``bash`` or ``sh`` that is not a comment. When a document gains a command, add it to
``RUN_BY`` with what runs it:

``here``
    This test runs it, in an empty folder, and wants exit code 0.
``ci``
    A line of ``.ci/run``.
``parsed``
    A target of the Makefile that is too slow or that changes files: ``make -n`` must accept it.
``by hand: REASON``
    Nothing can run it here. The reason says what it needs.
``tests/....py``
    That test runs it: it calls something with the subcommand and the options as arguments.
"""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", flags=re.MULTILINE | re.DOTALL)

RUN_BY = {
    "make demo": "ci",
    "make test": "ci",
    "make check": "ci",
    "make PYTHON=python3.12 setup": "parsed",
    "make setup": "parsed",
    "make wheel": "parsed",
    ".venv/bin/sightline info": "tests/cli/test_info.py",
    ".venv/bin/sightline --show-completion": (
        "by hand: it looks at the shell that calls it; tests/cli/test_info.py asks as shells do"
    ),
    ".venv/bin/sightline config --explain": "here",
    ".venv/bin/sightline config examples/detect.yaml --set training.epochs=5": (
        "tests/cli/test_commands_of_docs.py"
    ),
    ".venv/bin/sightline shapes examples/data/detect --images 4 --max-shapes 2": (
        "tests/cli/test_examples.py"
    ),
    ".venv/bin/sightline train examples/detect.yaml": "tests/cli/test_examples.py",
    ".venv/bin/sightline train examples/detect.yaml --processes 2": "tests/cli/test_processes.py",
    ".venv/bin/sightline resume runs/detect": "tests/cli/test_commands_of_docs.py",
    ".venv/bin/sightline check examples/detect.yaml --set data.max_length=150": (
        "tests/cli/test_commands_of_docs.py"
    ),
    ".venv/bin/sightline check run.yaml": "tests/cli/test_import.py",
    ".venv/bin/sightline check --probe examples/staged.yaml": "tests/cli/test_check_probe.py",
    ".venv/bin/sightline inspect model runs/tiny/qwen2_5_vl": "tests/cli/test_inspect_model.py",
    ".venv/bin/sightline inspect model runs/tiny/qwen2_5_vl --plan examples/staged.yaml": (
        "tests/cli/test_examples.py"
    ),
    ".venv/bin/transformers serve runs/first/merged --port 8000": "tests/cli/test_serving.py",
    ".venv/bin/sightline rehearse run.yaml --samples 4": "tests/invariants/test_rehearsal.py",
    '.venv/bin/sightline chat runs/first --message "What is it?" --image photo.jpg': (
        "tests/cli/test_chat.py"
    ),
    ".venv/bin/sightline preview run.yaml": "tests/cli/test_preview.py",
    ".venv/bin/sightline preview examples/detect.yaml --out runs/preview.html": (
        "tests/cli/test_preview.py"
    ),
    ".venv/bin/sightline import llamafactory lora_sft.yaml --output run.yaml": (
        "tests/cli/test_import.py"
    ),
    ".venv/bin/sightline import swift train.sh --output run.yaml": "tests/cli/test_import.py",
    ".venv/bin/sightline import official sft.sh --output run.yaml": "tests/cli/test_import.py",
    ".venv/bin/sightline train run.yaml": "tests/cli/test_commands_of_docs.py",
    ".venv/bin/sightline train run.yaml --processes 2": "tests/cli/test_processes.py",
    ".venv/bin/sightline resume runs/first": "tests/cli/test_resume.py",
    ".venv/bin/sightline train run.yaml --set model=tiny:qwen2_5_vl --set training.max_steps=2 "
    "--set output=runs/try": "tests/cli/test_commands_of_docs.py",
    ".venv/bin/sightline verify runs/detect": "tests/cli/test_examples.py",
    ".venv/bin/sightline verify runs/detect --control": "tests/cli/test_commands_of_docs.py",
    ".venv/bin/sightline verify runs/detect --json": "tests/cli/test_verify.py",
    ".venv/bin/sightline verify runs/detect --against runs/detect": "tests/cli/test_verify.py",
    ".venv/bin/sightline report runs/detect": "tests/cli/test_commands_of_docs.py",
    ".venv/bin/sightline predict runs/first --data test.jsonl --output predictions.jsonl": (
        "tests/cli/test_predict.py"
    ),
    ".venv/bin/sightline evaluate runs/first --before": "tests/cli/test_evaluate.py",
    ".venv/bin/sightline evaluate runs/first --data test.jsonl": "tests/cli/test_evaluate.py",
    ".venv/bin/sightline evaluate after.jsonl --against before.jsonl": (
        "tests/cli/test_evaluate.py"
    ),
    ".venv/bin/sightline shapes examples/data/detect_200 --images 200 --max-shapes 1 --height 112 "
    "--width 112": "tests/cli/test_examples.py",
    ".venv/bin/sightline train examples/detect_200.yaml": "tests/cli/test_examples.py",
    ".venv/bin/sightline evaluate runs/detect_200 --before --batch-size 20 --max-new-tokens 64": (
        "tests/cli/test_evaluate.py"
    ),
    ".venv/bin/sightline watch runs/first": "tests/cli/test_watch.py",
    ".venv/bin/sightline compare runs/first runs/second --output compared.html": (
        "tests/cli/test_compare.py"
    ),
    ".venv/bin/sightline doctor": "tests/cli/test_positions.py",
    ".venv/bin/sightline inspect positions --family qwen2_5_vl --layout "
    '"8 image:1x16x24 20 video:30x16x24@1.0 12" --output positions.png': (
        "tests/cli/test_positions_of_docs.py"
    ),
    ".venv/bin/python examples/mrope_in_your_own_model.py": "tests/cli/test_example_mrope.py",
}


def _commands(text: str) -> list[str]:
    """Commands of a document in order; a backslash at the end of a line joins the next."""
    found = []
    for _, language, body in FENCE.findall(text):
        lines = body.replace("\\\n", " ").splitlines()
        if language == "console":
            lines = [line.strip()[2:] for line in lines if line.strip().startswith("$ ")]
        elif language not in {"bash", "sh", "shell"}:
            continue
        found += [" ".join(line.split("  #")[0].split()) for line in lines]
    return [command for command in found if command and not command.startswith("#")]


def _documents(root: Path) -> list[Path]:
    return sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md")])


def _shown(root: Path) -> set[str]:
    texts = [document.read_text("utf-8") for document in _documents(root)]
    return {command for text in texts for command in _commands(text)}


def _is_run_in(source: str, words: list[str]) -> bool:
    """Whether a test calls something with a command's subcommand and options.

    Paths and values may be others: a test writes into its own folder.
    """
    wanted = {words[1], *(word.split("=")[0] for word in words[2:] if word.startswith("-"))}
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.expr] = []
        if isinstance(node, ast.Call):
            parts = node.args
        elif isinstance(node, ast.List | ast.Tuple):
            parts = node.elts
        if wanted <= {part.value for part in parts if isinstance(part, ast.Constant)}:
            return True
    return False


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('run("train", str(path), "--resume")', True),
        ('ARGUMENTS = ["train", "a.yaml", "--resume"]', True),
        ('run("train", str(path))', False),
        ('"""How to train and --resume."""', False),
    ],
)
def test_a_command_in_a_test_is_recognised(source: str, found: bool) -> None:
    assert _is_run_in(source, ["sightline", "train", "run.yaml", "--resume"]) is found


def test_commands_are_read_from_a_document() -> None:
    text = "a\n```console\n$ make demo   # first\nsome output\n$ one \\\n  two\n```\n"
    assert _commands(text) == ["make demo", "one two"]
    assert _commands("```bash\n# why\nmake test\n```\n```yaml\na: b\n```\n") == ["make test"]


def test_every_command_is_run_by_something(root: Path) -> None:
    assert _shown(root) - set(RUN_BY) == set(), "add it to RUN_BY, with what runs it"
    assert set(RUN_BY) - _shown(root) == set(), "no document shows it any more"


def test_both_languages_show_the_same_commands(root: Path) -> None:
    docs = root / "docs"
    pairs = [(docs / page.name, page) for page in (docs / "zh").glob("*.md")]
    for english, chinese in [(root / "README.md", root / "README.zh.md"), *pairs]:
        shown = [_commands(page.read_text("utf-8")) for page in (english, chinese)]
        assert shown[0] == shown[1], chinese.name


@pytest.mark.parametrize("command", sorted(RUN_BY))
def test_the_command_is_run(root: Path, tmp_path: Path, command: str) -> None:
    how = RUN_BY[command]
    words = shlex.split(command)
    if how == "here":
        assert words[0].endswith("sightline"), "only sightline's own commands are run here"
        program = [sys.executable, "-m", "sightline", *words[1:]]
        done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    elif how == "ci":
        assert f"\nrun {command}\n" in (root / ".ci" / "run").read_text("utf-8")
    elif how == "parsed":
        if shutil.which("make") is None:
            pytest.skip("make is not installed")
        dry = [words[0], "-n", *words[1:]]
        done = subprocess.run(dry, cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    elif how.startswith("by hand: "):
        assert len(how) > len("by hand: ") + 10, "say what it needs"
    else:
        assert _is_run_in((root / how).read_text("utf-8"), words), f"{how} does not run {command}"
