"""``sightline demo``: the first experiment, on three families.

Four pictures, 50 epochs, a loss near zero: are the answers on those same four pictures exact,
after merging, saving, and loading in a new process? And does the same model fail when it is
served with 1-D positions? Both must be so for the first to mean anything.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from sightline.cli.console import EXIT_NOT_PROVEN, make_console, user_errors
from sightline.cli.train import train_quietly, verify_in_fresh_process
from sightline.config import load_config
from sightline.data.shapes import write_shapes
from sightline.errors import RunError
from sightline.families import TRAINABLE_FAMILIES
from sightline.records import RunDirectory, read_json, write_text
from sightline.report.demo import render_demo
from sightline.report.terminal import demo_table

NUM_PICTURES = 4
LOSS_LIMIT = 1e-3

# Memorises four pictures in seconds on one core: docs/findings.md says how it was chosen.
_CONFIG = """\
model: tiny:{family}
data:
  train: {data}
tuning:
  language: lora
  projector: {{mode: full, learning_rate: 3.0e-4}}
  vision: freeze
  head: lora
  lora: {{rank: 16, alpha: 192}}
training:
  epochs: 50
  learning_rate: 4.0e-3
  scheduler: linear
  warmup_ratio: 0.1
  batch_size: 1
  gradient_accumulation: 1
  gradient_checkpointing: false
  log_every: {pictures}  # a step a picture: every logged loss is the mean of an epoch
  save_every: 200
  precision: fp32
verify: {{samples: 4, answers: memorised}}
output: {output}
"""


class DemoRow(NamedTuple):
    """One family's outcome.

    Attributes:
        family: Title of the family.
        loss: Loss per supervised token, mean over the last epoch.
        num_equal: Answers equal to the annotation.
        control_equal: The same with 1-D positions.
        num_samples: Pictures.
        verdict: The certificate's.
    """

    family: str
    loss: float
    num_equal: int
    control_equal: int
    num_samples: int
    verdict: str

    @property
    def holds(self) -> bool:
        """Whether the experiment shows what it must show."""
        return (
            self.num_equal == self.num_samples
            and self.control_equal < self.num_samples
            and self.loss < LOSS_LIMIT
            and self.verdict == "holds"
        )


def demo_command(output: Path) -> int:
    """Run the first experiment for every family."""
    # Tiny models gain nothing from threads, and one thread adds numbers in one order: the same
    # figures at every run. Set before torch is loaded, and inherited by the verifying processes.
    os.environ["OMP_NUM_THREADS"] = "1"
    console = make_console()
    with user_errors():
        _make_room(output)
        runs = [_one_family(key, output, console) for key in TRAINABLE_FAMILIES]
        rows = [_row(run) for run in runs]
        page = render_demo([run.path for run in runs], output / "report.html")
        console.print(demo_table([row._asdict() | {"holds": row.holds} for row in rows]))
        console.print(f"report  {page}")
        if all(row.holds for row in rows):
            return 0
        console.print("The first experiment does not hold: see the table.")
        return EXIT_NOT_PROVEN


def _make_room(output: Path) -> None:
    """Take away what an earlier demonstration left; nothing else is ever removed."""
    marker = output / "demo.txt"
    if output.exists() and any(output.iterdir()):
        if not marker.is_file():
            raise RunError(
                f"{output}: the folder is not empty and not an earlier demonstration.\n"
                "Choose another with --output."
            )
        shutil.rmtree(output)
    write_text(marker, "Made by sightline demo; made anew each time it runs.\n")


def _one_family(key: str, output: Path, console: Console) -> RunDirectory:
    family = TRAINABLE_FAMILIES[key]
    console.rule(family.title, align="left")
    data = output / "data" / family.box_space
    if not data.is_dir():
        # Sides that divide by 28 and by 32: no family resizes these pictures, so pixels of the
        # file are pixels of what the model sees.
        space = "pixels" if family.box_space == "resized_pixels" else "thousandths"
        write_shapes(data, num_images=NUM_PICTURES, max_shapes=2, box_space=space)
    config_path = output / f"{key}.yaml"
    write_text(
        config_path,
        _CONFIG.format(
            family=key,
            pictures=NUM_PICTURES,
            data=(data / "train.jsonl").resolve(),
            output=(output / key).as_posix(),
        ),
    )
    run = train_quietly(load_config(config_path), console)
    verify_in_fresh_process(run.path, "--control")
    return run


def _row(run: RunDirectory) -> DemoRow:
    certificate: dict[str, Any] = read_json(run.certificate)
    predictions: dict[str, Any] = read_json(run.predictions)
    losses = [entry["loss"] for entry in run.read_metrics() if "loss" in entry]
    return DemoRow(
        family=TRAINABLE_FAMILIES[certificate["family"]].title,
        loss=losses[-1],
        num_equal=sum(sample["equal"] for sample in predictions["samples"]),
        control_equal=predictions["control"]["num_equal"],
        num_samples=len(predictions["samples"]),
        verdict=certificate["verdict"],
    )
