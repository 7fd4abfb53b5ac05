"""What tests share: the command, tiny models and data made once a session, and ../shared."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
# The commands set it; see tests/warm/client.py.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
# A shell ignores Ctrl-C for what it runs in the background; so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
# From so many on, most of what can be loaded will be.
MANY_TESTS = 1000
FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def pytest_configure() -> None:
    """Let the tests start processes from one that has loaded the packages; see tests/warm."""
    _module("warm/start").serve(_module("warm/client"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the collector of garbage pass over what is loaded, and look less often.

    The Trainer has it look through everything, at each start.
    """
    if len(session.items) >= MANY_TESTS:
        import sightline.checks.verify
        import sightline.cli.train  # noqa: F401
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_unconfigure() -> None:
    """Let Python take down what is loaded: some of it complains if it is not."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def _warm_python() -> Iterator[None]:
    """Have all that is started with `sys.executable` start from it."""
    before = sys.executable
    sys.executable = os.environ.get("SIGHTLINE_TESTS_PYTHON", before)
    yield
    sys.executable = before


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A port that is free, and that no other test is given while nobody listens there.

    The system hands out its own from higher up, to whoever asks for any, and `watch` takes the
    first from 8765.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    untried = iter(range(20_000 + 500 * (worker % 20), 20_500 + 500 * (worker % 20)))

    def found() -> int:
        for port in untried:
            with socket.socket() as one:
                try:
                    one.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port
        pytest.fail("no port is free")

    return found


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny checkpoint of a family, made on first use."""
    from sightline.model import make_tiny_model

    made: dict[str, Path] = {}
    root = tmp_path_factory.mktemp("tiny")

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = make_tiny_model(family, root / family)
        return made[family]

    return folder


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, videos and conversations of several pictures, in the official layout."""
    from sightline.data.shapes import write_shapes

    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(folder, num_images=3, num_videos=2, multi_image=2, height=112, width=168)
    return folder


@pytest.fixture(scope="session")
def shapes_rows(shapes_folder: Path) -> list[dict[str, Any]]:
    """The rows of `shapes_folder`, their media by absolute path: pictures, videos, several each."""
    lines = (shapes_folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        for key in ("image", "video"):
            if isinstance(row.get(key), str):
                row[key] = str(shapes_folder / row[key])
            elif key in row:
                row[key] = [str(shapes_folder / one) for one in row[key]]
    return rows


@pytest.fixture(scope="session")
def media_corpus() -> ModuleType:
    """The module tests/media_corpus.py: pictures of every kind, videos, and ways to damage them."""
    return _module("media_corpus")


@pytest.fixture(scope="session")
def make_video() -> ModuleType:
    """Writes videos whose frames can be told apart, with times and codecs to order."""
    return _module("make_video")


def _module(name: str) -> ModuleType:
    """A module of this folder, by its path: the tests are no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, driven by playwright; a test opens its own context in it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no browser is on the PATH: {', '.join(names)}")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=found, args=["--no-sandbox"], timeout=60_000
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photographs, videos and reference positions beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not beside this checkout: real data and references are there")
    return SHARED


class Outcome(NamedTuple):
    """What a command ended with."""

    code: int
    out: str
    err: str


@cache
def _commands_of(app: Any) -> Any:
    from typer.main import get_command

    return get_command(app)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """The command in this process: fast, with the same exit codes and streams."""
    # The runner makes all commands anew at each call.
    monkeypatch.setattr("typer.testing._get_command", _commands_of)

    def run(*arguments: object) -> Outcome:
        from typer.testing import CliRunner

        from sightline.cli.main import app

        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def unestimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No estimate of memory and time in ``check``: most of its time, for tests of the rest."""

    def without(record: dict[str, Any], *_: object) -> None:
        record["estimate"] = None

    monkeypatch.setattr("sightline.preparation.estimate.add_estimate", without)


@pytest.fixture
def process() -> Callable[..., Outcome]:
    """The command in a process of its own."""

    def run(*arguments: object) -> Outcome:
        made = subprocess.run(
            [sys.executable, "-m", "sightline", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )
        return Outcome(made.returncode, made.stdout, made.stderr)

    return run


@pytest.fixture(scope="session")
def started() -> Callable[..., subprocess.Popen[str]]:
    """Start Python in the background, with what would follow ``python`` on a command line."""

    def start(*words: object, cwd: Path | None = None, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        )

    return start
