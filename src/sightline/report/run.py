"""The records of a run directory, as the pages read them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sightline.errors import RunError
from sightline.families import FAMILIES
from sightline.records import read_json, read_jsonl
from sightline.report.curves import LossCurve, read_curve
from sightline.report.ledger import LedgerSummary, read_ledger
from sightline.report.watched import Watched, read_watched

_EVALUATION = (
    "predictions",
    "num_predictions",
    "settings",
    "metrics",
    "sources",
    "labels",
    "reading",
    "reading_before",
)
_ANSWER = ("annotation", "answer", "annotated", "predicted")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecords:
    """What a run directory holds. None or empty where the run stopped before it was written.

    Attributes:
        path: The run directory.
        state: ``run.json``.
        config_text: ``config.yaml`` as it is written.
        config: The same, parsed.
        ledger: What ``ledger.jsonl`` adds up to.
        plan: ``plan.json``.
        metrics: Lines of ``metrics.jsonl``.
        alarms: Lines of ``alarms.jsonl``.
        certificate: ``certificate.json``.
        predictions: ``predictions.json``.
        proof: ``proof.json``.
        evaluation: ``evaluation.json``.
        answers: Lines of the predictions that it is of.
        answers_before: Those of the base; empty where it was not asked.
        watched: What was watched while it trained.
        curve: The loss curve.
    """

    path: Path
    state: dict[str, Any]
    config_text: str
    config: dict[str, Any]
    ledger: LedgerSummary | None
    plan: dict[str, Any] | None
    metrics: Sequence[dict[str, Any]]
    alarms: Sequence[dict[str, Any]]
    certificate: dict[str, Any] | None
    predictions: dict[str, Any] | None
    proof: dict[str, Any] | None
    evaluation: dict[str, Any] | None
    answers: Sequence[dict[str, Any]]
    answers_before: Sequence[dict[str, Any]]
    watched: Watched
    curve: LossCurve

    @property
    def name(self) -> str:
        """Name of the directory."""
        return self.path.name

    @property
    def typed(self) -> str:
        """The directory as a command names it that is typed in the working directory."""
        here = Path.cwd()
        below = self.path.relative_to(here) if self.path.is_relative_to(here) else self.path
        return shlex.quote(str(below))

    @property
    def family_title(self) -> str:
        """The family's name as people write it, or the key of one that is not known here."""
        key = self.state.get("family") or (self.certificate or {}).get("family") or "unknown"
        return FAMILIES[key].title if key in FAMILIES else key


def load_run(directory: Path, *, with_lines: bool = True) -> RunRecords:
    """Read the records of a run, as many as there are.

    Args:
        directory: The run directory.
        with_lines: Whether files that may be long are read: ledger, metrics, alarms, answers.

    Raises:
        RunError: It is not a run directory, or one of its files is broken.
    """
    path = directory.resolve()
    if not (path / "run.json").is_file() and not (path / "config.yaml").is_file():
        raise RunError(
            f"{directory}: this is not a run directory: it has neither run.json nor config.yaml.\n"
            "Name the folder that `output` of the configuration names."
        )
    config_text = _text(path / "config.yaml")
    metrics = _lines(path / "metrics.jsonl") if with_lines else ()
    plan = _object(path / "plan.json")
    evaluation = _complete(path / "evaluation.json", _EVALUATION)
    answered = evaluation if with_lines else None
    return RunRecords(
        path=path,
        state=_object(path / "run.json") or {},
        config_text=config_text,
        config=_parsed_config(path / "config.yaml", config_text),
        ledger=read_ledger(path / "ledger.jsonl") if with_lines else None,
        plan=plan,
        metrics=metrics,
        alarms=_lines(path / "alarms.jsonl") if with_lines else (),
        certificate=_object(path / "certificate.json"),
        predictions=_object(path / "predictions.json"),
        proof=_complete(path / "proof.json", ("before", "stages", "end")),
        evaluation=evaluation,
        answers=_answers(path, answered, "predictions"),
        answers_before=_answers(path, answered, "against"),
        watched=read_watched(metrics, plan),
        curve=read_curve(metrics),
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _object(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None


def _lines(path: Path) -> Sequence[dict[str, Any]]:
    return read_jsonl(path) if path.is_file() else ()


def _complete(path: Path, keys: Sequence[str]) -> dict[str, Any] | None:
    """A record with all that the page reads of it; None where there is none."""
    record = _object(path)
    if record is None:
        return None
    missing = [key for key in keys if not isinstance(record, dict) or key not in record]
    if missing:
        raise RunError(
            f"{path}: the file is broken: it has no {missing[0]!r}, of {len(keys)} entries that it "
            f"must have.\nMake it again, or move it away: the report leaves out what is not there."
        )
    return record


def _answers(path: Path, evaluation: dict[str, Any] | None, which: str) -> Sequence[dict[str, Any]]:
    """The predictions that an evaluation names; it names them from the folder it was called in."""
    named = (evaluation or {}).get(which)
    if not named:
        return ()
    file = path / "evaluation" / Path(named).name
    rows = _lines(file)
    for number, row in enumerate(rows, start=1):
        missing = [key for key in _ANSWER if not isinstance(row, dict) or key not in row]
        if missing:
            raise RunError(
                f"{file}:{number}: the line is broken: it has no {missing[0]!r}.\n"
                f"Answer the questions again: sightline evaluate {path} --overwrite"
            )
    return rows


def _parsed_config(path: Path, text: str) -> dict[str, Any]:
    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RunError(f"{path}: this is not YAML: {error}\nTrain the run anew.") from error
    return parsed if isinstance(parsed, dict) else {}
