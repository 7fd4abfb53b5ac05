"""What trains, how and when, by the exact name of every module: the resolved plan."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.config import Mode, Quantization
from sightline.tuning.selection import TargetHits
from sightline.tuning.towers import TOWERS, Place, Tower


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedModule:
    """A module that owns parameters, and how they train.

    Attributes:
        name: Dotted name inside the conditional-generation model.
        place: Tower, block and kind.
        mode: How it trains in the stages in which it does; freeze where it never does.
        rank: Rank of its LoRA factors; 0 where it has none.
        alpha: LoRA alpha; 0 where it has none.
        dropout: LoRA dropout, 0 to 1.
        learning_rates: Peak learning rate in each stage; None where it does not train.
        weight_decay: AdamW's decay of its weight matrices.
    """

    name: str
    place: Place
    mode: Mode
    rank: int
    alpha: int
    dropout: float
    learning_rates: tuple[float | None, ...]
    weight_decay: float

    def trains_in(self, stage: int) -> bool:
        """Whether it trains in a stage, 0-based."""
        return self.learning_rates[stage] is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedStage:
    """A stretch of the run.

    Attributes:
        name: A word for it.
        share: Share of the run at which it ends; None where it ends otherwise.
        step: Step at which it ends; None where it ends otherwise.
        plateau: Whether it ends when the validation loss does not fall any more.
        patience: Evaluations without an improvement that end it, with ``plateau``.
        min_delta: Share by which the loss has to fall to count as improved.
        learning_rate_factor: What the learning rates of this stage were multiplied by.
    """

    name: str
    share: float | None = None
    step: int | None = None
    plateau: bool = False
    patience: int = 2
    min_delta: float = 0.01
    learning_rate_factor: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningPlan:
    """What trains, by exact name.

    Attributes:
        modules: Every module that owns parameters, in the model's order.
        stages: The stages of the run, at least one.
        full_modules: The largest modules inside blocks whose weights all train in full, full
            dotted names.
        rank: LoRA rank where nothing else is said.
        alpha: LoRA alpha where nothing else is said.
        dropout: LoRA dropout where nothing else is said, 0 to 1.
        dora: Whether LoRA is DoRA.
        rslora: Whether LoRA is scaled by the root of its rank.
        quantization: How frozen weights of the language model are held.
        targets: What explicit names hit.
        is_tied: Whether head and token embedding are one weight.
    """

    modules: tuple[PlannedModule, ...]
    stages: tuple[PlannedStage, ...]
    full_modules: tuple[str, ...]
    rank: int
    alpha: int
    dropout: float
    dora: bool
    rslora: bool
    quantization: Quantization
    targets: tuple[TargetHits, ...]
    is_tied: bool

    @property
    def lora_modules(self) -> tuple[str, ...]:
        """Modules that LoRA adapts in any stage, full dotted names."""
        return tuple(module.name for module in self.modules if module.mode == "lora")

    @property
    def uses_lora(self) -> bool:
        """Whether anything is adapted by LoRA."""
        return any(module.mode == "lora" for module in self.modules)

    @property
    def moving_modules(self) -> tuple[str, ...]:
        """Modules whose merged weights training may change, full dotted names."""
        moving = [module.name for module in self.modules if module.mode != "freeze"]
        if self.is_tied:
            # One weight under two names.
            ends = {module.name for module in self.modules if module.place.tower in _TIED}
            if ends & set(moving):
                moving = [*moving, *sorted(ends - set(moving))]
        return tuple(moving)

    def by_name(self) -> dict[str, PlannedModule]:
        """The modules by their names."""
        return {module.name: module for module in self.modules}

    def modes_of(self, tower: Tower) -> set[Mode]:
        """How a tower trains in any stage: ``{"freeze"}`` where it never does."""
        modes: set[Mode] = {
            module.mode
            for module in self.modules
            if module.place.tower == tower and module.mode != "freeze"
        }
        return modes or {"freeze"}

    def towers_in(self, stage: int) -> tuple[Tower, ...]:
        """Towers of which something trains in a stage, in the order of the data's flow."""
        active = {module.place.tower for module in self.modules if module.trains_in(stage)}
        return tuple(tower for tower in TOWERS if tower in active)


_TIED = ("embeddings", "head")
