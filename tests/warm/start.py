"""One server for all tests of a session, and a program that stands in for Python."""

from __future__ import annotations

import atexit
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
# Tells the processes that share out the tests where the program is.
VARIABLE = "SIGHTLINE_TESTS_PYTHON"
# Set to start every process anew.
COLD = "SIGHTLINE_TESTS_COLD"


def serve(client: ModuleType) -> None:
    """Make the program, unless another process of this session has.

    Where there is a GPU, processes start anew: none can use it that was forked from one that does.
    """
    if VARIABLE in os.environ or COLD in os.environ or Path("/dev/nvidiactl").exists():
        return
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket"))
    listener.listen(64)
    (folder / "surroundings.json").write_text(json.dumps(client.surroundings()), "utf-8")
    program = folder / "python"
    words = [sys.executable, "-IS", str(HERE / "client.py"), str(folder), str(program)]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', "utf-8")
    program.chmod(0o700)
    command = [sys.executable, str(HERE / "server.py"), str(listener.fileno())]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[listener.fileno()]
    )
    listener.close()
    os.environ[VARIABLE] = str(program)
    atexit.register(_end, server, folder)


def _end(server: subprocess.Popen[bytes], folder: Path) -> None:
    assert server.stdin is not None
    server.stdin.close()
    server.wait(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)
