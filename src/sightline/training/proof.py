"""The proof that what trains is what the plan says: gradients of one real batch.

Every tensor that should train has a gradient that is finite and not zero, and no other has one.
One zero is right: a factor of LoRA gets none while its partner is still zero, as it is in the
first step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from sightline.data import EncodedSample
from sightline.data.samples import PlannedSamples
from sightline.families import MappedFamily
from sightline.training.loss import model_loss
from sightline.training.parallel import norms, whole
from sightline.tuning import (
    NamedParameter,
    Place,
    TuningPlan,
    enter_stage,
    named_parameters,
    owner_of,
    place_of,
)

Status = Literal["reached", "waiting", "missing", "zero", "not_finite"]
_FAULTS: Mapping[Status, str] = {
    "missing": "no gradient",
    "zero": "a gradient of zeros",
    "not_finite": "a gradient that is not finite",
}
_LOOKED_AT = 64


@dataclass(kw_only=True, slots=True)
class ProofRow:
    """Tensors of one kind in one block.

    Attributes:
        tower: The tower.
        block: The block inside it.
        kind: Kind of the layers.
        how: lora or full.
        num_tensors: Tensors that should train.
        num_reached: Those with a finite gradient that is not zero.
        num_waiting: LoRA factors whose partner is still zero: their gradient is, and has to be.
        gradient_norm: L2 norm of their gradients.
    """

    tower: str
    block: str
    kind: str
    how: str
    num_tensors: int = 0
    num_reached: int = 0
    num_waiting: int = 0
    gradient_norm: float = 0.0


@dataclass(frozen=True, slots=True)
class ProofFault:
    """A tensor that is not as the plan says."""

    name: str
    tower: str
    what: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientProof:
    """What one real batch gave.

    Attributes:
        samples: Where its samples stand: file and line.
        num_images: Images in it.
        num_videos: Videos in it.
        num_supervised_tokens: Tokens with a loss.
        loss: Mean loss per supervised token.
        checkpointing: off, non-reentrant or reentrant.
        rows: What should train, by tower, block and kind.
        num_frozen: Tensors that should not train.
        faults: Tensors that are not as the plan says; empty where it is proven.
        cause: Why, in words; empty where it is proven.
    """

    samples: list[str]
    num_images: int
    num_videos: int
    num_supervised_tokens: int
    loss: float
    checkpointing: str
    rows: list[ProofRow]
    num_frozen: int
    faults: list[ProofFault] = field(default_factory=list)
    cause: str = ""

    @property
    def holds(self) -> bool:
        """Whether everything is as the plan says."""
        return not self.faults

    def record(self) -> dict[str, Any]:
        """The proof as it stands in ``proof.json``."""
        return asdict(self)

    def message(self) -> str:
        """What disagrees, and why, for the user."""
        first = self.faults[0]
        counts: dict[str, int] = {}
        for fault in self.faults:
            counts[f"{fault.what} in {fault.tower}"] = (
                counts.get(f"{fault.what} in {fault.tower}", 0) + 1
            )
        seen = "; ".join(f"{count} with {what}" for what, count in counts.items())
        num = sum(row.num_tensors for row in self.rows)
        return (
            f"what trains is not what the plan says. Of {num} tensors that should train and "
            f"{self.num_frozen} that should not, one real batch found {seen}.\n"
            f"The first is {first.name}. {self.cause}"
        )


def proof_samples(samples: PlannedSamples) -> list[EncodedSample]:
    """Samples that reach as much of the model as one batch can.

    Args:
        samples: The run's conversations.

    Returns:
        The first with an image and the first with a video, of the first 64 with media; the first
        of all where none has any.
    """
    chosen: dict[str, int] = {}
    for index in samples.column("num_vision_tokens").nonzero()[0][:_LOOKED_AT]:
        sample = samples[int(index)]
        for kind, found in (("image", sample.images), ("video", sample.videos)):
            if found:
                chosen.setdefault(kind, int(index))
        if len(chosen) == 2:
            break
    return [samples[index] for index in sorted(set(chosen.values())) or [0]]


def prove_gradients(
    model: nn.Module,
    plan: TuningPlan,
    family: MappedFamily,
    samples: Sequence[EncodedSample],
    batches: Iterable[Mapping[str, torch.Tensor]],
    precision: AbstractContextManager[Any],
) -> GradientProof:
    """Send real samples forward and back, and compare every gradient with the plan.

    Everything that trains in any stage is let train for it. Weights, gradients and the state of
    random numbers are afterwards as before; what requires a gradient is left to `enter_stage`.

    Args:
        model: The planned model on its device, in the mode in which it trains.
        plan: Its plan.
        family: Its family.
        samples: The samples, for the record.
        batches: The same as batches of the collator, on the device.
        precision: Autocast, as in training.
    """
    enter_stage(model, plan, None)
    model.zero_grad(set_to_none=True)
    loss_sum, num_tokens = 0.0, 0
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.is_cuda})
    with torch.random.fork_rng(devices=devices):
        for batch in batches:
            with precision:
                loss, own = model_loss(model, dict(batch), num_tokens=1)
            num_tokens += own
            loss_sum += float(loss.detach())
            if loss.requires_grad:
                loss.backward()
    proof = _compare(model, plan, family, samples, loss_sum, num_tokens)
    model.zero_grad(set_to_none=True)
    return proof


def _compare(
    model: nn.Module,
    plan: TuningPlan,
    family: MappedFamily,
    samples: Sequence[EncodedSample],
    loss_sum: float,
    num_tokens: int,
) -> GradientProof:
    planned, named = plan.by_name(), named_parameters(model)
    partners = _partners(named)
    rows: dict[Place, ProofRow] = {}
    squares: dict[Place, float] = {}
    faults: list[ProofFault] = []
    num_frozen = 0
    for item in named:
        module = planned[owner_of(item)]
        place = place_of(item.name, family.modules)
        gradient = item.parameter.grad
        if not (item.is_adapter or (module.mode == "full" and not item.is_copy)):
            num_frozen += 1
            if gradient is not None:
                faults.append(ProofFault(item.name, place.tower, "a gradient though it is frozen"))
            continue
        row = rows.setdefault(
            place,
            ProofRow(tower=place.tower, block=place.block, kind=place.kind, how=module.mode),
        )
        row.num_tensors += 1
        status = _status(item, partners)
        row.num_reached += status == "reached"
        row.num_waiting += status == "waiting"
        if status in _FAULTS:
            faults.append(ProofFault(_shown(item), place.tower, _FAULTS[status]))
        elif gradient is not None:
            squares[place] = squares.get(place, 0.0) + float(norms([[gradient]])) ** 2
    for place, row in rows.items():
        # The loss was a sum; its gradient is shown as that of the mean, as in training.
        row.gradient_norm = math.sqrt(squares.get(place, 0.0)) / max(num_tokens, 1)
    facts = {
        "num_images": sum(len(sample.images) for sample in samples),
        "num_videos": sum(len(sample.videos) for sample in samples),
        "num_supervised_tokens": num_tokens,
        "checkpointing": checkpointing_kind(model),
    }
    return GradientProof(
        samples=[str(sample.conversation.origin) for sample in samples],
        loss=loss_sum / max(num_tokens, 1),
        rows=list(rows.values()),
        num_frozen=num_frozen,
        faults=faults,
        cause=_cause(faults, loss_sum, facts) if faults else "",
        **facts,
    )


def _status(item: NamedParameter, partners: Mapping[int, nn.Parameter]) -> Status:
    if item.parameter.grad is None:
        return "missing"
    gradient = whole(item.parameter.grad)
    if not bool(torch.isfinite(gradient).all()):
        return "not_finite"
    if bool(gradient.any()):
        return "reached"
    partner = partners.get(id(item.parameter))
    return "waiting" if partner is not None and not bool(whole(partner).any()) else "zero"


def _partners(named: Sequence[NamedParameter]) -> dict[int, nn.Parameter]:
    """The other factor of each LoRA factor: the gradient of one is a multiple of the other."""
    factors: dict[str, list[nn.Parameter]] = {}
    for item in named:
        if item.factor in ("A", "B"):
            factors.setdefault(owner_of(item), []).append(item.parameter)
    found: dict[int, nn.Parameter] = {}
    for pair in factors.values():
        if len(pair) == 2:
            found |= {id(pair[0]): pair[1], id(pair[1]): pair[0]}
    return found


def _shown(item: NamedParameter) -> str:
    return f"{item.name} (LoRA)" if item.is_adapter else item.name


def checkpointing_kind(model: nn.Module) -> str:
    """How activations are computed again: off, non-reentrant or reentrant."""
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            keywords = getattr(
                getattr(module, "_gradient_checkpointing_func", None), "keywords", {}
            )
            return "reentrant" if keywords.get("use_reentrant", True) else "non-reentrant"
    return "off"


def _cause(faults: Sequence[ProofFault], loss_sum: float, facts: Mapping[str, Any]) -> str:
    """The likeliest reason, from what was seen."""
    kinds = {fault.what for fault in faults}
    towers = {fault.tower for fault in faults}
    if "a gradient though it is frozen" in kinds:
        return "Something made it require a gradient after the plan was put on the model."
    if not math.isfinite(loss_sum) or _FAULTS["not_finite"] in kinds:
        return (
            "Values overflow on the way: the loss of this batch is "
            f"{loss_sum / max(facts['num_supervised_tokens'], 1):g}. Set training.precision: fp32, "
            "and see that the checkpoint itself has finite weights."
        )
    if facts["num_supervised_tokens"] == 0:
        return "No token of this batch has a loss: its answers are empty or cut away."
    if towers <= {"vision", "projector"}:
        if facts["num_images"] + facts["num_videos"] == 0:
            return (
                "No sample that was looked at has a picture or a video, so nothing passes through "
                "these towers. Set them to freeze, or add data with media."
            )
        if facts["checkpointing"] == "reentrant":
            return (
                "Gradient checkpointing is the reentrant kind, which loses the gradients of a "
                "vision tower whose patch embedding is frozen. Use use_reentrant=False."
            )
    return (
        "Between it and the loss the forward pass does not use it, or cuts its gradient (detach, "
        "no_grad). Set it to freeze, or mend the model's code."
    )
