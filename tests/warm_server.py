"""Processes that need not load torch and transformers again: forked, not started.

It reads orders from its standard input, a line of JSON each: words (what would follow ``python``),
folder (of this process's own files), cwd and env. The child's output is in the folder's ``out`` and
``err``, its process id in ``pid``, and how it ended, as `subprocess` tells it, in ``status``.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

import peft  # noqa: F401
import transformers.trainer  # noqa: F401

import sightline.checks.verify
import sightline.cli.main
import sightline.training.run  # noqa: F401


def main() -> None:
    # Who waits for a child is a process of its own; nobody waits for that one.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        if os.fork() == 0:
            _keep(json.loads(line))
            return


def _keep(order: dict[str, Any]) -> None:
    """Fork the child, and write down how it ends. Returns in the child, when it has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    folder = Path(order["folder"])
    child = os.fork()
    if child == 0:
        _run(order, folder)
        return
    _write(folder / "pid", child)
    _, status = os.waitpid(child, 0)
    _write(folder / "status", os.waitstatus_to_exitcode(status))
    os._exit(0)


def _run(order: dict[str, Any], folder: Path) -> None:
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    targets = ((os.devnull, os.O_RDONLY), (folder / "out", flags), (folder / "err", flags))
    for number, (path, how) in enumerate(targets):
        opened = os.open(path, how, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    kind, *words = order["words"]
    if kind == "-m":
        sys.argv = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *words[1:]]
        exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = [kind, *words]
        sys.path.insert(0, str(Path(kind).parent))
        runpy.run_path(kind, run_name="__main__")


def _write(path: Path, value: int) -> None:
    beside = path.with_suffix(".part")
    beside.write_text(str(value), encoding="utf-8")
    beside.rename(path)


if __name__ == "__main__":
    main()
