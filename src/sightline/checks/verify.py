"""Verification of a finished run, from its files alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from sightline.checks import (
    answers,
    course,
    logits,
    memorised,
    merging,
    plan,
    positions,
    preprocessing,
    serving,
    tokens,
    weights,
)
from sightline.checks.against import Earlier, same_answers, same_artefact
from sightline.checks.context import VerifyContext
from sightline.checks.finding import Finding, verdict
from sightline.checks.plain import picture_paths
from sightline.checks.predictions import predictions_record
from sightline.config import load_config
from sightline.data.images import reads_as_plain
from sightline.errors import VerifyError
from sightline.evaluation import Probe, load_probe
from sightline.model import (
    base_weights,
    fingerprints,
    load_adapter,
    load_weights,
    open_checkpoint,
    refuse_unquantizable,
)
from sightline.records import RunDirectory, collect_versions, write_json
from sightline.records.certificate import (
    SCHEMA,
    CertificateRecord,
    machine_record,
    weights_record,
)

OnFinding = Callable[[Finding], None]

_ARTEFACTS = {"merged": "merged model", "adapter": "adapter"}


def verify_run(
    directory: str | Path,
    on_finding: OnFinding = lambda finding: None,
    *,
    control: bool = False,
    earlier: Earlier | None = None,
) -> list[Finding]:
    """Load what was exported afresh and compare it with what trained.

    That is the merged model, or the adapter on its base where nothing was merged.

    Writes ``certificate.json`` and ``predictions.json`` into the run directory.

    Args:
        directory: The run directory.
        on_finding: Told of every finding as it is made.
        control: Also serve the model with 1-D positions, to show that the comparison can fail.
        earlier: An earlier verification, to be compared with.

    Raises:
        RunError: Not a run directory, or it did not finish training.
        VerifyError: The records of the run are broken.
        ModelError: The exported folder cannot be loaded.
    """
    run = RunDirectory.open(directory)
    state = run.read_state()
    exported = [folder for folder in (run.merged, run.adapter) if folder.is_dir()]
    if not exported or not run.probe.is_file():
        raise VerifyError(
            f"{run.path}: this run has no exported model (state: {state.get('state')}).\n"
            f"Finish it with sightline resume {run.path}"
        )
    # A verification that cannot end must not leave the verdict of an earlier one.
    run.certificate.unlink(missing_ok=True)
    run.predictions.unlink(missing_ok=True)
    run.write_state(state="trained")
    context = _load(run)
    # Factors are fp32 beside a bf16 base, joined by autocast as in training.
    with nullcontext() if context.is_merged else context.mixed_precision():
        return _check(context, on_finding, control=control, earlier=earlier)


def _check(
    context: VerifyContext, on_finding: OnFinding, *, control: bool, earlier: Earlier | None
) -> list[Finding]:
    findings: list[Finding] = []

    def add(finding: Finding) -> None:
        findings.append(finding)
        on_finding(finding)

    # First: where another pixel budget was saved, it explains what else differs.
    add(preprocessing.same_settings(context))
    ids = tokens.same_ids(context)
    add(ids)
    add(tokens.labels_on_answers(context))
    if not ids.holds:
        # Every later check compares token by token; without equal tokens they say nothing.
        return _finish(context, findings, None)
    add(tokens.media_size(context))
    add(tokens.media_pixels(context))
    add(preprocessing.same_pixels(context))
    add(positions.same_as_training(context))
    # Before the checks on logits: it notes the samples that need explicit positions.
    add(positions.plain_transformers(context))
    add(positions.conformance(context))
    add(weights.bit_identical(context))
    add(weights.frozen_unmoved(context))
    add(plan.gradients_before(context))
    add(plan.gradients_reached(context))
    add(plan.weights_moved(context))
    add(course.packing(context))
    add(course.loss(context))
    adapted = logits.load_adapted(context)
    add(merging.rounding(context, adapted))
    add(logits.merged_equals_trained(context))
    add(logits.cache_equals_whole(context))
    add(logits.adapter_equals_merged(context, adapted))
    if context.config.verify.answers == "memorised":
        add(memorised.written_by_trained(context))
        add(memorised.known_by_heart(context, adapted))
    del adapted
    given = answers.answer_each(context)
    add(answers.alone(context, given))
    add(answers.batched(context, given))
    add(answers.annotated(context, given))
    add(serving.stops_after_answers(context))
    add(serving.adapter_in_engines(context))
    flat = answers.answer_each(context, one_dimensional=True) if control else None
    told = predictions_record(
        context,
        answers.words(context, given),
        answers.words(context, flat) if flat is not None else None,
    )
    if earlier is not None:
        add(same_artefact(earlier.certificate, certificate_record(context, findings)))
        add(same_answers(earlier.answers, told))
    return _finish(context, findings, told)


def _load(run: RunDirectory) -> VerifyContext:
    probe = load_probe(run)
    folder = run.merged if probe.artefact == "merged" else run.adapter
    if not folder.is_dir():
        raise VerifyError(
            f"{folder}: the {_ARTEFACTS[probe.artefact]} that this run exported is not there.\n"
            "Put the folder back, or train the run again."
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, probe.dtype)
    if probe.artefact == "merged":
        checkpoint = open_checkpoint(str(folder))
        merged: Any = load_weights(str(folder), dtype=dtype)
        model = merged.to(device)
    else:
        checkpoint = open_checkpoint(probe.base, processor_source=str(folder))
        base: Any = _load_base(probe, dtype, device)
        model = load_adapter(base, folder, base=probe.base)
    return VerifyContext(
        run=run,
        config=load_config(run.config),
        probe=probe,
        checkpoint=checkpoint,
        model=model,
        base_tensors=fingerprints(base_weights(model).items()),
        misread=frozenset(path for path in _pictures(probe) if not reads_as_plain(Path(path))),
    )


def _load_base(probe: Probe, dtype: torch.dtype, device: torch.device) -> Any:
    """The base as it trained: quantised on its device, or whole and then moved there."""
    if probe.quantized is None:
        loaded: Any = load_weights(probe.base, dtype=dtype)
        return loaded.to(device)
    refuse_unquantizable(probe.quantized.kind, device)
    return load_weights(probe.base, dtype=dtype, quantized=probe.quantized, device=device)


def _pictures(probe: Probe) -> set[str]:
    return {path for sample in probe.samples for path in picture_paths(sample.messages)}


def _finish(
    context: VerifyContext, findings: list[Finding], told: dict[str, Any] | None
) -> list[Finding]:
    run = context.run
    write_json(run.certificate, certificate_record(context, findings))
    if told is not None:
        write_json(run.predictions, told)
    run.write_state(state="verified" if verdict(findings) == "holds" else "failed")
    return findings


def certificate_record(context: VerifyContext, findings: list[Finding]) -> dict[str, Any]:
    """The content of ``certificate.json``, in the form of `CertificateRecord`."""
    data = context.run.read_state().get("data") or {}
    record = {
        "schema": SCHEMA,
        "verdict": verdict(findings),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "family": context.checkpoint.family.key,
        "dtype": context.probe.dtype,
        "artefact": artefact_record(context.probe),
        "weights": weights_record(context.artefact_fingerprints()),
        "data": data.get("fingerprint"),
        "num_samples": len(context.probe.samples),
        "machine": machine_record(context.model.device.type),
        "versions": collect_versions(),
        "checks": [finding.record() for finding in findings],
    }
    CertificateRecord.model_validate(record)
    return record


def artefact_record(probe: Probe) -> dict[str, Any]:
    """What the certificate is about."""
    stands_alone = probe.artefact == "merged"
    return {
        "folder": probe.artefact,
        "what": _ARTEFACTS[probe.artefact],
        "base": None if stands_alone else probe.base,
        "quantization": "none" if probe.quantized is None else probe.quantized.kind,
    }
