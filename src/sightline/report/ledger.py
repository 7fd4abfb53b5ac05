"""The ledger in numbers, read line by line: it may be as long as the data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.errors import RunError

# Lines of samples that did not train as they are, kept to be shown: of each fate.
NUM_SHOWN = 50
_SUMS = (
    "num_images",
    "num_videos",
    "num_tokens",
    "num_image_tokens",
    "num_video_tokens",
    "num_supervised_tokens",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerSummary:
    """What the ledger adds up to.

    Attributes:
        num_samples: Input samples.
        files: Names of the data files.
        fates: Samples by fate, the most frequent first.
        sums: Counts over all samples.
        longest: Most tokens of a sample.
        num_changed: Samples that did not train as they are.
        shown: The first of these, of each fate.
    """

    num_samples: int
    files: tuple[str, ...]
    fates: tuple[tuple[str, int], ...]
    sums: Mapping[str, int]
    longest: int
    num_changed: int
    shown: tuple[Mapping[str, Any], ...]


def read_ledger(path: Path) -> LedgerSummary | None:
    """Add up a ledger; None where there is none.

    Raises:
        RunError: A line is broken.
    """
    if not path.is_file():
        return None
    fates: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    files: set[str] = set()
    shown: list[Mapping[str, Any]] = []
    num_changed = longest = 0
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                fates[row["fate"]] += 1
                files.add(Path(row["file"]).name)
            except (ValueError, KeyError, TypeError) as error:
                raise RunError(f"{path}:{number}: the line is broken: {error}.") from error
            sums.update({key: row.get(key) or 0 for key in _SUMS})
            longest = max(longest, row.get("num_tokens") or 0)
            if row["fate"] != "kept":
                num_changed += 1
                if fates[row["fate"]] <= NUM_SHOWN:
                    shown.append(row)
    return LedgerSummary(
        num_samples=fates.total(),
        files=tuple(sorted(files)),
        fates=tuple(fates.most_common()),
        sums=sums,
        longest=longest,
        num_changed=num_changed,
        shown=tuple(shown),
    )
