"""What was trained on what, and whether it is proven: the words of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sightline.report.ledger import LedgerSummary
from sightline.report.quantities import (
    count_text,
    duration_text,
    number_text,
    plural,
    time_text,
)
from sightline.report.run import RunRecords
from sightline.report.watched import TOWERS

PROVEN = "The exported model is the model that was trained"

_SETTINGS = (
    ("training", "epochs", "Epochs"),
    ("training", "max_steps", "Steps at most"),
    ("training", "learning_rate", "Learning rate"),
    ("training", "scheduler", "Schedule"),
    ("training", "batch_size", "Batch size"),
    ("training", "gradient_accumulation", "Gradient accumulation"),
    ("training", "precision", "Precision"),
    ("training", "seed", "Seed"),
    ("data", "max_length", "Longest sample, tokens"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The first thing that the page says.

    Attributes:
        kind: ``holds``, ``fails`` or ``open``.
        title: The verdict in one line.
        detail: What it rests on, or what to do.
        failing: The checks that fail, as they stand in the certificate.
        noted: Checks that are no verdict and still carry an advice.
    """

    kind: str
    title: str
    detail: str
    failing: tuple[Mapping[str, Any], ...] = ()
    noted: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """A name with its value, as text."""

    name: str
    value: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFacts:
    """The ledger in numbers.

    Attributes:
        facts: Counts.
        fates: What became of the samples, with how many.
        num_changed: Samples that did not train as they are.
        changed: Lines of the first of them.
    """

    facts: tuple[Fact, ...]
    fates: tuple[Fact, ...]
    num_changed: int
    changed: tuple[Mapping[str, Any], ...]


def verdict_of(run: RunRecords) -> Verdict:
    """The verdict on a run, also on one that was never verified."""
    certificate = run.certificate
    if certificate is None:
        return _open_verdict(run)
    checks: list[dict[str, Any]] = certificate["checks"]
    failing = tuple(check for check in checks if check["holds"] is False)
    noted = tuple(check for check in checks if check["holds"] is None and check["advice"])
    judged = sum(1 for check in checks if check["holds"] is not None)
    if certificate["verdict"] == "holds" and not failing:
        what = _loaded(certificate)
        detail = f"All {plural(judged, 'check')} hold, on {what} loaded afresh from disk."
        return Verdict(kind="holds", title=PROVEN, detail=detail, noted=noted)
    if failing:
        fail = "fails" if len(failing) == 1 else "fail"
        title = f"Not proven: {plural(len(failing), 'check')} {fail}"
        detail = f"{judged - len(failing)} of {plural(judged, 'check')} hold."
    else:
        title, detail = "Not proven: no check was made", "Run sightline verify again."
    return Verdict(kind="fails", title=title, detail=detail, failing=failing, noted=noted)


def _loaded(certificate: Mapping[str, Any]) -> str:
    """What was proven; certificates of earlier versions are about merged models."""
    artefact = certificate.get("artefact") or {"base": None}
    if artefact["base"] is None:
        return "the model"
    held = artefact["quantization"]
    return f"the adapter and its base{'' if held == 'none' else f', held in {held},'}"


def _open_verdict(run: RunRecords) -> Verdict:
    if run.state.get("finished"):
        title = "Not proven: the run was not verified"
        detail = f"Prove it: sightline verify {run.typed}"
    else:
        title = "Not proven: training did not finish"
        detail = f"Go on from the newest checkpoint: sightline resume {run.typed}"
    return Verdict(kind="open", title=title, detail=detail)


def run_facts(run: RunRecords) -> tuple[Fact, ...]:
    """Model, family, device and time."""
    state = run.state
    seconds = state.get("seconds")
    values = (
        ("Model", state.get("model")),
        ("Family", run.family_title),
        ("Device", state.get("device")),
        ("Pixels", _preparation(state.get("preparation"))),
        ("State", state.get("state")),
        ("Started", _time(state.get("started"))),
        ("Finished", _time(state.get("finished"))),
        ("Training took", duration_text(seconds) if seconds is not None else None),
        ("Steps", _num_steps(run)),
        ("Final loss", number_text(run.curve.loss[-1][1]) if run.curve.loss else None),
    )
    return tuple(Fact(name=name, value=str(value)) for name, value in values if value)


