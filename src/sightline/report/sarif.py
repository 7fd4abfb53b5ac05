"""Findings as SARIF 2.1.0, the form in which continuous integration shows them beside the files.

Reference: OASIS, Static Analysis Results Interchange Format 2.1.0, sections 3.13 to 3.52.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
# GitHub takes so many of a run, and says nothing of those that follow.
MOST_RESULTS = 5000


class Result(NamedTuple):
    """One thing that was found.

    Attributes:
        rule: Stable id of its kind.
        title: What the kind is called.
        level: ``error``, ``warning`` or ``note``.
        message: What was seen, and what to do.
        file: Where; None where it is in no file.
        line: Line of the file, from 1; None for all of it.
    """

    rule: str
    title: str
    level: str
    message: str
    file: Path | None = None
    line: int | None = None


def check_results(
    record: Mapping[str, Any], ledger: Iterable[Mapping[str, Any]], config: Path
) -> list[Result]:
    """What ``sightline check`` found: errors and warnings, and each sample that is left out.

    Args:
        record: ``check.json``.
        ledger: Lines of its ``ledger.jsonl``.
        config: The configuration, where what is no single sample's fault is shown.
    """
    titles = {fault["code"]: fault["title"] for fault in record["faults"]}
    found = [
        Result(f"data.{level}", f"{level} about the data as a whole", level, text, config)
        for level, texts in (("error", record["errors"]), ("warning", record["warnings"]))
        for text in texts
    ]
    for row in ledger:
        if row["fate"] not in ("quarantined", "dropped"):
            continue
        code = row["code"] or "sample.wrong"
        field = f" (field {row['field']})" if row["field"] else ""
        text = f"{row['reason'] or titles.get(code, code)}{field}"
        file, title = Path(row["file"]), titles.get(code, code)
        found.append(Result(code, title, "warning", text, file, row["line"]))
    return found


def verify_results(certificate: Mapping[str, Any], artefact: Path) -> list[Result]:
    """The checks of a certificate that do not hold, and what others advise.

    Args:
        certificate: ``certificate.json``.
        artefact: The folder that was verified.
    """
    found = []
    for check in certificate["checks"]:
        if check["holds"] is True or not (check["holds"] is False or check["advice"]):
            continue
        told = f"{check['measured']}, tolerance {check['tolerance'] or '-'}."
        text = " ".join(part for part in (told, check["detail"], check["advice"]) if part)
        level = "error" if check["holds"] is False else "note"
        found.append(Result(check["id"], check["title"], level, text, artefact))
    return found


def sarif(results: list[Result], version: str, *, root: Path | None = None) -> dict[str, Any]:
    """The log of one run.

    Args:
        results: What was found.
        version: Sightline's.
        root: Files below it are named from here, as continuous integration knows them; None is the
            working directory.
    """
    root = (root or Path.cwd()).resolve()
    rules = {one.rule: one.title for one in results}
    numbers = {rule: number for number, rule in enumerate(rules)}
    tool = {
        "name": "Sightline",
        "version": version,
        "rules": [
            {"id": rule, "shortDescription": {"text": title}} for rule, title in rules.items()
        ],
    }
    run: dict[str, Any] = {
        "tool": {"driver": tool},
        "columnKind": "unicodeCodePoints",
        "results": [_result(one, numbers, root) for one in results[:MOST_RESULTS]],
    }
    if len(results) > MOST_RESULTS:
        run["properties"] = {"resultsLeftOut": len(results) - MOST_RESULTS}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(one: Result, numbers: Mapping[str, int], root: Path) -> dict[str, Any]:
    made: dict[str, Any] = {
        "ruleId": one.rule,
        "ruleIndex": numbers[one.rule],
        "level": one.level,
        "message": {"text": one.message},
    }
    if one.file is not None:
        place: dict[str, Any] = {"artifactLocation": {"uri": _uri(one.file, root)}}
        if one.line is not None:
            place["region"] = {"startLine": one.line}
        made["locations"] = [{"physicalLocation": place}]
    return made


def _uri(file: Path, root: Path) -> str:
    whole = file if file.is_absolute() else root / file
    if whole.is_relative_to(root):
        return quote(whole.relative_to(root).as_posix())
    return whole.as_uri()
