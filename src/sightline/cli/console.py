"""The terminal: one console, quiet where nobody watches, errors as one message."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from sightline.errors import Interrupted, SightlineError
from sightline.launching import errors_told, is_ours, rank_of

EXIT_NOT_PROVEN = 1
EXIT_BAD_INPUT = 2


def make_console(*, stderr: bool = False) -> Console:
    """A console for results on standard output, at most 100 columns wide."""
    console = Console(highlight=False, soft_wrap=False, stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 80
    console.width = min(console.width, 100)
    return console


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn an error of the user's into one message and an exit code, without a traceback.

    SIGTERM ends a command as Ctrl-C does: what is half-written is taken away.
    """
    try:
        with _sigterm_raised(), errors_told():
            yield
    except SightlineError as error:
        _say(str(error))
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt as error:
        _say("stopped.")
        signum = error.signum if isinstance(error, Interrupted) else signal.SIGINT
        raise SystemExit(128 + signum) from None


@contextmanager
def _sigterm_raised() -> Iterator[None]:
    """Raise `Interrupted` where SIGTERM would end the process without cleaning up."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    own = os.getpid()

    def interrupt(signum: int, frame: object) -> None:
        if os.getpid() == own:
            raise Interrupted(signum)
        # A child that was forked off.
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _say(text: str) -> None:
    """Print a message; under our launcher it is the launcher that does."""
    if not is_ours(os.environ):
        rank = f"rank {os.environ['RANK']}: " if rank_of(os.environ) else ""
        print(f"sightline: {rank}{text}", file=sys.stderr)


def quiet_libraries() -> None:
    """Keep libraries' notes to developers out of the user's terminal; errors stay."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import warnings

    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    hub_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # accelerate imports it wherever it is installed; it sets its own level, and then warns on
    # standard output, where a program may read JSON.
    logging.getLogger("DeepSpeed").addFilter(_is_error)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\..*|peft\..*")


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
