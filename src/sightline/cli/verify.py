"""``sightline verify`` and ``sightline report``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sightline import __version__
from sightline.cli.console import EXIT_NOT_PROVEN, make_console, quiet_libraries, user_errors
from sightline.records import RunDirectory, read_json, write_json
from sightline.report.page import render_run
from sightline.report.sarif import sarif, verify_results
from sightline.report.terminal import certificate_table, changes_table

if TYPE_CHECKING:
    from sightline.checks.finding import Finding


def verify_command(
    directory: Path,
    *,
    control: bool,
    as_json: bool = False,
    sarif_file: Path | None = None,
    against: Path | None = None,
) -> int:
    """Verify a run and write its report; 0 only if every check holds."""
    console = make_console(stderr=as_json)
    with user_errors():
        run = RunDirectory.open(directory)
        quiet_libraries()
        from sightline.checks.against import Earlier, changes
        from sightline.checks.finding import verdict
        from sightline.checks.verify import verify_run

        # Read first: it may be this run's own, which is about to be written anew.
        earlier = Earlier.read(against) if against is not None else None
        with console.status("loading the exported model afresh") as status:

            def show(finding: Finding) -> None:
                status.update(f"checked {finding.id}")

            findings = verify_run(directory, show, control=control, earlier=earlier)
        certificate = read_json(run.certificate)
        if sarif_file is not None:
            folder = run.path / certificate["artefact"]["folder"]
            results = verify_results(certificate, folder)
            write_json(sarif_file, sarif(results, __version__))
        if as_json:
            json.dump(certificate, sys.stdout, ensure_ascii=False, indent=2)
            print()
        else:
            _show(console, certificate, findings)
        if earlier is not None:
            console.print(changes_table(changes(earlier.certificate, certificate)))
        console.print(f"report  {render_run(run.path)}", soft_wrap=True)
        return 0 if verdict(findings) == "holds" else EXIT_NOT_PROVEN


def _show(console: Console, certificate: dict[str, Any], findings: list[Finding]) -> None:
    console.print(certificate_table(certificate))
    for finding in findings:
        if finding.holds is False or (finding.holds is None and finding.advice):
            # Not wrapped: a path that is broken over lines cannot be copied.
            head = finding.title if finding.holds is False else finding.measured
            console.print(f"{head} ({finding.id})", markup=False, soft_wrap=True)
            for line in (finding.detail, finding.advice):
                console.print(f"  {line}", markup=False, soft_wrap=True)
    console.print(
        f"verdict {_proven(certificate)} is the model that was trained."
        if certificate["verdict"] == "holds"
        else "verdict Not proven: see the checks that fail.",
    )


def _proven(certificate: dict[str, Any]) -> str:
    """What was proven, in words."""
    artefact = certificate["artefact"]
    if artefact["base"] is None:
        return "The exported model"
    held = artefact["quantization"]
    held = "" if held == "none" else f", held in {held},"
    return f"The adapter on {artefact['base']}{held}"


def report_command(directory: Path) -> int:
    """Write the report of a run again."""
    with user_errors():
        run = RunDirectory.open(directory)
        make_console().print(f"report  {render_run(run.path)}", soft_wrap=True)
        return 0
