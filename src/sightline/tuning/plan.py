"""From the configuration's words to exact module names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from sightline.config import TuningConfig
from sightline.errors import PlanError
from sightline.families import TrainableFamily
from sightline.tuning.towers import TOWERS, Tower, place_of

Mode = Literal["freeze", "lora", "full"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningPlan:
    """What trains, by exact name.

    Attributes:
        modes: How each tower is tuned.
        lora_modules: Linear layers and embeddings that LoRA adapts, full dotted names.
        full_modules: Modules whose own weights train, full dotted names; the smallest set of
            blocks that covers the towers tuned in full.
        rank: LoRA rank.
        alpha: LoRA alpha.
        dropout: LoRA dropout, 0 to 1.
    """

    modes: Mapping[Tower, Mode]
    lora_modules: tuple[str, ...]
    full_modules: tuple[str, ...]
    rank: int
    alpha: int
    dropout: float

    @property
    def uses_lora(self) -> bool:
        """Whether any tower is adapted by LoRA."""
        return bool(self.lora_modules)


def resolve_plan(model: nn.Module, family: TrainableFamily, tuning: TuningConfig) -> TuningPlan:
    """Resolve a tuning configuration against a model.

    Args:
        model: The conditional-generation model; the meta device is enough.
        family: Its family.
        tuning: The configuration's section.

    Raises:
        PlanError: The plan trains nothing, or would damage the model.
    """
    modes: dict[Tower, Mode] = {
        "vision": tuning.vision,
        "projector": tuning.projector,
        "language": tuning.language,
        "embeddings": tuning.embeddings,
        "head": tuning.head,
    }
    if set(modes.values()) == {"freeze"}:
        raise PlanError(
            "the plan trains nothing: every tower is frozen.\n"
            "Set one of tuning.language, tuning.projector or tuning.vision to lora or full."
        )
    if ties_head(model, family):
        _refuse_tied(modes)
    return TuningPlan(
        modes=modes,
        lora_modules=tuple(_lora_modules(model, family, modes)),
        full_modules=tuple(_full_modules(model, family, modes)),
        rank=tuning.lora.rank,
        alpha=tuning.lora.alpha,
        dropout=tuning.lora.dropout,
    )


def ties_head(model: nn.Module, family: TrainableFamily) -> bool:
    """Whether head and token embedding are one weight, read off the model itself."""
    modules = family.modules
    return (
        model.get_submodule(modules.head).weight is model.get_submodule(modules.embeddings).weight
    )


def _refuse_tied(modes: Mapping[Tower, Mode]) -> None:
    for tower in ("head", "embeddings"):
        if modes[tower] == "lora":
            raise PlanError(
                f"tuning.{tower} is lora, but this model ties its head to its token embedding: "
                "one weight has two uses. Merging LoRA into one of them changes the other, and "
                "the merged model is off by whole logits.\n"
                f"Set tuning.{tower}: freeze, or tune both in full: tuning.head: full and "
                "tuning.embeddings: full."
            )
    if {modes["head"], modes["embeddings"]} == {"freeze", "full"}:
        raise PlanError(
            f"tuning.head is {modes['head']} and tuning.embeddings is {modes['embeddings']}, but "
            "this model ties them: one weight cannot be frozen and trained.\nSet both alike."
        )


def _lora_modules(
    model: nn.Module, family: TrainableFamily, modes: Mapping[Tower, Mode]
) -> list[str]:
    """Linear layers of the towers under LoRA, checked against what the model has."""
    modules = family.modules
    known = dict(model.named_modules())
    below: list[tuple[Tower, tuple[str, ...], tuple[str, ...]]] = [
        ("vision", (modules.vision_blocks,), modules.vision_lora),
        ("projector", modules.projectors, modules.projector_lora),
        ("language", (modules.language_blocks,), modules.language_lora),
    ]
    names: list[str] = []
    for tower, roots, leaves in below:
        if modes[tower] != "lora":
            continue
        for root in roots:
            module = known[root]
            owners = (
                [f"{root}.{index}" for index in range(len(module))]
                if isinstance(module, nn.ModuleList)
                else [root]
            )
            names.extend(f"{owner}.{leaf}" for owner in owners for leaf in leaves)
    if modes["embeddings"] == "lora":
        names.append(modules.embeddings)
    if modes["head"] == "lora":
        names.append(modules.head)
    absent = [name for name in names if not isinstance(known.get(name), nn.Linear | nn.Embedding)]
    if absent:
        raise PlanError(
            f"{len(absent)} of {len(names)} LoRA targets are not linear layers of this model: "
            f"{', '.join(absent[:3])}. The family record does not fit this checkpoint."
        )
    return names


def _full_modules(
    model: nn.Module, family: TrainableFamily, modes: Mapping[Tower, Mode]
) -> list[str]:
    """The modules that hold the parameters of towers tuned in full, each parameter once."""
    prefixes = {
        "vision": family.modules.vision,
        "projector": family.modules.vision,
        "language": family.modules.language,
    }
    names: dict[str, None] = {}
    for name, _ in model.named_parameters(remove_duplicate=False):
        place = place_of(name, family.modules)
        if modes[place.tower] != "full":
            continue
        if place.tower in prefixes:
            names[f"{prefixes[place.tower]}.{place.block}"] = None
        else:
            names[family.modules.embeddings if place.tower == "embeddings" else place.block] = None
    return list(names)


def towers_under(plan: TuningPlan, mode: Mode) -> list[Tower]:
    """Towers tuned in a given way, in the order of the data's flow."""
    return [tower for tower in TOWERS if plan.modes[tower] == mode]
