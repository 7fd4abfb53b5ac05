"""The probe: what the training process saw, kept for a fresh process to compare with.

``probe.json`` holds the samples as conversations and the settings, ``probe.safetensors`` the
token ids, labels, positions and logits. Neither can run code when it is loaded.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sightline.errors import VerifyError
from sightline.evaluation.generate import Answer
from sightline.evaluation.pixels import SeenPixels
from sightline.geometry import PixelRecipes
from sightline.model import QuantizedWeights
from sightline.records import RunDirectory, full_disk_explained, read_json, write_json

_TENSORS = ("input_ids", "labels", "position_ids", "columns", "logits")
_FIELDS = ("index", "file", "line", "messages", "max_new_tokens", "answer_ids", "answer_gaps")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeSample:
    """One training sample as the training process saw it.

    Attributes:
        index: Position in the training data, 0-based.
        file: Data file, as in the configuration.
        line: Line of the sample; None in tables.
        messages: The conversation in the chat template's form, media by path.
        max_new_tokens: Bound on an answer to this sample.
        pixels: Grids of its media, and a digest of what the model saw of them.
        answer_ids: Greedy answer of the trained model, before merging.
        answer_gaps: Distance of the two highest logits at each of its steps.
        input_ids: (seq,) int64.
        labels: (seq,) int64.
        position_ids: (3, seq) int64.
        columns: (num_columns,) int64. Columns whose logits are kept.
        logits: (num_columns, vocabulary) float32, of the trained model, teacher-forced.
    """

    index: int
    file: str
    line: int | None
    messages: list[dict[str, Any]]
    max_new_tokens: int
    pixels: SeenPixels
    answer_ids: list[int]
    answer_gaps: list[float]
    input_ids: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    columns: torch.Tensor
    logits: torch.Tensor

    @property
    def trained_answer(self) -> Answer:
        """Greedy answer of the trained model, before merging."""
        return Answer(self.answer_ids, self.answer_gaps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """Everything that verification compares with.

    Attributes:
        samples: Probe samples.
        base: Folder or hub id of the base checkpoint.
        dtype: Dtype of the exported weights; of an adapter, the one of its base.
        uses_adapter: Whether an adapter was exported.
        artefact: What is to be proven: the merged model, or the adapter on its base.
        quantized: Which weights of the base were quantised in training; None where none was.
        preparation: Everything that decided how media were prepared, by name.
        recipes: What was done to pixels; None where no recipe tells it.
        exported_fingerprints: Fingerprint of every weight of the artefact, in memory.
        frozen_fingerprints: Fingerprint of every weight that must not move, before training.
        moved: Those that were otherwise when training ended, where only an adapter is exported.
        num_watched: Trainable tensors whose gradients were watched.
        without_gradient: Trainable tensors that no step reached.
    """

    samples: list[ProbeSample]
    base: str
    dtype: str
    uses_adapter: bool
    artefact: Literal["merged", "adapter"] = "merged"
    quantized: QuantizedWeights | None = None
    preparation: dict[str, Any] = field(default_factory=dict)
    recipes: PixelRecipes | None = None
    exported_fingerprints: dict[str, str] = field(default_factory=dict)
    frozen_fingerprints: dict[str, str] = field(default_factory=dict)
    moved: list[str] = field(default_factory=list)
    num_watched: int = 0
    without_gradient: list[str] = field(default_factory=list)


def save_probe(run: RunDirectory, probe: Probe) -> None:
    """Write both files of the probe."""
    tensors = {
        f"{position}.{name}": getattr(sample, name).contiguous()
        for position, sample in enumerate(probe.samples)
        for name in _TENSORS
    }
    beside = run.probe_tensors.with_suffix(".partial")
    with full_disk_explained(run.probe_tensors):
        save_file(tensors, str(beside))
        beside.replace(run.probe_tensors)
    write_json(
        run.probe,
        {
            "schema": 1,
            "base": probe.base,
            "dtype": probe.dtype,
            "uses_adapter": probe.uses_adapter,
            "artefact": probe.artefact,
            "quantized": asdict(probe.quantized) if probe.quantized is not None else None,
            "preparation": probe.preparation,
            "recipes": asdict(probe.recipes) if probe.recipes is not None else None,
            "num_watched": probe.num_watched,
            "without_gradient": probe.without_gradient,
            "exported_fingerprints": probe.exported_fingerprints,
            "frozen_fingerprints": probe.frozen_fingerprints,
            "moved": probe.moved,
            "samples": [
                {name: getattr(sample, name) for name in _FIELDS}
                | {"pixels": asdict(sample.pixels)}
                for sample in probe.samples
            ],
        },
    )


def load_probe(run: RunDirectory) -> Probe:
    """Read both files of the probe.

    Raises:
        VerifyError: One is missing or broken, or they do not belong together.
    """
    record = read_json(run.probe)
    try:
        settings = {key: record[key] for key in record if key not in ("schema", "samples")}
        tensors = load_file(str(run.probe_tensors))
        samples = [
            ProbeSample(
                **sample
                | {name: tensors[f"{position}.{name}"] for name in _TENSORS}
                | {"pixels": SeenPixels(**sample["pixels"])}
            )
            for position, sample in enumerate(record["samples"])
        ]
        for sample in samples:
            _find_media(sample.messages, run)
        recipes, quantized = settings.pop("recipes"), settings.pop("quantized")
        return Probe(
            samples=samples,
            quantized=QuantizedWeights.from_record(quantized) if quantized is not None else None,
            recipes=PixelRecipes.from_record(recipes) if recipes is not None else None,
            **settings,
        )
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise VerifyError(
            f"{run.probe_tensors}: the probe of this run is broken: {error}\n"
            "Train the run again; verification has nothing to compare with."
        ) from error


def _find_media(messages: list[dict[str, Any]], run: RunDirectory) -> None:
    """Make paths of media absolute: those kept in the run directory are relative to it."""
    for turn in messages:
        for part in turn["content"]:
            kind = part["type"]
            if kind not in ("image", "video"):
                continue
            root, given = run.path.absolute(), part[kind]
            is_list = isinstance(given, list)
            part[kind] = [str(root / path) for path in given] if is_list else str(root / given)
