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
    from sightline.checks.against import Earlier
    from sightline.checks.finding import Finding


def verify_command(
    directory: Path,
    *,
    control: bool,
    as_json: bool = False,
    sarif_file: Path | None = None,
    against: Path | None = None,
) -> int:
    """Verify a run, or each of a folder of runs, and write reports; 0 only if all checks hold."""
    console = make_console(stderr=as_json)
    with user_errors():
        runs = _runs_of(directory)
        quiet_libraries()
        from sightline.checks.against import Earlier

        # Read first: it may be this run's own, which is about to be written anew.
        earlier = Earlier.read(against) if against is not None else None
        certificates, results = {}, []
        for run in runs:
            if len(runs) > 1:
                console.print(f"\n{run.path}", soft_wrap=True)
            certificate = _verify(run, console, control=control, earlier=earlier, shows=not as_json)
            certificates[run.path.name] = certificate
            folder = run.path / certificate["artefact"]["folder"]
            results += verify_results(certificate, folder)
        if sarif_file is not None:
            write_json(sarif_file, sarif(results, __version__))
        if as_json:
            is_one = runs[0].path == directory
            told = certificates[runs[0].path.name] if is_one else {"runs": certificates}
            json.dump(told, sys.stdout, ensure_ascii=False, indent=2)
            print()
        holds = all(one["verdict"] == "holds" for one in certificates.values())
        return 0 if holds else EXIT_NOT_PROVEN


def _runs_of(directory: Path) -> list[RunDirectory]:
    """The run, or those that a folder holds, as that of the demo does; in their order.

    Raises:
        RunError: It is neither.
    """
    if not (directory / "run.json").is_file() and directory.is_dir():
        held = sorted(state.parent for state in directory.glob("*/run.json"))
        if held:
            return [RunDirectory.open(folder) for folder in held]
    return [RunDirectory.open(directory)]


def _verify(
    run: RunDirectory, console: Console, *, control: bool, earlier: Earlier | None, shows: bool
) -> dict[str, Any]:
    """Verify one run and write its report; its certificate."""
    from sightline.checks.against import changes
    from sightline.checks.verify import verify_run

    with console.status("loading the exported model afresh") as status:

        def show(finding: Finding) -> None:
            status.update(f"checked {finding.id}")

        findings = verify_run(run.path, show, control=control, earlier=earlier)
    certificate = read_json(run.certificate)
    if shows:
        _show(console, certificate, findings)
    if earlier is not None:
        console.print(changes_table(changes(earlier.certificate, certificate)))
    console.print(f"report  {render_run(run.path)}", soft_wrap=True)
    return certificate


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
