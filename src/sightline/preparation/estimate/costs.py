"""Memory of a planned model in training: weights, optimizer, and the peak of a pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import nn

from sightline.config import RunConfig
from sightline.families import MappedFamily
from sightline.model import (
    Checkpoint,
    attend_by_segments,
    return_losses,
    skeleton,
    take_raw_pixels,
)
from sightline.preparation.estimate.batches import Batches, Load
from sightline.preparation.estimate.devices import Device
from sightline.preparation.estimate.settings import Settings
from sightline.preparation.estimate.simulate import Loss, Pass, simulate
from sightline.preparation.estimate.timeline import Part
from sightline.tuning import (
    TuningPlan,
    apply_plan,
    enter_stage,
    named_parameters,
    owner_of,
    resolve_plan,
)

# AdamW: two moments of every trained value, float32.
_OPTIMIZER_BYTES = 8
# bitsandbytes: 4 bits with a scale of 8 bits for 64 values; 8 bits with a scale a row.
_QUANTISED_BITS = {"nf4": 4.127, "fp4": 4.127, "int8": 8.01}


@dataclass(frozen=True, kw_only=True, slots=True)
class Static:
    """Memory that does not change within a step, bytes.

    Attributes:
        weights: Parameters and buffers.
        optimizer: Moments of what trains.
        gradients: Gradients of what trains.
        num_trained: Values that train.
    """

    weights: int
    optimizer: int
    gradients: int
    num_trained: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Peak memory of a step.

    Attributes:
        settings: At these settings.
        stage: Number of the stage, 0-based.
        batch: The samples of the micro-batch.
        parts: Bytes by part at the peak.
        kept: Bytes that a forward pass leaves to the backward pass, by part.
        flops: Operations of the pass.
    """

    settings: Settings
    stage: int
    batch: tuple[int, ...]
    parts: Mapping[str, int]
    kept: Mapping[Part, int]
    flops: int

    @property
    def peak_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())


class Costs:
    """Simulates steps of a run.

    Args:
        config: The run's configuration.
        checkpoint: The opened checkpoint.
        planned: The plan, and the model as the run will have it: `planned_skeleton`.
        batches: The run's micro-batches, without pixels.
        loss: Loss of a micro-batch as training computes it.
        device: What the run is for.
    """

    def __init__(
        self,
        config: RunConfig,
        checkpoint: Checkpoint,
        planned: tuple[TuningPlan, nn.Module],
        batches: Batches,
        loss: Loss,
        device: Device,
    ) -> None:
        self.dtype = precision_of(config.training.precision, device)
        self.batches = batches
        self.plan, self.model = planned
        self._family: MappedFamily = checkpoint.family
        self._loss = loss
        self._device = device
        self._static: dict[int, Static] = {}
        self._collated: dict[tuple[int, ...], dict[str, torch.Tensor]] = {}
        self._ran: dict[tuple[int, tuple[int, ...], bool, bool], Pass] = {}

    def worst(self, settings: Settings, *, stage: int | None = None) -> Cost:
        """The peak over the micro-batches that cost most, in a stage or in all."""
        stages = range(len(self.plan.stages)) if stage is None else [stage]
        costs = [
            self.of(settings, number, load)
            for number in stages
            for load in self.batches.costliest(settings)
        ]
        return max(costs, key=lambda cost: cost.peak_bytes)

    def of(self, settings: Settings, stage: int, load: Load) -> Cost:
        """The peak in a stage with a micro-batch."""
        static = self.static(stage)
        ran = self.run(
            stage, load.samples, checkpointing=settings.checkpointing, accumulates=load.follows
        )
        peak: dict[str, int] = dict(ran.peak.items())
        if load.follows:
            peak["gradients"] += static.gradients
        if sum(peak.values()) < static.gradients:
            # The step of the optimizer, when everything else is gone.
            peak = {**dict.fromkeys(peak, 0), "gradients": static.gradients}
        return Cost(
            settings=settings,
            stage=stage,
            batch=load.samples,
            parts={"weights": static.weights, "optimizer": static.optimizer, **peak},
            kept=ran.kept,
            flops=ran.flops,
        )

    def run(
        self, stage: int, samples: tuple[int, ...], *, checkpointing: bool, accumulates: bool
    ) -> Pass:
        """A pass in a stage; the same is simulated once, whatever settings lead to it."""
        key = stage, samples, checkpointing, accumulates
        if key not in self._ran:
            enter_stage(self.model, self.plan, stage)
            if samples not in self._collated:
                self._collated[samples] = self.batches.collate(samples)
            self._ran[key] = simulate(
                self.model,
                self._family,
                self._collated[samples],
                self._loss,
                self._device,
                checkpointing=checkpointing,
                autocast=self.dtype == torch.bfloat16,
                accumulates=accumulates,
            )
        return self._ran[key]

    def static(self, stage: int) -> Static:
        """Memory that does not change within a step of a stage."""
        if stage not in self._static:
            self._static[stage] = static_of(self.model, self.plan, stage)
        return self._static[stage]


