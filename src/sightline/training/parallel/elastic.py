"""Going on with another number of processes: a step keeps its samples."""

from __future__ import annotations

from collections.abc import Callable

from sightline.config import RunConfig, load_config
from sightline.errors import RunError
from sightline.records import RunDirectory
from sightline.training.parallel.engine import ZERO_STAGES


def keep_step(
    config: RunConfig, run: RunDirectory, num_processes: int, note: Callable[[str], None]
) -> RunConfig:
    """Let each process take as many samples as leaves a step what it was when the run began.

    A step of ``training.batch_size`` times ``training.gradient_accumulation`` samples a process
    would grow and shrink with their number, and with it what the learning rate means and how many
    steps there are. One that is counted in tokens is counted over all processes.

    Args:
        config: The configuration with which a run is to go on.
        run: Its directory.
        num_processes: Processes of the run now.
        note: Told what is otherwise than before.

    Returns:
        The configuration, with another accumulation and, where it must be, batch size.

    Raises:
        RunError: So many processes cannot share a step evenly.
    """
    before = run.read_state().get("batches", {}).get("num_processes")
    if before in (None, num_processes) or not run.config.is_file():
        return config
    then, now = load_config(run.config).training, config.training
    if then.parallel in ZERO_STAGES:
        raise RunError(
            f"{run.path}: the run has {before} processes and would now have {num_processes}; "
            f"DeepSpeed ({then.parallel}) keeps a share of the optimizer for each.\n"
            f"Go on with {before}. Runs with training.parallel: fsdp or ddp go on with any number."
        )
    samples = then.batch_size * then.gradient_accumulation * before
    if (
        then.tokens_per_step is not None
        or now.tokens_per_step is not None
        or now.batch_size * now.gradient_accumulation * num_processes == samples
    ):
        return config
    if samples % num_processes:
        divisors = [str(n) for n in range(1, samples + 1) if samples % n == 0]
        raise RunError(
            f"{run.path}: a step of this run is {samples} samples, over {before} processes; "
            f"{num_processes} cannot share it evenly.\n"
            f"Go on with {', '.join(divisors[:8])} processes, or count steps in tokens "
            "(training.tokens_per_step) in a new run."
        )
    each = samples // num_processes
    batch_size = max(n for n in range(1, now.batch_size + 1) if each % n == 0)
    note(
        f"A step stays {samples} samples: {before} processes then, {num_processes} now, each with "
        f"training.gradient_accumulation {each // batch_size} of batch size {batch_size}."
    )
    kept = {"batch_size": batch_size, "gradient_accumulation": each // batch_size}
    return config.model_copy(update={"training": now.model_copy(update=kept)})
