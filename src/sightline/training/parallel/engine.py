"""Which engine shares the work of a run, and what it cannot do."""

from __future__ import annotations

from importlib.util import find_spec

from sightline.config import TrainingConfig
from sightline.errors import ConfigError, PlanError
from sightline.training.processes import num_processes

ZERO_STAGES = {"zero1": 1, "zero2": 2, "zero3": 3}
"""DeepSpeed's stages by the values of ``training.parallel``."""


def shares_weights(training: TrainingConfig) -> bool:
    """Whether FSDP2 shares out the weights: one process has nobody to share them with.

    Args:
        training: The configuration's section.
    """
    return training.parallel == "fsdp" and num_processes() > 1


def uses_deepspeed(training: TrainingConfig) -> bool:
    """Whether DeepSpeed trains: with one process there is nothing to share out.

    Args:
        training: The configuration's section.
    """
    return training.parallel in ZERO_STAGES and num_processes() > 1


def refuse_unable_engine(
    training: TrainingConfig, *, is_quantized: bool, num_stages: int, answers: bool
) -> None:
    """Refuse an engine that is not there, or that cannot hold the model.

    Args:
        training: The configuration's section.
        is_quantized: Whether weights are held in 4 or 8 bits.
        num_stages: Stages of the plan.
        answers: Whether held-out questions are answered while it trains.

    Raises:
        ConfigError: DeepSpeed is asked for and not installed.
        PlanError: Quantised weights would have to be cut into slices, weights join later, or no
            process has a whole model to answer with.
    """
    parallel = training.parallel
    if parallel in ZERO_STAGES and find_spec("deepspeed") is None:
        raise ConfigError(
            f"training.parallel is {parallel}, and DeepSpeed is not installed.\n"
            "pip install 'sightline[deepspeed]', or set training.parallel to fsdp, which shares "
            "out weights, gradients and optimizer without it."
        )
    if is_quantized and parallel in ("fsdp", "zero3"):
        raise PlanError(
            f"training.parallel is {parallel}, which cuts weights into slices, and "
            "tuning.quantization keeps them in blocks with scales of their own.\n"
            "Set training.parallel to ddp: in 4 or 8 bits the base is small in every process. Or "
            "leave tuning.quantization out."
        )
    if answers and parallel in ("fsdp", "zero3") and num_processes() > 1:
        raise PlanError(
            f"training.parallel is {parallel}, which leaves no process a whole model, and "
            "evaluation.metrics asks for answers while it trains.\nSet training.parallel to ddp, "
            "zero1 or zero2; or leave evaluation.metrics out, and measure the finished run with "
            "sightline evaluate."
        )
    if parallel in ZERO_STAGES and num_stages > 1:
        raise PlanError(
            f"training.parallel is {parallel}, and tuning.stages has {num_stages} stages: "
            "DeepSpeed takes a gradient that is not there for zeros, so that the optimizer of what "
            "joins later would not begin anew.\nSet training.parallel to fsdp or ddp."
        )