def precision_of(precision: str, device: Device) -> torch.dtype:
    """Dtype of a run on a device, as training chooses it there."""
    if precision == "fp32":
        return torch.float32
    if precision == "bf16" or (device.is_gpu and device.has_bf16):
        return torch.bfloat16
    return torch.float32


def planned_skeleton(
    config: RunConfig, checkpoint: Checkpoint, dtype: torch.dtype
) -> tuple[TuningPlan, nn.Module]:
    """The plan, and the model as the run will have it, on the meta device.

    Raises:
        PlanError: The plan cannot be.
    """
    # Attention is chosen in the configuration, which others have, too.
    own = replace(checkpoint, config=deepcopy(checkpoint.config))
    model = skeleton(own, dtype=dtype)
    attend_by_segments(model, checkpoint.family)
    if takes_raw(config, checkpoint):
        assert checkpoint.recipes is not None
        take_raw_pixels(model, checkpoint.family, checkpoint.recipes)
    plan = resolve_plan(model, checkpoint.family, config.tuning, config.training)
    returning = return_losses(model, kind=config.training.head_loss)
    # PEFT makes its factors on the device at hand.
    with torch.device("meta"):
        return plan, apply_plan(returning, plan)


def takes_raw(config: RunConfig, checkpoint: Checkpoint) -> bool:
    """Whether pixels travel as grey levels."""
    return config.data.preparation == "lean" and checkpoint.recipes is not None


def static_of(model: nn.Module, plan: TuningPlan, stage: int = 0) -> Static:
    """Memory of a planned model that does not change within a step of a stage.

    Args:
        model: The planned model; it is left in the stage.
        plan: Its plan.
        stage: Number of the stage, 0-based.
    """
    trained: list[nn.Parameter] = []
    stepped: dict[int, int] = {}
    for number in range(stage + 1):
        enter_stage(model, plan, number)
        trained = [one for one in model.parameters() if one.requires_grad]
        # What trained in an earlier stage keeps its moments.
        stepped |= {id(one): one.numel() for one in trained}
    weights = _bytes_of([*model.parameters(), *model.buffers()])
    return Static(
        weights=weights - _saved_by_quantisation(model, plan),
        optimizer=_OPTIMIZER_BYTES * sum(stepped.values()),
        gradients=_bytes_of(trained),
        num_trained=sum(one.numel() for one in trained),
    )


def _bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of all; memory that several share counts once."""
    storages = {one.untyped_storage()._cdata: one.untyped_storage().nbytes() for one in tensors}
    return sum(storages.values())


def _saved_by_quantisation(model: nn.Module, plan: TuningPlan) -> int:
    """Bytes by which matrices of the language model are smaller in 4 or 8 bits.

    Those that train in full are not quantised; see `sightline.tuning.quantized_modules`.
    """
    bits = _QUANTISED_BITS.get(plan.quantization)
    if bits is None:
        return 0
    quantised = {
        module.name
        for module in plan.modules
        if module.place.tower == "language" and module.mode != "full"
    }
    return sum(
        round(item.parameter.numel() * (item.parameter.element_size() - bits / 8))
        for item in named_parameters(model)
        if not item.is_adapter and item.parameter.ndim == 2 and owner_of(item) in quantised
    )
