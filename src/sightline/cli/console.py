"""The terminal: one console, quiet where nobody watches, errors as one message."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from sightline.errors import SightlineError

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
    """Turn an error of the user's into one message and exit code 2, without a traceback."""
    try:
        yield
    except SightlineError as error:
        print(f"sightline: {error}", file=sys.stderr)
        raise SystemExit(EXIT_BAD_INPUT) from None
    except KeyboardInterrupt:
        print("sightline: stopped.", file=sys.stderr)
        raise SystemExit(130) from None


def quiet_libraries() -> None:
    """Keep libraries' notes to developers out of the user's terminal; errors stay."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import warnings

    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    hub_logging.set_verbosity_error()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\..*|peft\..*")
