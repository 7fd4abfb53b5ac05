"""``sightline tiny`` and ``sightline shapes``: models and data made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sightline.cli.console import make_console, quiet_libraries, user_errors


def tiny_command(family: str, directory: Path, *, seed: int, tied: bool) -> int:
    """Make a tiny model."""
    console = make_console()
    with user_errors():
        quiet_libraries()
        from sightline.model import make_tiny_model

        made = make_tiny_model(family, directory, seed=seed, tied=tied)
        console.print(f"{family}: tiny random model in {made}", markup=False)
        return 0


def shapes_command(directory: Path, **settings: Any) -> int:
    """Draw synthetic data."""
    console = make_console()
    with user_errors():
        from sightline.data.shapes import write_shapes

        summary = write_shapes(directory, **settings)
        console.print(
            f"{settings['num_images']} pictures, {settings['num_videos']} videos, "
            f"{settings['multi_image']} of several pictures\ndata    {summary.train_file}",
            markup=False,
        )
        return 0
