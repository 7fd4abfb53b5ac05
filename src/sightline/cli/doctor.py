"""``sightline doctor``: the installed transformers beside the position engine."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sightline.cli.console import make_console, quiet_libraries, user_errors
from sightline.errors import ConfigError


def doctor_command(families: list[str], *, as_json: bool) -> int:
    """Compare, and say what the differences mean. They are upstream's: exit code 0."""
    console = make_console()
    with user_errors():
        quiet_libraries()
        import torch
        import transformers

        from sightline.checks.conformance import compare_installed
        from sightline.families import FAMILIES
        from sightline.report.doctor import doctor_sentences, doctor_table

        keys = tuple(_known(key, FAMILIES) for key in families) or tuple(FAMILIES)
        results = [asdict(result) for result in compare_installed(keys)]
        versions = {"transformers": transformers.__version__, "torch": torch.__version__}
        if as_json:
            record: dict[str, Any] = {"schema": 1, "versions": versions, "families": results}
            print(json.dumps(record, indent=1))
            return 0
        console.print(
            f"transformers {versions['transformers']} beside Sightline's position engine",
            style="bold",
        )
        console.print(doctor_table(results))
        sentences = doctor_sentences(results)
        for sentence in sentences:
            console.print(f"\n{sentence}", markup=False)
        if any(case["verdict"] == "differs" for result in results for case in result["cases"]):
            console.print(
                "\nTraining and generation in Sightline are not touched by these: positions are "
                "always the engine's. Serving is: see docs/positions.md.",
                markup=False,
            )
        return 0


def _known(key: str, families: Mapping[str, Any]) -> str:
    if key in families:
        return key
    near = difflib.get_close_matches(key, families, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(f"--family {key}: known are {', '.join(families)}.{hint}")
