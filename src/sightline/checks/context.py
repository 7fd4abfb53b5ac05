"""What the checks after training look at: the artefact of a run, loaded afresh from disk.

The artefact is the merged model, through plain transformers; or, where none was written, the
adapter on its base, through plain PEFT.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel

from sightline.checks.plain import plain_inputs
from sightline.config import RunConfig
from sightline.evaluation import Probe, ProbeSample
from sightline.model import Checkpoint, fingerprints, saved_tensors
from sightline.positions import BatchPositions, place_batch
from sightline.records import RunDirectory

Inputs = dict[str, torch.Tensor]

_BF16_SHARE_OF_SPREAD = 0.25
_MAX_KEPT_BYTES = 1 << 30
_GRIDS = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")


@dataclass(kw_only=True, slots=True)
class VerifyContext:
    """A run under verification.

    Attributes:
        run: The run directory.
        config: Its configuration.
        probe: What the training process recorded.
        checkpoint: The artefact's configuration and processor.
        model: The merged model, loaded by plain transformers, its class untouched; or PEFT's, the
            base with the adapter on it.
        base_tensors: Fingerprint of every weight of the base as it was loaded, or of the merged
            model. Taken before the first pass: bitsandbytes moves scales of 8-bit weights then.
        misread: Paths of pictures that transformers' ``load_image`` reads otherwise than training
            did. They are compared as training saw them.
        misplaced: Probe samples whose positions plain transformers computes differently. They
            are compared with explicit positions, as Sightline's loader gives them.
    """

    run: RunDirectory
    config: RunConfig
    probe: Probe
    checkpoint: Checkpoint
    model: Any
    base_tensors: dict[str, str] = field(default_factory=dict, repr=False)
    misread: frozenset[str] = frozenset()
    misplaced: set[int] = field(default_factory=set)
    _kept: dict[str, Inputs] = field(default_factory=dict, repr=False)
    _kept_bytes: int = 0

    @property
    def is_merged(self) -> bool:
        """Whether the artefact is the merged model, not the adapter on its base."""
        return self.probe.artefact == "merged"

    @property
    def plain_model(self) -> Any:
        """The model of transformers, without what PEFT put around it."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def quantization(self) -> str:
        """How weights of the base are held: none, nf4, fp4 or int8."""
        return self.probe.quantized.kind if self.probe.quantized is not None else "none"

    @property
    def is_exact(self) -> bool:
        """Whether all arithmetic is float32, so that logits can be compared one by one.

        4-bit weights are rounded, but the same in both processes, and computed with in float32.
        In 8 bits the activations are rounded too, but for columns in which any token of the batch
        is large.
        """
        return self.probe.dtype == "float32" and self.quantization != "int8"

    @property
    def logits_tolerance(self) -> float:
        """Largest difference of two logits that counts as equal, or as a tie."""
        if self.is_exact:
            return self.config.verify.logits_tolerance
        # bf16 keeps 8 bits in every layer. Measured on models with logits of std 1.2: merging
        # moves them by 0.12 to 0.19, as much as bf16 noise without a merge.
        spread = float(torch.cat([sample.logits for sample in self.probe.samples]).std())
        return max(_BF16_SHARE_OF_SPREAD * spread, self.config.verify.logits_tolerance)

    def artefact_fingerprints(self) -> dict[str, str]:
        """Fingerprint of every weight that was exported, as it is on disk."""
        if self.is_merged:
            return self.base_tensors
        return fingerprints(saved_tensors(self.run.adapter).items())

    def mixed_precision(self) -> torch.autocast:
        """Autocast as in training: fp32 weights that trained beside a bf16 base."""
        return torch.autocast(
            self.model.device.type, torch.bfloat16, enabled=self.probe.dtype == "bfloat16"
        )

    def training_inputs(self, sample: ProbeSample) -> Inputs:
        """The whole conversation through the saved processor, with its labels' turns."""
        return self.on_device(self.trimmed(sample))

    def trimmed(self, sample: ProbeSample) -> Inputs:
        """As `training_inputs`, on the CPU. The template ends turns with a line break."""
        return self.plain_inputs([sample.messages], generation_prompt=False)

    def plain_inputs(
        self, conversations: list[list[dict[str, Any]]], *, generation_prompt: bool
    ) -> Inputs:
        """Inputs of conversations through the saved processor, on the CPU, padded on the left."""
        return self.kept(
            repr((conversations, generation_prompt, sorted(self.misread))),
            lambda: plain_inputs(
                self.checkpoint.processor,
                conversations,
                generation_prompt=generation_prompt,
                misread=self.misread,
            ),
        )

    def kept(self, key: str, make: Callable[[], Inputs]) -> Inputs:
        """What was made for an earlier check, while it fits, or what is made now.

        A video is decoded once then, not seven times, and an annotation written once.

        Args:
            key: What it is, in a text that nothing else has.
            make: Makes it, on the CPU.
        """
        if key in self._kept:
            return dict(self._kept[key])
        made = make()
        num_bytes = sum(tensor.nbytes for tensor in made.values())
        if self._kept_bytes + num_bytes <= _MAX_KEPT_BYTES:
            self._kept[key] = made
            self._kept_bytes += num_bytes
        return dict(made)

    def engine_positions(self, inputs: Inputs) -> BatchPositions:
        """Positions of a batch by Sightline's engine."""
        return place_batch(
            inputs["input_ids"],
            self.checkpoint.position_rule,
            attention_mask=inputs.get("attention_mask"),
            **{key: inputs.get(key) for key in _GRIDS},
        )

    def placed(self, inputs: Inputs, samples: list[ProbeSample]) -> Inputs:
        """Inputs for a call, with explicit positions only where plain transformers is wrong."""
        if not any(sample.index in self.misplaced for sample in samples):
            return inputs
        return inputs | {"position_ids": self.engine_positions(inputs).model_position_ids}

    def on_device(self, inputs: Inputs) -> Inputs:
        """Inputs on the model's device."""
        return {key: value.to(self.model.device) for key, value in inputs.items()}


def flat_positions(inputs: Inputs) -> Inputs:
    """The same inputs with text positions on all three axes."""
    mask = inputs["attention_mask"]
    flat = (mask.cumsum(-1) - 1).clamp(min=0)
    return inputs | {"position_ids": flat.expand(4, *flat.shape).contiguous()}
