"""The certificate's form: what ``certificate.json`` holds, and its JSON schema."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 2


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CheckRecord(_Part):
    """One check: what holds when it holds, what was seen, and what would still have held."""

    id: str = Field(description="Stable name: room of the fault, then the fault.")
    title: str = Field(description="What holds when the check holds.")
    holds: bool | None = Field(description="null is information that is no verdict.")
    measured: str = Field(description="What was seen, with figures.")
    tolerance: str = Field(description="What would still have held; empty where nothing is judged.")
    figures: dict[str, Any] = Field(description="The same as numbers.")
    detail: str = Field(description="Where it was seen.")
    advice: str = Field(description="What to do; empty when it holds.")
    severity: Literal["error", "info"] = Field(description="info where nothing is judged.")


class ArtefactRecord(_Part):
    """What the certificate is about."""

    folder: Literal["merged", "adapter"] = Field(description="In the run directory.")
    what: str = Field(description="In words.")
    base: str | None = Field(description="What an adapter stands on; null for a merged model.")
    quantization: str = Field(description="How the weights of the base are held.")


class WeightsRecord(_Part):
    """Hash of the artefact's weights."""

    sha256: str = Field(description="Of every tensor's name and fingerprint, sorted by name.")
    num_tensors: int


class MachineRecord(_Part):
    """Where it was verified."""

    system: str
    processor: str
    device: str = Field(description="cpu or cuda.")


class CertificateRecord(_Part):
    """``certificate.json`` of a run directory."""

    schema_: int = Field(alias="schema", description="Version of this form.")
    verdict: Literal["holds", "fails"]
    created: str = Field(description="ISO 8601, UTC.")
    family: str
    dtype: str = Field(description="Of the exported weights; of an adapter, that of its base.")
    artefact: ArtefactRecord
    weights: WeightsRecord = Field(description="As they were loaded from disk.")
    data: str | None = Field(description="Fingerprint of the training data.")
    num_samples: int = Field(description="Probe samples.")
    machine: MachineRecord
    versions: dict[str, str] = Field(description="Of Python and of packages.")
    checks: list[CheckRecord]


def certificate_schema() -> dict[str, Any]:
    """JSON schema of ``certificate.json``, draft 2020-12."""
    return CertificateRecord.model_json_schema(by_alias=True)


def weights_record(fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """One hash for all weights.

    Args:
        fingerprints: Fingerprint of every tensor.
    """
    lines = "".join(f"{name} {value}\n" for name, value in sorted(fingerprints.items()))
    digest = hashlib.sha256(lines.encode("utf-8")).hexdigest()
    return {"sha256": digest, "num_tensors": len(fingerprints)}


def machine_record(device: str) -> dict[str, str]:
    """The machine, as far as it can change a figure.

    Args:
        device: Kind of device that computed.
    """
    return {"system": platform.system(), "processor": platform.machine(), "device": device}
