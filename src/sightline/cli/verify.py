"""``sightline verify`` and ``sightline report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sightline.cli.console import EXIT_NOT_PROVEN, make_console, quiet_libraries, user_errors
from sightline.records import RunDirectory, read_json
from sightline.report.page import render_run
from sightline.report.terminal import certificate_table


def verify_command(directory: Path, *, control: bool) -> int:
    """Verify a run and write its report; 0 only if every check holds."""
    console = make_console()
    with user_errors():
        run = RunDirectory.open(directory)
        quiet_libraries()
        from sightline.checks.finding import Finding, verdict
        from sightline.checks.verify import verify_run

        with console.status("loading the exported model afresh") as status:

            def show(finding: Finding) -> None:
                status.update(f"checked {finding.id}")

            findings = verify_run(directory, show, control=control)
        certificate = read_json(run.certificate)
        console.print(certificate_table(certificate))
        for finding in findings:
            if finding.holds is False or (finding.holds is None and finding.advice):
                # Not wrapped: a path that is broken over lines cannot be copied.
                head = finding.title if finding.holds is False else finding.measured
                console.print(f"{head} ({finding.id})", markup=False, soft_wrap=True)
                for line in (finding.detail, finding.advice):
                    console.print(f"  {line}", markup=False, soft_wrap=True)
        holds = verdict(findings) == "holds"
        console.print(
            f"verdict {_proven(certificate)} is the model that was trained."
            if holds
            else "verdict Not proven: see the checks that fail.",
        )
        page = render_run(run.path)
        console.print(f"report  {page}")
        return 0 if holds else EXIT_NOT_PROVEN


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
        make_console().print(f"report  {render_run(run.path)}")
        return 0
