"""``sightline predict``: a model's answers to every question of some data, in a file."""

from __future__ import annotations

from pathlib import Path

from sightline.cli.answers import AnswerOptions, make_predictions, refuse_early
from sightline.cli.console import make_console, quiet_libraries, user_errors


def predict_command(model: str, options: AnswerOptions, *, output: Path | None, base: bool) -> int:
    """Write predictions; 0, or 2 where something cannot be read."""
    with user_errors():
        refuse_early(model, options)
        quiet_libraries()
        console = make_console()
        path = output or default_output(model, options, base=base)
        make_predictions(model, path, options, console, base=base)
        console.print(f"predictions {path}", soft_wrap=True, markup=False)
    return 0


def default_output(model: str, options: AnswerOptions, *, base: bool) -> Path:
    """Where predictions go: into the run, named after the data; or the working directory.

    Args:
        model: As on the command line.
        options: See there.
        base: Whether they are those of the base.
    """
    if not (Path(model) / "run.json").is_file():
        return Path("predictions.jsonl")
    name = "before.jsonl" if base else "after.jsonl"
    return Path(model) / "evaluation" / ".".join([*options.data_names(), name])
