"""What a process failed of, written for its launcher."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.errors import ConfigError, Interrupted, OutOfMemoryError, StoppedError
from sightline.launching import errors_told
from sightline.launching.error_file import ErrorRecord


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "rank-0.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
    return path


@pytest.mark.parametrize(
    ("error", "kind", "code", "message"),
    [
        (ConfigError("epochs: -1"), "user", 2, "epochs: -1"),
        (OutOfMemoryError("4 rows"), "user", 3, "4 rows"),
        (StoppedError("after step 3", exit_code=143), "stopped", 143, "after step 3"),
        (Interrupted(15), "interrupted", 143, "stopped."),
        (KeyboardInterrupt(), "interrupted", 130, "stopped."),
        (ValueError("shapes"), "crash", 1, "ValueError: shapes"),
    ],
)
def test_an_error_is_told(
    file: Path, error: BaseException, kind: str, code: int, message: str
) -> None:
    with pytest.raises(type(error)), errors_told():
        raise error
    told = ErrorRecord.read(file)
    assert told is not None
    assert (told.kind, told.exit_code, told.message) == (kind, code, message)
    assert ("Traceback" in told.trace) == (kind == "crash")
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_what_ends_well_tells_nothing(file: Path) -> None:
    with errors_told():
        pass
    with pytest.raises(SystemExit), errors_told():
        raise SystemExit(1)
    assert ErrorRecord.read(file) is None


def test_without_a_launcher_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError), errors_told():
        raise ValueError("shapes")
    assert not list(tmp_path.iterdir())


def test_torchrun_understands_it(file: Path) -> None:
    """Its own reader takes the message and the time out of the same file."""
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    with pytest.raises(ConfigError), errors_told():
        raise ConfigError("epochs: -1")
    failure = ProcessFailure(local_rank=0, pid=1, exitcode=2, error_file=str(file))
    assert "epochs: -1" in str(failure.message)
    assert failure.timestamp == int(json.loads(file.read_text())["sightline"]["seconds"])
