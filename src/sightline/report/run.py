"""The records of a run directory, as the pages read them."""

from __future__ import annotations

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

    @property
    def name(self) -> str:
        """Name of the directory."""
        return self.path.name

    @property
    def family_title(self) -> str:
        """The family's name as people write it, or the key of one that is not known here."""
        key = self.state.get("family") or (self.certificate or {}).get("family") or "unknown"
        return FAMILIES[key].title if key in FAMILIES else key

    @property
    def watched(self) -> Watched:
        """What was watched while it trained."""
        return read_watched(self.metrics, self.plan)

    @property
    def curve(self) -> LossCurve:
        """The loss curve."""
        return read_curve(self.metrics)


def load_run(directory: Path) -> RunRecords:
    """Read the records of a run, as many as there are.

    Args:
        directory: The run directory.

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
    return RunRecords(
        path=path,
        state=_object(path / "run.json") or {},
        config_text=config_text,
        config=_parsed_config(path / "config.yaml", config_text),
        ledger=read_ledger(path / "ledger.jsonl"),
        plan=_object(path / "plan.json"),
        metrics=_lines(path / "metrics.jsonl"),
        alarms=_lines(path / "alarms.jsonl"),
        certificate=_object(path / "certificate.json"),
        predictions=_object(path / "predictions.json"),
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _object(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None


def _lines(path: Path) -> Sequence[dict[str, Any]]:
    return read_jsonl(path) if path.is_file() else ()


def _parsed_config(path: Path, text: str) -> dict[str, Any]:
    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RunError(f"{path}: this is not YAML: {error}\nTrain the run anew.") from error
    return parsed if isinstance(parsed, dict) else {}
