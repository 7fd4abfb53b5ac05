"""Section ``tuning``: what trains, how, and when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

from pydantic import field_validator, model_serializer, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler

from sightline.config.base import ContradictionError, Section, key

Mode = Literal["freeze", "lora", "full"]
Kind = Literal["attention", "mlp", "norm", "embedding", "merger", "deepstack"]
TowerName = Literal["vision", "projector", "language", "embeddings", "head"]
Quantization = Literal["none", "nf4", "fp4", "int8"]

TOWER_NAMES: tuple[TowerName, ...] = ("vision", "projector", "language", "embeddings", "head")
"""The towers in the order of the data's flow."""

PLATEAU = "plateau"
_DEFAULT_MODES: Mapping[str, Mode] = {"language": "lora", "projector": "full"}
_BLOCKS = re.compile(r"\d+|\d+-\d*|(first|last) [1-9]\d*%?")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
_BLOCKS_HELP = 'write 3, "0-11", "24-", "last 8", "first 50%", or several with commas'


class PartSettings(Section):
    """How a part of the model trains; what is null is as in the part around it."""

    mode: Mode | None = key(None, "Frozen, adapted by LoRA, or tuned in full.")
    rank: int | None = key(None, "Rank of LoRA's factors; null is tuning.lora.rank.", gt=0)
    alpha: int | None = key(None, "LoRA's alpha; null is tuning.lora.alpha.", gt=0)
    dropout: float | None = key(None, "LoRA's dropout; null is tuning.lora.dropout.", ge=0, lt=1)
    learning_rate: float | None = key(
        None, "Peak learning rate; null is training.learning_rate.", gt=0
    )
    weight_decay: float | None = key(
        None, "AdamW's decay of weight matrices; null is training.weight_decay.", ge=0
    )

    @model_serializer
    def _given(self) -> Any:
        """Only what is given: a mode alone is one word."""
        given = {name: value for name, value in self if value not in (None, [])}
        return given["mode"] if list(given) == ["mode"] else given


class Part(PartSettings):
    """Some blocks of a tower, or one kind of its layers, that train otherwise than the rest."""

    blocks: int | str | None = key(
        None, f"Blocks by their number: {_BLOCKS_HELP}; null is all, and what is in no block."
    )
    kind: Kind | None = key(None, "Layers of one kind; null is all.")

    @field_validator("blocks")
    @classmethod
    def _is_range(cls, given: int | str | None) -> int | str | None:
        pieces = [piece.strip() for piece in str(given).split(",")] if given is not None else []
        wrong = [piece for piece in pieces if not _BLOCKS.fullmatch(piece)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} names no blocks; {_BLOCKS_HELP}")
        return given

    @model_validator(mode="after")
    def _selects(self) -> Part:
        if self.blocks is None and self.kind is None:
            raise ValueError(
                "this part names neither blocks nor kind; what holds for the whole tower stands "
                "beside parts, not in them"
            )
        return self


class TowerSettings(PartSettings):
    """How a tower trains: one word, or a mapping."""

    parts: list[Part] = key([], "Parts that train otherwise; of two that overlap the later holds.")

    @model_validator(mode="wrap")
    @classmethod
    def _one_word(
        cls, given: Any, handler: ModelWrapValidatorHandler[TowerSettings]
    ) -> TowerSettings:
        if isinstance(given, bool | int | float | list):
            raise ValueError(
                f"{given!r} is given; write freeze, lora or full, or a mapping with mode"
            )
        return handler({"mode": given} if isinstance(given, str) else given)

    @property
    def modes(self) -> set[Mode]:
        """Every mode that is said in it."""
        return {part.mode for part in (self, *self.parts) if part.mode is not None}


class LoraSettings(Section):
    """LoRA, wherever something is set to lora."""

    rank: int = key(16, "Rank of the factors.", unit="dimensions", gt=0)
    alpha: int = key(32, "Scale; the update is multiplied by alpha / rank.", gt=0)
    dropout: float = key(0.0, "Share of inputs dropped before the factors.", ge=0, lt=1)
    dora: bool = key(False, "DoRA: direction by the factors, magnitude trained beside them.")
    rslora: bool = key(
        False, "Scale of rsLoRA: the update is multiplied by alpha / sqrt(rank) instead."
    )
    target_modules: list[str] | str | None = key(
        None,
        "Of what is set to lora, only these layers: names as PEFT takes them, one regular "
        "expression over whole dotted names, or all-linear. Null is every linear layer.",
    )
    modules_to_save: list[str] | None = key(
        None, "Of what is set to full, only these modules: names as PEFT takes them. Null is all."
    )

    @field_validator("target_modules")
    @classmethod
    def _is_expression(cls, given: list[str] | str | None) -> list[str] | str | None:
        if isinstance(given, str):
            try:
                re.compile(given)
            except re.error as error:
                raise ValueError(f"{given!r} is no regular expression: {error}") from None
        if given is not None and not given:
            raise ValueError("the list is empty; null is every linear layer")
        return given


