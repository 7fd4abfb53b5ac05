"""What reaches the terminal of what libraries say."""

from __future__ import annotations

import logging
import sys

import pytest

from sightline.cli.console import quiet_libraries


def test_deepspeed_says_nothing_but_errors_on_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It makes its logger when accelerate imports it, which is later."""
    quiet_libraries()
    logger = logging.getLogger("DeepSpeed")
    handler = logging.StreamHandler(sys.stdout)
    before = logger.level
    logger.setLevel(logging.WARNING)
    logger.addHandler(handler)
    try:
        logger.warning("Setting accelerator to CPU.")
        logger.error("The optimizer is lost.")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    assert capsys.readouterr().out == "The optimizer is lost.\n"
