"""A process that starts trainings and kills them: asked line by line on its standard input.

Python with torch and transformers takes seconds to start. This process imports them once, loads the
model that is its argument, so that all caches are warm, and forks for each training; it computes
nothing itself, so that a fork has no thread to lose.

A line is JSON: ``config`` (a run configuration), ``resume``, ``order`` (file for the samples of
each step), ``log`` (file for what is printed), and one of ``kill_after`` (seconds) and ``kill_at``
(which of its operations on files of the run); with neither it runs to its end. The answer is a line
of JSON: ``code`` (negative for a signal), ``seconds``, and ``operations``, counted where it ended
by itself.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from sightline.cli.console import quiet_libraries
from sightline.config import RunConfig

# Everything that a training imports when it runs.
quiet_libraries()
import accelerate  # noqa: E402, F401
import peft  # noqa: E402, F401
import torch  # noqa: E402

from sightline.model import load_weights, open_checkpoint  # noqa: E402
from sightline.training import SilentObserver, train  # noqa: E402
from sightline.training.watching import RunWatch  # noqa: E402

_EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree")


class Noting(SilentObserver):
    """Prints what is said of how the run goes on."""

    def note(self, text: str) -> None:
        print(text, flush=True)


class FileOperations:
    """Counts what the training does with files of its run, and may end it at one of them."""

    def __init__(self, folder: str, kill_at: int | None) -> None:
        self._folder = folder
        self._kill_at = kill_at
        self.count = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or not str(arguments[0]).startswith(self._folder):
            return
        self.count += 1
        if self.count == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    load_weights(sys.argv[1], dtype=torch.float32)
    open_checkpoint(sys.argv[1])
    # What is there now is garbage in no fork: they need not look through it.
    gc.collect()
    gc.freeze()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os._exit(_train(asked))
    deadline = None if asked.get("kill_after") is None else began + asked["kill_after"]
    status = 0
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if deadline is not None and time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            deadline = None
        time.sleep(0.002)
    # Not a pipe: the workers of a training that was killed would hold it open for seconds.
    counted = _count_file(asked)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - began,
        "operations": int(counted.read_text("ascii")) if counted.is_file() else None,
    }


def _count_file(asked: dict[str, Any]) -> Path:
    return Path(asked["order"]).with_suffix(".operations")


def _train(asked: dict[str, Any]) -> int:
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # After the fork: a pool of threads that was there before it is made anew, which threads of
    # autograd could ask for at the same time.
    torch.set_num_threads(1)
    config = RunConfig.model_validate(asked["config"])
    operations = FileOperations(config.output, asked.get("kill_at"))
    sys.addaudithook(operations)
    _write_order(Path(asked["order"]))
    try:
        train(config, Noting(), resume=asked["resume"])
        _count_file(asked).write_text(str(operations.count), encoding="ascii")
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    return 0


def _write_order(path: Path) -> None:
    """Write which batch is trained on in which step."""
    before = RunWatch.saw

    def saw(self: Any, batch: Any, num_tokens: Any) -> None:
        digest = hashlib.blake2b(batch["input_ids"].numpy().tobytes(), digest_size=8).hexdigest()
        with path.open("a", encoding="ascii") as file:
            file.write(f"{self._step + 1} {digest}\n")
        before(self, batch, num_tokens)

    RunWatch.saw = saw


if __name__ == "__main__":
    main()