def _time(moment: str | None) -> str:
    return time_text(moment) if moment else ""


def _preparation(record: Mapping[str, Any] | None) -> str:
    """How pixels were prepared, and what that was compared with."""
    if not record:
        return ""
    compared = record.get("compared")
    if not compared:
        return "prepared by the checkpoint's processor"
    levels = count_text(compared["num_values"])
    return f"lean; {levels} grey levels compared, all equal to the processor's"


def _num_steps(run: RunRecords) -> str:
    return count_text(int(run.curve.loss[-1][0])) if run.curve.loss else ""


def data_facts(ledger: LedgerSummary) -> DataFacts:
    """Counts of the ledger; every sample of the input is in them."""
    files, sums = ledger.files, ledger.sums
    counts = (
        ("Samples", ledger.num_samples),
        ("Images", sums["num_images"]),
        ("Videos", sums["num_videos"]),
        ("Tokens", sums["num_tokens"]),
        ("of images and videos", sums["num_image_tokens"] + sums["num_video_tokens"]),
        ("with a loss", sums["num_supervised_tokens"]),
        ("Longest sample, tokens", ledger.longest),
    )
    facts = [Fact(name=name, value=count_text(value)) for name, value in counts]
    shown = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    return DataFacts(
        facts=(Fact(name="From", value=shown), *facts),
        fates=tuple(Fact(name=fate, value=count_text(n)) for fate, n in ledger.fates),
        num_changed=ledger.num_changed,
        changed=ledger.shown,
    )


def setting_facts(run: RunRecords) -> tuple[Fact, ...]:
    """The settings that decide what a run does; the whole configuration stands below them."""
    facts = []
    for section, key, name in _SETTINGS:
        value = (run.config.get(section) or {}).get(key)
        if value is not None:
            text = number_text(value) if isinstance(value, float) else str(value)
            facts.append(Fact(name=name, value=text))
            if key == "learning_rate":
                facts += _tower_rates(run.config.get("tuning") or {})
    stages = (run.plan or {}).get("stages") or []
    if len(stages) > 1:
        names = ", ".join(str(stage["name"]) for stage in stages)
        facts.append(Fact(name="Stages", value=f"{len(stages)}: {names}"))
    lora = (run.plan or {}).get("lora")
    if lora:
        text = f"rank {lora['rank']}, alpha {lora['alpha']}, dropout {lora['dropout']}"
        facts.append(Fact(name="LoRA", value=text))
        facts.append(Fact(name="LoRA modules", value=count_text(len(lora["target_modules"]))))
    return tuple(facts)


def _tower_rates(tuning: Mapping[str, Any]) -> list[Fact]:
    """Towers with a learning rate of their own."""
    return [
        Fact(name=f"Learning rate, {tower}", value=number_text(float(rate)))
        for tower in TOWERS
        if isinstance(own := tuning.get(tower), Mapping)
        and (rate := own.get("learning_rate")) is not None
    ]


def version_facts(run: RunRecords) -> tuple[Fact, ...]:
    """Versions of what trained."""
    versions: Mapping[str, str] = run.state.get("versions") or {}
    return tuple(Fact(name=name, value=str(value)) for name, value in versions.items())


def figure_facts(figures: Mapping[str, Any]) -> tuple[Fact, ...]:
    """The figures of a check, by name.

    Args:
        figures: ``figures`` of a check in ``certificate.json``.

    >>> [(fact.name, fact.value) for fact in figure_facts({"num_equal": 4, "per_part": {"a": 0.5}})]
    [('num equal', '4'), ('per part, a', '0.5')]
    """
    facts: list[Fact] = []
    for key, value in figures.items():
        name = key.replace("_", " ")
        if isinstance(value, Mapping):
            facts += [
                Fact(name=f"{name}, {part}", value=_figure(one)) for part, one in value.items()
            ]
        else:
            facts.append(Fact(name=name, value=_figure(value)))
    return tuple(facts)


def _figure(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return count_text(value)
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, list):
        return ", ".join(map(_figure, value)) or "none"
    return str(value)
