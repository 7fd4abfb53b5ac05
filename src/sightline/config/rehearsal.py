"""The configuration of a rehearsal: the run's own, with a course that learns a few samples."""

from __future__ import annotations

from sightline.config.schema import RunConfig
from sightline.config.tuning import PLATEAU

# Adam's first steps are as long as its rate, whatever the gradient.
_WARMUP_SHARE = 0.02


def rehearsal_config(
    config: RunConfig, *, num_samples: int, max_steps: int, output: str
) -> RunConfig:
    """What a rehearsal of a run is made of.

    Model, data, template, tuning, precision, packing, steps and export stay as they are. Changed
    is what would keep a few samples from being learned by heart, or would write beside the run:
    the number of steps, the course of the rate, evaluation, trackers and checkpoints.

    Args:
        config: The run's configuration.
        num_samples: Samples that are learned, and compared.
        max_steps: Most optimizer steps.
        output: Folder of the rehearsal.
    """
    # A stage that ends at a plateau is refused without held-out data; nothing evaluates on them.
    stays = any(stage.until == PLATEAU for stage in config.tuning.stages)
    training = config.training.model_copy(
        update={
            "max_steps": max_steps,
            "scheduler": "constant_with_warmup",
            "warmup_ratio": _WARMUP_SHARE,
            "log_every": 1,
            "save_every": max_steps,
            "eval_every": None,
            "best_by": None,
            "report_to": [],
            # In one process nothing is shared.
            "parallel": "ddp",
        }
    )
    verify = config.verify.model_copy(update={"samples": num_samples, "answers": "memorised"})
    data = config.data.model_copy(update={} if stays else {"eval": []})
    return config.model_copy(
        update={"training": training, "verify": verify, "data": data, "output": output}
    )
