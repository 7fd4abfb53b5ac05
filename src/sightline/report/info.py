"""What a bug report has to say, as Markdown of at most 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sightline.config import RunConfig
from sightline.records import without_secrets
from sightline.report.quantities import plural
from sightline.report.run import RunRecords

_WIDTH = 80


def info_text(record: Mapping[str, Any]) -> str:
    """The record as it is pasted into an issue.

    Args:
        record: Of the machine, and perhaps of a run under ``run``.
    """
    versions: dict[str, str] = dict(record["versions"])
    sightline, python = versions.pop("sightline"), versions.pop("python")
    there = [f"{name} {found}" for name, found in versions.items() if found != "absent"]
    absent = [name for name, found in versions.items() if found == "absent"]
    settings = [f"{name}={value}" for name, value in record["settings"].items()]
    gpus = record["gpus"] or ["none"]
    lines = [
        f"sightline {sightline}, Python {python}, {record['system']}",
        f"{plural(record['num_cores'], 'core')}, {plural(record['num_threads'], 'thread')}; "
        f"CUDA {record['cuda'] or 'none'}; GPUs: {'; '.join(gpus)}",
        *_listed("packages", there),
        *_listed("not installed", absent),
        *_listed("settings", settings),
    ]
    if "run" in record:
        lines += _run_lines(record["run"])
    text = "\n".join(["```text", *lines, "```"])
    # Whose machine it is is nobody's business.
    return text.replace(str(Path.home()), "~")


def run_facts_of(run: RunRecords) -> dict[str, Any]:
    """What became of a run: its state, what is not a default, alarms, checks that fail.

    Args:
        run: Its records.
    """
    state, certificate = run.state, run.certificate or {}
    return {
        "name": run.name,
        "state": state.get("state"),
        "family": run.family_title,
        "device": state.get("device"),
        "steps": run.metrics[-1].get("step") if run.metrics else 0,
        "verdict": certificate.get("verdict"),
        "failing": [
            f"{one['id']}: {one['measured']}"
            for one in certificate.get("checks", ())
            if one["holds"] is False
        ],
        "alarms": [f"step {alarm['step']}: {alarm['seen']}" for alarm in run.alarms],
        "versions": state.get("versions", {}),
        "config": without_secrets(_changed_keys(run)),
    }


def _changed_keys(run: RunRecords) -> str:
    """The keys of the configuration that are not at their defaults; all, of another version."""
    try:
        config = RunConfig.model_validate(run.config)
    except ValidationError:
        return run.config_text
    changed = config.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(changed, sort_keys=False, allow_unicode=True)


def _listed(title: str, items: list[str]) -> list[str]:
    text = ", ".join(items) or "none"
    return textwrap.wrap(
        f"{title}: {text}",
        _WIDTH,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _run_lines(run: Mapping[str, Any]) -> list[str]:
    told = [f"{key} {run[key] or 'none'}" for key in ("state", "family", "device", "verdict")]
    told.append(f"{plural(run['steps'], 'step')} logged")
    lines = ["", *_listed(f"run {run['name']}", told)]
    for title in ("failing", "alarms"):
        lines += [f"{title}: {text}" for text in run[title]]
    return [*lines, "", *run["config"].rstrip().splitlines()]