class Stage(Section):
    """A stretch of the run with a plan of its own; a tower it does not name is as in tuning."""

    name: str | None = key(None, "A word for it; null is its number.", min_length=1)
    until: int | str | None = key(
        None,
        'Where it ends: a step, a share of the run ("30%"), or plateau, when the validation loss '
        "does not fall any more. Null for the last stage, which ends with the run.",
    )
    patience: int = key(
        2, "Evaluations without an improvement that end it, with plateau.", unit="evaluations", gt=0
    )
    min_delta: float = key(
        0.01, "Share by which the loss has to fall to count as improved, with plateau.", ge=0, lt=1
    )
    learning_rate_factor: float = key(1.0, "Multiplies all learning rates of this stage.", gt=0)
    vision: TowerSettings | None = key(None, "Null is tuning.vision.")
    projector: TowerSettings | None = key(None, "Null is tuning.projector.")
    language: TowerSettings | None = key(None, "Null is tuning.language.")
    embeddings: TowerSettings | None = key(None, "Null is tuning.embeddings.")
    head: TowerSettings | None = key(None, "Null is tuning.head.")

    @field_validator("until")
    @classmethod
    def _ends_somewhere(cls, given: int | str | None) -> int | str | None:
        if isinstance(given, int) and given < 1:
            raise ValueError(f"{given} is given; a step is 1 or more")
        if isinstance(given, str) and given != PLATEAU:
            share = _SHARE.fullmatch(given)
            if share is None or not 0 < float(share[1]) < 100:
                raise ValueError(
                    f'{given!r} is given; write a step, a share such as "30%", or plateau'
                )
        return given

    @property
    def share(self) -> float | None:
        """Share of the run at which it ends, 0 to 1; None where it ends otherwise."""
        share = _SHARE.fullmatch(self.until) if isinstance(self.until, str) else None
        return float(share[1]) / 100 if share else None


class TuningConfig(Section):
    """Each tower is frozen, adapted or tuned in full; the plan is shown before a run."""

    language: TowerSettings = key(TowerSettings(mode="lora"), "Decoder layers.")
    projector: TowerSettings = key(
        TowerSettings(mode="full"),
        "The merger, and Qwen3-VL's deepstack mergers. It lives inside the vision tower, but "
        "freezing vision does not freeze it and adapting language does not reach it.",
    )
    vision: TowerSettings = key(TowerSettings(mode="freeze"), "Vision tower without the projector.")
    embeddings: TowerSettings = key(TowerSettings(mode="freeze"), "Token embedding.")
    head: TowerSettings = key(
        TowerSettings(mode="freeze"),
        "Output head. LoRA is refused where it is tied to the embedding.",
    )
    lora: LoraSettings = key(LoraSettings(), "Settings of LoRA.")
    quantization: Quantization = key(
        "none",
        "QLoRA: the frozen weights of the language model are held in 4 or 8 bits by bitsandbytes "
        "(pip install 'sightline[qlora]').",
    )
    stages: list[Stage] = key([], "Plans one after the other; none is one plan for the whole run.")

    @field_validator(*TOWER_NAMES)
    @classmethod
    def _has_mode(cls, given: TowerSettings, info: Any) -> TowerSettings:
        if given.mode is not None:
            return given
        mode: Mode = _DEFAULT_MODES.get(info.field_name, "freeze")
        return given.model_copy(update={"mode": mode})

    @model_validator(mode="after")
    def _trains_something(self) -> TuningConfig:
        if self._modes(None) == {"freeze"}:
            raise ValueError(
                "every tower is frozen, so the plan trains nothing; set language, projector or "
                "vision to lora or full"
            )
        for index, stage in enumerate(self.stages):
            if self._modes(stage) == {"freeze"}:
                raise ContradictionError(
                    f"stages.{index}",
                    "every tower is frozen in this stage",
                    "Name a tower that trains, or remove the stage.",
                )
        return self

    @model_validator(mode="after")
    def _stages_follow(self) -> TuningConfig:
        for index, stage in enumerate(self.stages):
            is_last = index == len(self.stages) - 1
            if is_last != (stage.until is None):
                raise ContradictionError(
                    f"stages.{index}.until",
                    f"{stage.until!r} is given for the last stage"
                    if is_last
                    else "only the last stage ends with the run",
                    "Remove it: the last stage ends with the run."
                    if is_last
                    else 'Write where this one ends: a step, a share such as "30%", or plateau.',
                )
        for kind in ("share", "step"):
            ends = [_end(stage, kind) for stage in self.stages]
            known = [(index, end) for index, end in enumerate(ends) if end is not None]
            for (_, before), (index, end) in pairwise(known):
                if end <= before:
                    raise ContradictionError(
                        f"stages.{index}.until",
                        f"{self.stages[index].until!r} is given, but an earlier stage ends no "
                        "earlier",
                        "Stages follow one another: let each end after the one before.",
                    )
        return self

    def in_stage(self, tower: TowerName, stage: Stage | None) -> TowerSettings:
        """How a tower trains in a stage; None is a run without stages."""
        own: TowerSettings | None = getattr(stage, tower) if stage is not None else None
        base: TowerSettings = getattr(self, tower)
        if own is None:
            return base
        # A stage that says how a tower trains says all of it, but for the numbers it leaves out.
        told = {"parts"} if own.mode is not None or own.parts else set()
        inherited = {
            name: getattr(base, name)
            for name in TowerSettings.model_fields
            if name not in told and getattr(own, name) in (None, [])
        }
        return own.model_copy(update=inherited)

    def uses(self, mode: Mode) -> bool:
        """Whether anything is set to a mode, in any stage."""
        return any(mode in self._modes(stage) for stage in (self.stages or [None]))

    def _modes(self, stage: Stage | None) -> set[Mode]:
        return set().union(*(self.in_stage(tower, stage).modes for tower in TOWER_NAMES))


def _end(stage: Stage, kind: str) -> float | None:
    if kind == "share":
        return stage.share
    return stage.until if isinstance(stage.until, int) else None
