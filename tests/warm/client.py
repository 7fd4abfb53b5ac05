"""Stands in for Python: has the server fork a process, and is that process to whoever started it.

``python -IS client.py FOLDER PYTHON ...``: what follows is what would follow ``python``. Streams,
working directory and environment are its own; signals are handed on, and it ends as the process
does. Where a process that was loaded before could differ from one that is started now, it becomes
Python itself: code of ``-c`` and options, other limits, variables that packages read when they are
imported. And where the variable SIGHTLINE_TESTS_COLD is set.
"""

import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path

LAUNCHERS = ("torch.distributed.run", "accelerate.commands.launch")
READ_WHEN_LOADED = ("PYTHON", "LD_", "MALLOC_", "OMP_", "MKL_", "HF_", "TRANSFORMERS_", "TORCH_")
HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def surroundings() -> dict[str, object]:
    """What a process loaded before has to share with this one."""
    names = (name for name in dir(resource) if name.startswith("RLIMIT_"))
    return {
        "limits": {name: list(resource.getrlimit(getattr(resource, name))) for name in names},
        "variables": {
            name: value
            for name, value in sorted(os.environ.items())
            # Launchers set those of NCCL, which reads them where there are GPUs.
            if name.startswith(READ_WHEN_LOADED) and not name.startswith("TORCH_NCCL_")
        },
    }


def is_loaded(words: list[str]) -> bool:
    """Whether the program needs what the server has loaded."""
    if words[:1] == ["-m"]:
        return words[1:2] == ["sightline"] or words[1] in LAUNCHERS
    return bool(words) and words[0].endswith(".py")


def main() -> None:
    folder, python, *given = sys.argv[1:]
    # As launchers start their processes.
    is_unbuffered = given[:1] == ["-u"]
    words = given[1:] if is_unbuffered else given
    is_cold = "SIGHTLINE_TESTS_COLD" in os.environ
    served = json.loads((Path(folder) / "surroundings.json").read_text("utf-8"))
    if is_cold or not is_loaded(words) or surroundings() != served:
        os.execv(sys.executable, [sys.executable, *given])
    connection = socket.socket(socket.AF_UNIX)
    for number in HANDED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: connection.sendall(bytes([number])))
    connection.connect(str(Path(folder) / "socket"))
    umask = os.umask(0)
    os.umask(umask)
    order = {
        "words": words,
        "is_unbuffered": is_unbuffered,
        "python": python,
        "cwd": str(Path.cwd()),
        "umask": umask,
        "env": dict(os.environ),
    }
    body = json.dumps(order).encode()
    # A signal that comes before would be read as a part of this.
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDED_ON)
    socket.send_fds(connection, [len(body).to_bytes(4)], [0, 1, 2])
    connection.sendall(body)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDED_ON)
    told = connection.recv(4, socket.MSG_WAITALL)
    code = int.from_bytes(told, signed=True) if len(told) == 4 else 70
    if code >= 0:
        os._exit(code)
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)


if __name__ == "__main__":
    main()
