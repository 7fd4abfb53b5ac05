"""What a run leaves behind: the probe, the adapter, and the merged model where it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import nn

from sightline.config import RunConfig
from sightline.data import Collator
from sightline.data.samples import PlannedSamples
from sightline.evaluation import Probe, ProbeSample, save_probe
from sightline.model import (
    Checkpoint,
    QuantizedWeights,
    adapter_tensors,
    base_weights,
    differing,
    fingerprints,
    merge,
    preparation_record,
    save_adapter,
    save_merged,
    take_processed_pixels,
)
from sightline.preparation import make_encoder
from sightline.records import RunDirectory
from sightline.records.atomic import remove
from sightline.training.probing import choose_probes, record_probes
from sightline.tuning import TuningPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """What is exported, and where to.

    Attributes:
        run: The run directory.
        config: Its configuration.
        checkpoint: The base with the run's settings.
        plan: What trained.
        dtype: Dtype in which the base was loaded.
        quantized: Which weights of the base are quantised; None where none is.
        frozen: Fingerprint of every weight that must not move, before training.
    """

    run: RunDirectory
    config: RunConfig
    checkpoint: Checkpoint
    plan: TuningPlan
    dtype: torch.dtype
    quantized: QuantizedWeights | None
    frozen: dict[str, str]

    def probe(
        self, model: Any, samples: PlannedSamples, collators: tuple[Collator, Collator]
    ) -> list[ProbeSample]:
        """Record what the trained model computes, before anything is merged or saved.

        Args:
            model: The trained model.
            samples: All training samples.
            collators: The one of training, and one with padding on the left.
        """
        verify = self.config.verify
        # As it trained: weights that train are fp32 beside a bf16 base, joined by autocast.
        with torch.autocast(
            model.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16
        ):
            return record_probes(
                model,
                samples,
                choose_probes(samples, verify.samples),
                self.run.probe_media,
                encoder=make_encoder(self.checkpoint),
                train_collator=collators[0],
                prompt_collator=collators[1],
                checkpoint=self.checkpoint,
                max_new_tokens=verify.max_new_tokens,
            )

    def write(
        self,
        model: Any,
        samples: list[ProbeSample],
        *,
        num_watched: int,
        without_gradient: Sequence[str],
    ) -> None:
        """Write adapter, merged model and probe; what is not asked for is not written.

        Args:
            model: The trained model. Merging uses it up.
            samples: What `probe` recorded.
            num_watched: Trainable tensors whose gradients were watched.
            without_gradient: Those that no step reached.
        """
        take_processed_pixels(model)
        if not self.config.export.merged and self.run.merged.exists():
            # Of a run that was finished before it was resumed otherwise.
            remove(self.run.merged)
        # Before merging: it folds what moved into what did not.
        moved = [] if self.config.export.merged else self._moved(model)
        if isinstance(model, PeftModel):
            save_adapter(model, self.checkpoint, self.run.adapter, quantized=self.quantized)
        if self.config.export.merged:
            merged = merge(model, self.dtype)
            save_merged(merged, self.checkpoint, self.run.merged)
            exported = fingerprints(merged.named_parameters())
        else:
            exported = fingerprints(adapter_tensors(model).items())
        save_probe(
            self.run,
            Probe(
                samples=samples,
                base=self.checkpoint.source,
                dtype=str(self.dtype).removeprefix("torch."),
                uses_adapter=self.plan.uses_lora,
                artefact="merged" if self.config.export.merged else "adapter",
                quantized=self.quantized,
                preparation=preparation_record(self.checkpoint),
                recipes=self.checkpoint.recipes,
                exported_fingerprints=exported,
                frozen_fingerprints=self.frozen,
                moved=moved,
                num_watched=num_watched,
                without_gradient=list(without_gradient),
            ),
        )

    def _moved(self, model: nn.Module) -> list[str]:
        """Weights of the base that must not have moved, and have."""
        now = base_weights(model)
        kept = {name: now[name] for name in self.frozen if name in now}
        return differing(self.frozen, fingerprints(kept.items()))


def frozen_weights(model: nn.Module, plan: TuningPlan, *, merged: bool) -> dict[str, str]:
    """Fingerprints of what must not move, before anything trains.

    Args:
        model: The loaded model, before the plan is put on it.
        plan: The plan.
        merged: Whether LoRA will be merged, which moves the weights that it adapts.
    """
    adapted = set() if merged else set(plan.lora_modules)
    moving = tuple(f"{name}." for name in plan.moving_modules if name not in adapted)
    return fingerprints(
        (name, tensor)
        for name, tensor in base_weights(model).items()
        if not name.startswith(moving)
    )
