"""Forks processes in which torch, transformers and sightline are loaded already.

``python server.py FD``: FD is a listening socket. Nothing is loaded before the first one is asked
for; the server ends with its standard input. See `start` for who asks, and `client` for how.
"""

from __future__ import annotations

import atexit
import gc
import io
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

NUM_STREAMS = 3


def main() -> None:
    listener = socket.socket(fileno=int(sys.argv[1]))
    is_loaded = False
    # Who waits for a child is a process of its own; nobody waits for that one.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Ctrl-C at the terminal is for the tests.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            # What was loaded complains of much if it is taken down.
            os._exit(0)
        if not is_loaded:
            _load()
            is_loaded = True
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _keep(connection)
        connection.close()


def _load() -> None:
    import peft  # noqa: F401
    import transformers.trainer  # noqa: F401

    import sightline.checks.verify
    import sightline.cli.live
    import sightline.cli.main
    import sightline.cli.rehearse
    import sightline.cli.train  # noqa: F401

    # What is there now is garbage in no child: none need look through it.
    gc.collect()
    gc.freeze()


def _keep(connection: socket.socket) -> NoReturn:
    """Fork the child, and tell how it ends. Does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    size, streams, _, _ = socket.recv_fds(connection, 4, NUM_STREAMS)
    if len(size) < 4:
        os._exit(0)
    order = json.loads(connection.recv(int.from_bytes(size), socket.MSG_WAITALL))
    child = os.fork()
    if child == 0:
        connection.close()
        # What it starts ends with it, if it is killed.
        os.setsid()
        _run(order, streams)
    for number in (0, 1, 2, *streams):
        os.close(number)
    threading.Thread(target=_signal, args=(connection, child), daemon=True).start()
    _, status = os.waitpid(child, 0)
    with suppress(OSError):
        connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, signed=True))
    os._exit(0)


def _signal(connection: socket.socket, child: int) -> None:
    """Hand on signals; where the one that was started has been killed, kill all of this."""
    with suppress(ProcessLookupError):
        while number := connection.recv(1):
            os.kill(child, number[0])
        os.killpg(child, signal.SIGKILL)


def _run(order: dict[str, Any], streams: list[int]) -> NoReturn:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(order["cwd"])
    os.umask(order["umask"])
    os.environ.clear()
    os.environ.update(order["env"])
    # What it starts is asked for here as well.
    sys.executable = order["python"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(write_through=order["is_unbuffered"])
    try:
        _program(order)
    except SystemExit as ended:
        code = ended.code
    else:
        code = None
    if isinstance(code, str):
        print(code, file=sys.stderr)
    # As Python ends, but for taking down what was loaded: some of it complains, if of a fork.
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _program(order: dict[str, Any]) -> None:
    kind, *words = order["words"]
    if kind == "-m":
        sys.argv, sys.path[0] = words, order["cwd"]
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = [kind, *words], str(Path(kind).resolve().parent)
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    main()
