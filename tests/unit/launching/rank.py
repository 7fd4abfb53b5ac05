"""A process of a run that does what its test tells it: python rank.py RUN ACT..."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from sightline.errors import DataError, Interrupted, StoppedError
from sightline.launching import end_with_launcher, errors_told, rank_of
from sightline.records import RunDirectory

RUN = Path(sys.argv[1])
RANK = rank_of(os.environ)


def main(act: str, *others: str) -> None:
    num = os.environ.get("WORLD_SIZE", "1")
    match act:
        case "environment":
            names = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS"]
            (RUN / f"{RANK}.txt").write_text(str([os.environ.get(name) for name in names]))
        case "speak":
            RunDirectory(RUN).write_state(state="training")
            time.sleep(0.3)
            print(f"out of {RANK}")
            print(f"err of {RANK}", file=sys.stderr)
        case "refuse":
            raise DataError("the picture is cut short.", file="train.jsonl", line=10)
        case "refuse-one":
            if RANK == 1:
                raise DataError("the picture is cut short.", file="train.jsonl", line=10)
            time.sleep(120)
        case "fail-one" | "kill-one" | "exit-one" | "crash-one":
            RunDirectory(RUN).write_state(state="training")
            (RUN / f"{RANK}.pid").write_text(str(os.getpid()))
            time.sleep(0.3)
            if RANK == 1:
                end(act)
            time.sleep(120)
        case "complain":
            complained = RUN / "complained"
            if RANK == 1:
                while not complained.exists():
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGKILL)
            print("Connection reset by peer", file=sys.stderr, flush=True)
            # Long enough for the launcher to read it before it can know of rank 1.
            time.sleep(0.15)
            complained.touch()
            time.sleep(120)
        case "fail-early":
            if RANK == 1:
                raise ZeroDivisionError("nobody's to mend")
            time.sleep(120)
        case "reduce":
            reduce_for_ever(others[0])
        case "stop":
            stop(float(others[0]))
        case "wait":
            (RUN / f"{RANK}.pid").write_text(str(os.getpid()))
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
            (RUN / f"{RANK}.child").write_text(str(child.pid))
            signal.signal(signal.SIGINT, interrupt)
            signal.signal(signal.SIGTERM, interrupt)
            if others == ("stubborn",):
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            print(f"{RANK} of {num} waits", flush=True)
            time.sleep(120)
        case "lifeline":
            end_with_launcher()
            (RUN / f"{RANK}.pid").write_text(str(os.getpid()))
            signal.signal(signal.SIGTERM, lambda *_: (RUN / f"{RANK}.saved").touch() or sys.exit(0))
            time.sleep(120)
        case "third-time":
            RunDirectory(RUN).write_state(state="training")
            tries = len(list(RUN.glob(f"{RANK}-*.try")))
            (RUN / f"{RANK}-{tries}.try").write_text(" ".join(sys.argv[2:]))
            if tries < 2:
                end("kill-one" if RANK == 1 else "sleep")


def end(act: str) -> None:
    match act:
        case "kill-one":
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit-one":
            print("the last words", flush=True)
            os._exit(7)
        case "crash-one":
            ctypes.string_at(0)
        case "sleep":
            time.sleep(120)
    raise ZeroDivisionError("nobody's to mend")


def reduce_for_ever(act: str) -> None:
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    for step in range(10_000):
        dist.all_reduce(torch.ones(4))
        time.sleep(0.01)
        if step == 20 and RANK == 1:
            end(act)


def interrupt(signum: int, frame: object) -> None:
    raise Interrupted(signum)


def stop(seconds: float) -> None:
    """Save for so long and stop, as a run does that is told to."""
    asked: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    (RUN / f"{RANK}.pid").write_text(str(os.getpid()))
    while not asked:
        time.sleep(0.01)
    # Rank 1 has nothing to save.
    time.sleep(seconds if RANK == 0 else 0.0)
    (RUN / f"{RANK}.saved").touch()
    raise StoppedError("stopped after step 3: the checkpoint is saved.", exit_code=128 + asked[0])


def run() -> None:
    """As the command line does: one message for what is the user's to mend, a code for signals."""
    try:
        with errors_told():
            main(*sys.argv[2:])
    except DataError as error:
        print(f"sightline: {error}", file=sys.stderr)
        sys.exit(2)
    except StoppedError as error:
        sys.exit(error.exit_code)
    except Interrupted as error:
        sys.exit(128 + error.signum)


run()
