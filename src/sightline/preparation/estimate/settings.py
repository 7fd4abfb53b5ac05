"""What a proposal may change of a run."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.config import TrainingConfig
from sightline.data.batches import StepShape


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Size of a step and of what is computed at once, as the configuration has them.

    Attributes:
        batch_size: Most samples in a micro-batch; without meaning with tokens_per_step.
        accumulation: Micro-batches of a step; without meaning with tokens_per_step.
        tokens_per_step: Tokens of a step; None: it is counted in samples.
        tokens_per_row: Most tokens of a micro-batch; None for what `StepShape` says.
        checkpointing: Whether activations are computed twice.
    """

    batch_size: int
    accumulation: int
    tokens_per_step: int | None = None
    tokens_per_row: int | None = None
    checkpointing: bool

    @classmethod
    def of(cls, training: TrainingConfig) -> Settings:
        """Those of a run."""
        return cls(
            batch_size=training.batch_size,
            accumulation=training.gradient_accumulation,
            tokens_per_step=training.tokens_per_step,
            tokens_per_row=training.tokens_per_row,
            checkpointing=training.gradient_checkpointing,
        )

    def shape(self, *, packed: bool, num_ranks: int, seed: int) -> StepShape:
        """A step of a run with these settings.

        Args:
            packed: Whether its samples are packed.
            num_ranks: Its processes.
            seed: Its seed.
        """
        return StepShape(
            batch_size=self.batch_size,
            gradient_accumulation=self.accumulation,
            tokens_per_step=self.tokens_per_step,
            tokens_per_row=self.tokens_per_row,
            packed=packed,
            num_ranks=num_ranks,
            seed=seed,
        )
