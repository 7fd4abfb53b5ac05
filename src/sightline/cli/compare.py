"""``sightline compare``: runs side by side, in the terminal and as one page."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sightline.cli.console import make_console, user_errors
from sightline.errors import ConfigError
from sightline.report.compare import compare_record, load_runs
from sightline.report.compare_table import comparison_report


def compare_command(directories: list[Path], *, output: Path | None, as_json: bool) -> int:
    """Compare runs; 0, also where one of them is not proven.

    Args:
        directories: The run directories.
        output: Where the page goes; None for none.
        as_json: Whether the record is printed in place of the tables.
    """
    console = make_console(stderr=as_json)
    with user_errors():
        if output is not None and output.suffix.lower() not in (".html", ".htm"):
            raise ConfigError(
                f"--output {output}: the page is an HTML file.\nName one that ends with .html"
            )
        runs = load_runs(directories)
        record = compare_record(runs)
        if as_json:
            json.dump(record, sys.stdout, ensure_ascii=False, indent=2, allow_nan=False)
            print()
        else:
            console.print(comparison_report(record))
        if output is not None:
            # Its templates take a third of a second.
            from sightline.report.compare_page import write_comparison

            console.print(f"page    {write_comparison(runs, record, output)}", soft_wrap=True)
    return 0
