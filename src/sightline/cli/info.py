"""``sightline info``: what a bug report has to say, ready to be pasted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sightline.cli.console import quiet_libraries, user_errors


def info_command(run: Path | None, *, as_json: bool) -> int:
    """Print versions, machine and settings, and with a run what became of it."""
    with user_errors():
        from sightline.records import environment_record
        from sightline.report.info import info_text, run_facts_of
        from sightline.report.run import load_run

        # Before anything is set here for the libraries.
        record: dict[str, Any] = {"schema": 1, **environment_record()}
        quiet_libraries()
        record |= _devices()
        if run is not None:
            record["run"] = run_facts_of(load_run(run))
        print(json.dumps(record, ensure_ascii=False, indent=1) if as_json else info_text(record))
    return 0


def _devices() -> dict[str, Any]:
    """What torch computes on here."""
    import torch

    gpus = [
        f"{one.name}, {one.total_memory / 2**30:.0f} GiB, capability {one.major}.{one.minor}"
        for one in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    ]
    return {"cuda": torch.version.cuda, "gpus": gpus, "num_threads": torch.get_num_threads()}
