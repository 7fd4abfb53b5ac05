"""``sightline check``: everything about the data of a run, without its weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sightline import __version__
from sightline.cli.console import (
    EXIT_BAD_INPUT,
    EXIT_NOT_PROVEN,
    make_console,
    quiet_libraries,
    user_errors,
)


def check_command(
    path: Path,
    overrides: list[str],
    *,
    as_json: bool,
    strict: bool,
    output: Path | None,
    device: str | None = None,
    sarif_file: Path | None = None,
) -> int:
    """Check a configuration's data and plan; 0, 1 with warnings and ``strict``, 2 with errors."""
    from sightline.config import load_config

    with user_errors():
        config = load_config(path, overrides)
        quiet_libraries()
        from sightline.checks.dataset import check_data
        from sightline.model import open_checkpoint, resolve_model, tiny_folder
        from sightline.preparation import prepare_data
        from sightline.preparation.estimate import add_estimate, find_device
        from sightline.records import write_json
        from sightline.report.dataset import dataset_report
        from sightline.report.estimate import estimate_report
        from sightline.report.sarif import check_results, sarif
        from sightline.training.loss import model_loss

        runs_on = find_device(device)
        console = make_console(stderr=as_json)
        folder = output or Path(f"{config.output}.check")
        source = resolve_model(config.model, tiny_folder(config.model, Path(config.output)))
        checkpoint = open_checkpoint(source, config.data)
        num_read = 0
        with console.status("reading the data") as status:

            def on_samples(count: int) -> None:
                nonlocal num_read
                num_read += count
                status.update(f"reading the data: {num_read:,} samples")

            # Every fault is wanted here, not the first.
            data = prepare_data(config, checkpoint, on_samples, stop_on_bad=False)
            status.update("writing the ledger")
            counts = data.train.write_ledger(folder / "ledger.jsonl", folder / "quarantine.jsonl")
            status.update("counting")
            record = check_data(config, checkpoint, data, counts)
            status.update("estimating memory and time")
            add_estimate(record, config, checkpoint, data, model_loss, runs_on)
            write_json(folder / "check.json", record)
        if sarif_file is not None:
            with (folder / "ledger.jsonl").open(encoding="utf-8") as lines:
                results = check_results(record, map(json.loads, lines), path)
            write_json(sarif_file, sarif(results, __version__))
        if as_json:
            json.dump(record, sys.stdout, ensure_ascii=False, indent=2)
            print()
        else:
            console.print(dataset_report(record))
            if record["estimate"] is not None:
                console.print(estimate_report(record["estimate"]))
            console.print("\nledger.jsonl, quarantine.jsonl and check.json are in")
            console.print(str(folder), soft_wrap=True)
    if record["errors"]:
        return EXIT_BAD_INPUT
    return EXIT_NOT_PROVEN if strict and record["warnings"] else 0


def probe_command(path: Path, overrides: list[str], *, as_json: bool, output: Path | None) -> int:
    """Prove a configuration's plan on one real batch; 0, or 1 where it is not proven."""
    from sightline.config import load_config

    with user_errors():
        config = load_config(path, overrides)
        quiet_libraries()
        from sightline.cli.train import TerminalObserver
        from sightline.records import write_json
        from sightline.report.proof import proof_report
        from sightline.training.prove import prove_plan

        console = make_console(stderr=as_json)
        observer = TerminalObserver(console)
        try:
            proof = prove_plan(config, observer)
        finally:
            observer.close()
        folder = output or Path(f"{config.output}.check")
        record = proof.record()
        write_json(folder / "proof.json", {"schema": 1, "before": record})
        if as_json:
            json.dump(record, sys.stdout, ensure_ascii=False, indent=2)
            print()
        else:
            console.print(proof_report(record))
    return 0 if proof.holds else EXIT_NOT_PROVEN
