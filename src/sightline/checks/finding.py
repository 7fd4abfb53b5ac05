"""What a check says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        id: Stable name: room of the fault, then the fault.
        title: What holds when the check holds.
        holds: True, False, or None for information that is no verdict.
        measured: What was seen, with figures.
        tolerance: What would still have held.
        figures: The same as numbers.
        detail: Where it was seen; empty when there is nothing to add.
        advice: What to do; empty when it holds.
    """

    id: str
    title: str
    holds: bool | None
    measured: str
    tolerance: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    detail: str = ""
    advice: str = ""

    def record(self) -> dict[str, Any]:
        """The finding as it stands in ``certificate.json``."""
        severity = "info" if self.holds is None else "error"
        return asdict(self) | {"severity": severity, "figures": dict(self.figures)}


def verdict(findings: list[Finding]) -> str:
    """``holds`` when every check that judges holds, and there is one."""
    judged = [finding.holds for finding in findings if finding.holds is not None]
    return "holds" if judged and all(judged) else "fails"
