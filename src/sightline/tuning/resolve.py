"""From the configuration's words to exact module names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from sightline.config import PLATEAU, Stage, TowerSettings, TrainingConfig, TuningConfig
from sightline.errors import PlanError
from sightline.families import MappedFamily
from sightline.tuning.plan import PlannedModule, PlannedStage, TuningPlan
from sightline.tuning.selection import is_adapted, is_selected, settings_at
from sightline.tuning.targets import picked_by_names
from sightline.tuning.towers import TOWERS, Place, Tower, place_of


@dataclass(frozen=True, slots=True)
class _Owner:
    """A module that owns parameters, with where it stands."""

    name: str
    module: nn.Module
    place: Place


def resolve_plan(
    model: nn.Module, family: MappedFamily, tuning: TuningConfig, training: TrainingConfig
) -> TuningPlan:
    """Resolve a tuning configuration against a model.

    Args:
        model: The conditional-generation model, before PEFT; the meta device is enough.
        family: Its family.
        tuning: The configuration's section.
        training: The configuration's section, for what tuning leaves to it.

    Raises:
        PlanError: The plan trains nothing, cannot do what it says, or would damage the model.
    """
    owners = _owners(model, family)
    stages: list[Stage | None] = list(tuning.stages) or [None]
    settings = [_settings(owners, tuning, stage, index) for index, stage in enumerate(stages)]
    modes = _modes_over_stages(owners, settings)
    picked, targets = picked_by_names(
        {one.name: (one.module, one.place) for one in owners},
        {name: module for name, module in model.named_modules() if name},
        modes,
        tuning,
        family,
    )
    _refuse_numbers_without_use(owners, tuning, modes, picked)
    planned = tuple(
        _planned(
            one, modes[one.name], settings, stages, tuning, training, is_picked=one.name in picked
        )
        for one in owners
    )
    is_tied = ties_head(model, family)
    if is_tied:
        _refuse_tied(planned)
    _refuse_idle(planned, stages)
    return TuningPlan(
        modules=planned,
        stages=tuple(_stage(stage, index) for index, stage in enumerate(stages)),
        full_modules=tuple(_full_modules(planned)),
        rank=tuning.lora.rank,
        alpha=tuning.lora.alpha,
        dropout=tuning.lora.dropout,
        dora=tuning.lora.dora,
        rslora=tuning.lora.rslora,
        quantization=tuning.quantization,
        targets=targets,
        is_tied=is_tied,
    )


def ties_head(model: nn.Module, family: MappedFamily) -> bool:
    """Whether head and token embedding are one weight, read off the model itself."""
    modules = family.modules
    return (
        model.get_submodule(modules.head).weight is model.get_submodule(modules.embeddings).weight
    )


def _owners(model: nn.Module, family: MappedFamily) -> list[_Owner]:
    return [
        _Owner(name, module, place_of(name, family.modules))
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]


def _num_blocks(owners: list[_Owner], tower: Tower) -> int:
    numbers = [one.place.number for one in owners if one.place.tower == tower]
    return max((number for number in numbers if number is not None), default=-1) + 1


def _settings(
    owners: list[_Owner], tuning: TuningConfig, stage: Stage | None, index: int
) -> dict[str, Mapping[str, Any]]:
    """What the configuration says of every module in one stage."""
    found: dict[str, Mapping[str, Any]] = {}
    for tower in TOWERS:
        own = tuning.in_stage(tower, stage)
        inside = [one for one in owners if one.place.tower == tower]
        count = _num_blocks(owners, tower)
        prefix = f"tuning.{tower}" if stage is None else f"tuning.stages[{index}].{tower}"
        for number, part in enumerate(own.parts):
            meant = [one for one in inside if is_selected(part, one.place, count)]
            where = f"{prefix}.parts[{number}]"
            if not meant:
                raise PlanError(_matches_nothing(where, part, inside, count))
            if part.mode == "lora" and not any(is_adapted(one.module, tower) for one in meant):
                raise PlanError(
                    f"{where}: lora adapts linear layers, and {_words(part)} has none here.\n"
                    "Set its mode to full or freeze."
                )
        for one in inside:
            parts = [(part, is_selected(part, one.place, count)) for part in own.parts]
            found[one.name] = settings_at([(own, True), *parts])
    return found


def _words(part: Any) -> str:
    told = [f"blocks {part.blocks}"] if part.blocks is not None else []
    return ", ".join(told + ([f"kind {part.kind}"] if part.kind is not None else []))


def _matches_nothing(where: str, part: Any, inside: list[_Owner], count: int) -> str:
    kinds = ", ".join(dict.fromkeys(one.place.kind for one in inside))
    blocks = f"blocks 0 to {count - 1}" if count else "no numbered blocks"
    return f"{where}: {_words(part)} matches nothing.\nThis tower has {blocks}, and kinds {kinds}."


def _modes_over_stages(
    owners: list[_Owner], settings: list[dict[str, Mapping[str, Any]]]
) -> dict[str, str]:
    """How each module trains in the stages in which it does."""
    found: dict[str, str] = {}
    for one in owners:
        said = [stage[one.name] for stage in settings]
        trained = list(dict.fromkeys(str(s["mode"]) for s in said if s["mode"] != "freeze"))
        if len(trained) > 1:
            first, second = (
                next(i for i, s in enumerate(said) if s["mode"] == mode) + 1 for mode in trained
            )
            raise PlanError(
                f"{one.name} is {trained[0]} in stage {first} and {trained[1]} in stage {second}: "
                "what LoRA learned would be left behind beside a weight that moves.\n"
                "Let it be one of the two, or freeze, in every stage."
            )
        found[one.name] = trained[0] if trained else "freeze"
        for key in ("rank", "alpha"):
            values = {s.get(key) for s in said if s["mode"] == "lora"}
            if len(values) > 1:
                raise PlanError(
                    f"{one.name}: {key} is {' and '.join(str(v) for v in values)} in different "
                    f"stages. Factors have one {key}: say it once, in tuning itself."
                )
    return found


def _planned(
    one: _Owner,
    mode: str,
    settings: list[dict[str, Mapping[str, Any]]],
    stages: list[Stage | None],
    tuning: TuningConfig,
    training: TrainingConfig,
    *,
    is_picked: bool,
) -> PlannedModule:
    rates: list[float | None] = []
    numbers: dict[str, Any] = {}
    for said, stage in zip(settings, stages, strict=True):
        own = said[one.name]
        trains = is_picked and own["mode"] == mode
        factor = stage.learning_rate_factor if stage is not None else 1.0
        rates.append(factor * own.get("learning_rate", training.learning_rate) if trains else None)
        numbers = {**own, **numbers} if trains else numbers
    trains_ever = any(rate is not None for rate in rates)
    adapted = trains_ever and mode == "lora"
    kept: Any = mode if trains_ever else "freeze"
    return PlannedModule(
        name=one.name,
        place=one.place,
        mode=kept,
        rank=numbers.get("rank", tuning.lora.rank) if adapted else 0,
        alpha=numbers.get("alpha", tuning.lora.alpha) if adapted else 0,
        dropout=numbers.get("dropout", tuning.lora.dropout) if adapted else 0.0,
        learning_rates=tuple(rates),
        weight_decay=numbers.get("weight_decay", training.weight_decay),
    )


def _stage(stage: Stage | None, index: int) -> PlannedStage:
    if stage is None:
        return PlannedStage(name="the whole run")
    return PlannedStage(
        name=stage.name or f"stage {index + 1}",
        share=stage.share,
        step=stage.until if isinstance(stage.until, int) else None,
        plateau=stage.until == PLATEAU,
        patience=stage.patience,
        min_delta=stage.min_delta,
        learning_rate_factor=stage.learning_rate_factor,
    )


def _refuse_numbers_without_use(
    owners: list[_Owner], tuning: TuningConfig, modes: Mapping[str, str], picked: set[str]
) -> None:
    """A rank where nothing is adapted, or a rate where nothing ever trains, was meant otherwise."""
    for tower in TOWERS:
        own: TowerSettings = getattr(tuning, tower)
        inside = [one for one in owners if one.place.tower == tower]
        count = _num_blocks(owners, tower)
        parts = [(f"tuning.{tower}", own, inside)] + [
            (f"tuning.{tower}.parts[{n}]", p, [o for o in inside if is_selected(p, o.place, count)])
            for n, p in enumerate(own.parts)
        ]
        for where, said, meant in parts:
            found = {modes[one.name] for one in meant if one.name in picked}
            for key in ("rank", "alpha", "dropout", "learning_rate", "weight_decay"):
                value = getattr(said, key)
                needs = {"lora"} if key in ("rank", "alpha", "dropout") else {"lora", "full"}
                if value is not None and not found & needs:
                    what = "is set to lora" if needs == {"lora"} else "trains in any stage"
                    raise PlanError(
                        f"{where}.{key} is {value:g}, but nothing there {what}.\n"
                        "Set its mode, or remove the key."
                    )


def _refuse_idle(planned: tuple[PlannedModule, ...], stages: list[Stage | None]) -> None:
    for index, stage in enumerate(stages):
        if not any(module.trains_in(index) for module in planned):
            which = "the plan" if stage is None else f"tuning.stages[{index}]"
            raise PlanError(
                f"{which} trains nothing: every module is frozen.\n"
                "Set tuning.language, tuning.projector or tuning.vision to lora or full."
            )


def _refuse_tied(planned: tuple[PlannedModule, ...]) -> None:
    ends = {m.place.tower: m for m in planned if m.place.tower in ("embeddings", "head")}
    head, embeddings = ends["head"], ends["embeddings"]
    for tower, module in ends.items():
        if module.mode == "lora":
            raise PlanError(
                f"tuning.{tower} is lora, but this model ties its head to its token embedding: "
                "one weight has two uses. Merging LoRA into one of them changes the other, and "
                "the merged model is off by whole logits.\n"
                f"Set tuning.{tower}: freeze, or tune both in full: tuning.head: full and "
                "tuning.embeddings: full."
            )
    if head.mode != embeddings.mode:
        raise PlanError(
            f"tuning.head is {head.mode} and tuning.embeddings is {embeddings.mode}, but "
            "this model ties them: one weight cannot be frozen and trained.\nSet both alike."
        )
    if head.learning_rates != embeddings.learning_rates:
        raise PlanError(
            "tuning.head and tuning.embeddings differ in their learning rates or stages, but this "
            "model ties them: one weight has one rate.\nSet both alike."
        )


def _full_modules(planned: tuple[PlannedModule, ...]) -> list[str]:
    """The largest modules, blocks at most, whose parameters all train in full."""
    below: dict[str, set[str]] = {}
    for module in planned:
        parts = module.name.split(".")
        for end in range(1, len(parts) + 1):
            below.setdefault(".".join(parts[:end]), set()).add(module.mode)
    found: dict[str, None] = {}
    for module in planned:
        if module.mode != "full":
            continue
        parts = module.name.split(".")
        for end in range(len(_top(module).split(".")), len(parts) + 1):
            inside = ".".join(parts[:end])
            if below[inside] == {"full"}:
                found[inside] = None
                break
    return list(found)


def _top(module: PlannedModule) -> str:
    """Name of the block that a module is in."""
    parts, block = module.name.split("."), module.place.block.split(".")
    for end in range(len(parts), 0, -1):
        if parts[end - len(block) : end] == block:
            return ".".join(parts[:end])
    return module.name
