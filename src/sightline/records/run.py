"""A run is a directory that says everything."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sightline.errors import RunError
from sightline.records.atomic import is_unfinished, remove, write_text, writing
from sightline.records.claim import CLAIM
from sightline.records.jsonfiles import read_json, read_jsonl, write_json
from sightline.records.versions import collect_versions

State = Literal["training", "stopped", "trained", "verified", "failed"]
# Of a run that goes on from its newest checkpoint.
_UNFINISHED = ("training", "stopped")


class RunDirectory:
    """The files of a run, by name.

    Args:
        path: The directory. Use `create` or `open`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state_file = path / "run.json"
        self.config = path / "config.yaml"
        self.ledger = path / "ledger.jsonl"
        self.quarantine = path / "quarantine.jsonl"
        self.plan = path / "plan.json"
        self.proof = path / "proof.json"
        self.logs = path / "logs"
        self.metrics = path / "metrics.jsonl"
        self.alarms = path / "alarms.jsonl"
        self.loss_plot = path / "loss.png"
        self.tensorboard = path / "tensorboard"
        self.checkpoints = path / "checkpoints"
        self.adapter = path / "adapter"
        self.merged = path / "merged"
        self.probe = path / "probe.json"
        self.probe_media = path / "probe-media"
        self.probe_tensors = path / "probe.safetensors"
        self.certificate = path / "certificate.json"
        self.predictions = path / "predictions.json"
        self.report = path / "report.html"

    @classmethod
    def refuse_occupied(cls, path: Path, *, overwrite: bool = False) -> None:
        """Refuse a directory that holds something else, or a run that would be lost.

        A run that never reached a checkpoint holds nothing to lose and gives way.

        Raises:
            RunError: Says which option keeps or replaces what is there.
        """
        if path.exists() and not path.is_dir():
            raise RunError(f"{path}: a file of that name is in the way. Choose another output.")
        run = cls(path)
        with writing(path):
            # A run that was killed as it began left nothing but a part of its first file.
            is_free = not path.is_dir() or all(
                entry.name == CLAIM or is_unfinished(entry, run.state_file)
                for entry in path.iterdir()
            )
        if is_free:
            return
        if not run.state_file.is_file():
            raise RunError(
                f"{path}: the folder is not empty and not a run of Sightline.\n"
                "Choose another output."
            )
        if overwrite:
            return
        if run._is_finished():
            raise RunError(
                f"{path}: a finished run is there.\n"
                "Choose another output, or replace it with --overwrite."
            )
        if run.checkpoints.is_dir() and any(run.checkpoints.iterdir()):
            raise RunError(
                f"{path}: an unfinished run with checkpoints is there.\n"
                f"Go on with sightline resume {path}, or replace it with --overwrite."
            )

    @classmethod
    def create(cls, path: Path, *, overwrite: bool = False) -> RunDirectory:
        """Make the directory of a new run, with a first ``run.json``; see `refuse_occupied`.

        It should be claimed before: what another process has is not to be removed.
        """
        cls.refuse_occupied(path, overwrite=overwrite)
        run = cls(path)
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            # The folder itself stays: it may be a link, or a disk of its own. run.json goes last,
            # so that what is left of a removal that fails is still known as a run.
            for entry in sorted(path.iterdir(), key=lambda entry: entry == run.state_file):
                if entry.name != CLAIM:
                    remove(entry)
        run.write_state(state="training")
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """Open the directory of an earlier run.

        Raises:
            RunError: It is not there, or not a run.
        """
        path = Path(path)
        run = cls(path)
        if not path.is_dir():
            raise RunError(
                f"{path}: there is no such run directory.\n"
                "Name the folder that `output` of the configuration names."
            )
        if not run.state_file.is_file():
            raise RunError(
                f"{path}: not a run directory; run.json is missing.\n"
                "Name the folder that `output` of the configuration names."
            )
        return run

    def write_state(self, *, state: State, finished: bool = False, **facts: Any) -> None:
        """Write ``run.json``; facts given earlier stay.

        Args:
            state: How far the run is.
            finished: Whether training ended now.
            **facts: family, model, device, seconds, steps.
        """
        record = self.read_state() if self.state_file.is_file() else self._new_state()
        record |= {"state": state, **facts}
        if finished:
            record["finished"] = _now()
        elif state in _UNFINISHED:
            # A run that goes on is not finished any more.
            record["finished"] = None
        write_json(self.state_file, record)

    def read_state(self) -> dict[str, Any]:
        """The content of ``run.json``.

        Raises:
            RunError: Missing or broken.
        """
        record = read_json(self.state_file)
        if not isinstance(record, dict) or "state" not in record:
            raise RunError(
                f"{self.state_file}: the file is broken: it has no state.\n"
                "Start the run anew with --overwrite."
            )
        return record

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``."""
        return read_jsonl(self.metrics)

    def read_alarms(self) -> list[dict[str, Any]]:
        """The lines of ``alarms.jsonl``; none where nothing was wrong."""
        return read_jsonl(self.alarms)

    def _is_finished(self) -> bool:
        if self.merged.exists() or self.adapter.exists():
            return True
        return self.read_state()["state"] not in _UNFINISHED

    def forget_steps_after(self, step: int, *, is_evaluated: bool = True) -> None:
        """Drop metrics and alarms of what will be done again when a run is resumed.

        Args:
            step: The last step that is not trained again.
            is_evaluated: Whether its evaluation is not made again either.
        """
        for path in (self.metrics, self.alarms):
            kept = [
                entry
                for entry in read_jsonl(path)
                if entry["step"] < step
                or (entry["step"] == step and (is_evaluated or "eval_loss" not in entry))
            ]
            lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in kept]
            write_text(path, "".join(lines))

    def _new_state(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "state": "training",
            "started": _now(),
            "finished": None,
            "seconds": None,
            "versions": collect_versions(),
        }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
