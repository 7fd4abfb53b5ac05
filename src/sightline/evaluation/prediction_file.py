"""The file of predictions: written line by line, gone on with where it ended, in order at the end.

Beside ``predictions.jsonl`` stands ``predictions.settings.json``: what decides the answers. A file
that was begun with other settings is not gone on with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.errors import RunError
from sightline.evaluation.asking import Question
from sightline.evaluation.prediction import Prediction
from sightline.records import append_jsonl, read_json, read_jsonl, write_json, write_text

SCHEMA = 1


class PredictionFile:
    """A file of predictions, and its settings.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings_path = path.with_name(f"{path.stem}.settings.json")

    def begin(
        self, settings: dict[str, Any], facts: dict[str, Any], *, overwrite: bool
    ) -> set[tuple[int, int]]:
        """Begin the file, or go on with it.

        Args:
            settings: What decides the answers.
            facts: What else is kept beside them.
            overwrite: Whether what is there gives way.

        Returns:
            Sample and turn of what is answered.

        Raises:
            RunError: It was begun with other settings, or is no file of predictions.
        """
        is_there = self.path.exists() or self.settings_path.exists()
        if is_there and not overwrite:
            self._refuse_other(settings)
        elif is_there:
            # The lines go first: without their settings they would be anybody's.
            self.path.unlink(missing_ok=True)
            self.settings_path.unlink(missing_ok=True)
        write_json(self.settings_path, {"schema": SCHEMA, "settings": settings, **facts})
        return {(row["sample"], row["turn"]) for row in self._rows()}

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Write lines, and hand them to the system at once."""
        for one in predictions:
            append_jsonl(self.path, one.record())

    def finish(self) -> None:
        """Put the lines into the order of the data."""
        rows = sorted(self._rows(), key=lambda row: (row["sample"], row["turn"]))
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
        write_text(self.path, "".join(lines))

    def _rows(self) -> list[dict[str, Any]]:
        rows = read_jsonl(self.path)
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, dict) or not {"sample", "turn"} <= row.keys():
                raise RunError(
                    f"{self.path}:{number}: this is no prediction of sightline predict.\n"
                    "Name another with sightline predict --output, or replace it with --overwrite."
                )
        return rows

    def _refuse_other(self, settings: dict[str, Any]) -> None:
        if not self.settings_path.is_file():
            raise RunError(
                f"{self.path}: a file of that name is there, and {self.settings_path.name} is not "
                "beside it: what its answers were made with is not known.\n"
                "Name another with sightline predict --output, or replace it with --overwrite."
            )
        record = read_json(self.settings_path)
        then = record.get("settings") if isinstance(record, dict) else None
        if not isinstance(then, dict):
            raise RunError(
                f"{self.settings_path}: the file is broken: it has no settings.\n"
                "Name another with sightline predict --output, or replace both with --overwrite."
            )
        told = [
            f"  {key}: {then.get(key)} then, {settings.get(key)} now"
            for key in dict.fromkeys([*then, *settings])
            if then.get(key) != settings.get(key)
        ]
        if told:
            raise RunError(
                f"{self.path}: its predictions were made with other settings:\n"
                + "\n".join(told)
                + "\nName another with sightline predict --output, or replace it with --overwrite."
            )


def still_open(questions: Sequence[Question], answered: set[tuple[int, int]]) -> list[Question]:
    """Questions that are not answered yet.

    Args:
        questions: All of them.
        answered: Sample and turn of what is.
    """
    samples = {sample for sample, _ in answered}
    return [
        one
        for one in questions
        if (
            one.sample not in samples
            if one.turn is None
            else (one.sample, one.turn) not in answered
        )
    ]
