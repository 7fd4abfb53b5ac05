"""A verification beside an earlier one: of the same run elsewhere, or on another stack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sightline.checks.finding import Finding
from sightline.errors import VerifyError
from sightline.records import read_json

_SHOWN = 3
# Lines that a verification has only beside another.
_PREFIX = "against."


class Earlier(NamedTuple):
    """What an earlier verification wrote.

    Attributes:
        certificate: ``certificate.json``.
        answers: ``predictions.json``; None where it got no further than the token ids.
    """

    certificate: dict[str, Any]
    answers: dict[str, Any] | None

    @classmethod
    def read(cls, folder: Path) -> Earlier:
        """Read the records of a run directory, or of a copy of its two files.

        Raises:
            VerifyError: There is no certificate in it.
        """
        path = folder / "certificate.json"
        if not path.is_file():
            raise VerifyError(
                f"{path}: there is no certificate to compare with.\n"
                "Name a run directory that was verified, or a folder with its certificate.json."
            )
        certificate = read_json(path)
        if not isinstance(certificate, dict) or "checks" not in certificate:
            raise VerifyError(
                f"{path}: this is no certificate of Sightline; it has no checks.\n"
                "Name a run directory that was verified, or a folder with its certificate.json."
            )
        answers = folder / "predictions.json"
        return cls(certificate, read_json(answers) if answers.is_file() else None)


class Change(NamedTuple):
    """Something that is otherwise than it was.

    Attributes:
        what: A version, the machine, or a check.
        before: In the earlier certificate; empty where it had none.
        now: In this one; empty where it has none.
    """

    what: str
    before: str
    now: str


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Versions, machine and outcomes of checks that differ between two certificates.

    >>> one = {"versions": {"torch": "2.11"}, "checks": []}
    >>> changes(one, one | {"versions": {"torch": "2.15"}})
    [Change(what='torch', before='2.11', now='2.15')]
    """
    sides = [
        {**_flat(one, "versions"), **_flat(one, "machine"), **_outcomes(one)}
        for one in (before, now)
    ]
    names = dict.fromkeys([*sides[0], *sides[1]])
    return [
        Change(name, sides[0].get(name, ""), sides[1].get(name, ""))
        for name in names
        if sides[0].get(name, "") != sides[1].get(name, "")
    ]


def same_artefact(before: Mapping[str, Any], now: Mapping[str, Any]) -> Finding:
    """Weights and data are those of the earlier certificate: else nothing is repeated."""
    faults, unknown = [], []
    for name, of in (("weights", "sha256"), ("data", None)):
        was, is_now = before.get(name), now.get(name)
        if was is None:
            unknown.append(name)
        elif (was[of] if of else was) != (is_now[of] if of and is_now else is_now):
            faults.append(name)
    measured = f"{' and '.join(faults) or 'nothing'} differ" + ("" if len(faults) > 1 else "s")
    if unknown:
        measured += f"; the earlier certificate does not tell {' and '.join(unknown)}"
    return Finding(
        id="against.artefact",
        title="Weights and data are those of the earlier certificate",
        holds=None if len(unknown) == 2 else not faults,
        measured=measured,
        tolerance="nothing",
        figures={"differing": faults, "unknown": unknown},
        advice="" if not faults else "These are two different models: compare copies of one run.",
    )


def same_answers(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> Finding:
    """The model answers as it did there."""
    title = "Answers equal those of the earlier verification"
    if before is None or now is None:
        where = "there" if before is None else "here"
        measured = f"no answers were made {where}"
        return Finding(id="against.answers", title=title, holds=None, measured=measured)
    old, new = ({row["index"]: row for row in side["samples"]} for side in (before, now))
    common = sorted(old.keys() & new.keys())
    faults = [index for index in common if old[index]["answer"] != new[index]["answer"]]
    detail = "; ".join(
        f"{new[index]['file']}:{new[index]['line']}: {new[index]['answer']!r}, "
        f"earlier {old[index]['answer']!r}"
        for index in faults[:_SHOWN]
    )
    return Finding(
        id="against.answers",
        title=title,
        holds=not faults if common else None,
        measured=f"{len(common) - len(faults)} of {len(common)} equal",
        tolerance=f"{len(common)} of {len(common)}",
        figures={"num_equal": len(common) - len(faults), "num_samples": len(common)},
        detail=detail,
        advice=""
        if not faults
        else "Another stack, another device or another model: see what changed. Serve with the "
        "versions of the earlier certificate, or verify that you can live with these answers.",
    )


def _flat(certificate: Mapping[str, Any], section: str) -> dict[str, str]:
    return {name: str(value) for name, value in (certificate.get(section) or {}).items()}


def _outcomes(certificate: Mapping[str, Any]) -> dict[str, str]:
    words = {True: "holds", False: "fails", None: "info"}
    return {
        check["id"]: words[check["holds"]]
        for check in certificate["checks"]
        if not check["id"].startswith(_PREFIX)
    }
