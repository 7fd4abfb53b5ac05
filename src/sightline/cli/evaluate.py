"""``sightline evaluate``: predictions measured, or those of a run made first, and its base's."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

from rich.console import Console

from sightline.cli.answers import AnswerOptions, make_predictions, refuse_early
from sightline.cli.console import make_console, quiet_libraries, user_errors
from sightline.cli.predict import default_output
from sightline.cli.progress import counted
from sightline.config import Measure
from sightline.errors import ConfigError
from sightline.records import write_json
from sightline.report.evaluation import evaluation_report
from sightline.report.page import render_run

_FILE_ENDS = (".jsonl", ".json")


def evaluate_command(
    what: str,
    options: AnswerOptions,
    *,
    against: Path | None,
    before: bool,
    metrics: list[str],
    iou: float,
    resamples: int,
    seed: int,
    output: Path | None,
) -> int:
    """Measure predictions; 0, or 2 where something cannot be read."""
    with user_errors():
        _refuse_unknown(metrics)
        _refuse_disagreeing(what, options, against=against, before=before)
        quiet_libraries()
        from sightline.evaluation.evaluating import EvaluationSettings, evaluation_record
        from sightline.evaluation.metrics.measures import refuse_without_library
        from sightline.evaluation.prediction import load_predictions

        refuse_without_library(metrics)
        console = make_console()
        after = Path(what)
        if not _is_file(what):
            after, against = _predicted(what, options, console, before=before)
        now = load_predictions(after)
        then = None if against is None else load_predictions(against)
        settings = EvaluationSettings(
            metrics=tuple(metrics), iou=iou, resamples=resamples, seed=seed
        )
        with counted(console, "drawing", total=resamples, tells=False) as on_draw:
            record = evaluation_record(now, then, settings, lambda: on_draw(1))
        path = output or _record_of(what, options, after)
        write_json(
            path,
            {"predictions": str(after), "against": against and str(against), **record},
        )
        console.print(evaluation_report(record))
        console.print(f"\nrecord  {path}", soft_wrap=True, markup=False)
        if (Path(what) / "run.json").is_file() and path == Path(what) / "evaluation.json":
            # The record of a run's own data is a section of its page.
            console.print(f"report  {render_run(Path(what))}", soft_wrap=True, markup=False)
    return 0


def _is_file(what: str) -> bool:
    return Path(what).is_file() or what.endswith(_FILE_ENDS)


def _predicted(
    what: str, options: AnswerOptions, console: Console, *, before: bool
) -> tuple[Path, Path | None]:
    """Predictions of a model, and of its base."""
    after, base = (default_output(what, options, base=of_base) for of_base in (False, True))
    if base == after:
        base = after.with_name("predictions-of-base.jsonl")
    make_predictions(what, after, options, console, base=False)
    if not before:
        return after, None
    make_predictions(what, base, options, console, base=True)
    return after, base


def _record_of(what: str, options: AnswerOptions, after: Path) -> Path:
    """Beside the predictions, named after the data; of a run's own data, in its directory."""
    names = options.data_names()
    if not (Path(what) / "run.json").is_file():
        return after.with_name("evaluation.json")
    return after.with_name(f"{names[0]}.json") if names else Path(what) / "evaluation.json"


def _refuse_unknown(metrics: list[str]) -> None:
    known = get_args(Measure)
    for name in metrics:
        if name not in known:
            raise ConfigError(
                f"--metrics {name}: there is no such measure.\nThere are {', '.join(known)}."
            )


def _refuse_disagreeing(
    what: str, options: AnswerOptions, *, against: Path | None, before: bool
) -> None:
    if not _is_file(what):
        if against is not None:
            raise ConfigError(
                f"--against {against}: {what} is a model, not a file of predictions.\n"
                "Its base is compared with --before; two files of predictions with "
                "sightline evaluate AFTER.jsonl --against BEFORE.jsonl."
            )
        refuse_early(what, options)
        return
    plain = AnswerOptions()
    names = [
        field.name
        for field in dataclasses.fields(plain)
        if getattr(options, field.name) != getattr(plain, field.name)
    ]
    names += ["before"] if before else []
    if names:
        option = names[0].replace("_", "-").replace("overrides", "set")
        raise ConfigError(
            f"--{option}: {what} is a file of predictions, and they are not made again.\n"
            "Leave the option out, or name a run or a model."
        )
