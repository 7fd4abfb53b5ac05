"""``sightline train``: run, then verify in a fresh process, then report."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.status import Status

from sightline.cli.console import make_console, quiet_libraries, user_errors
from sightline.cli.processes import train_in_processes
from sightline.config import load_config
from sightline.launching import (
    end_with_launcher,
    is_ours,
    rank_of,
    refuse_shared_gpus,
    without_ranks,
)
from sightline.records import RunDirectory
from sightline.report.batches import batches_text
from sightline.report.live import alarm_text
from sightline.report.page import render_run
from sightline.report.plots import plot_loss
from sightline.report.terminal import plan_table


class TerminalObserver:
    """Shows a run as it goes: one line a stage, bars where somebody watches."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._live: Any = None
        self._num_stages = 1
        self._stage = ""
        self._num_read = 0

    def stage(self, text: str) -> None:
        """A new stage begins."""
        self.close()
        self._stage = text
        if self._console.is_terminal:
            self._status = self._console.status(text)
            self._status.start()

    def samples_read(self, count: int) -> None:
        """So many more samples are known."""
        self._num_read += count
        if self._status is not None:
            self._status.update(f"{self._stage}: {self._num_read:,} samples")

    def prepared(self, data: Any, checkpoint: Any) -> None:
        """All data is measured and fitted."""
        self.close()
        samples = data.train.samples
        tokens, vision = samples.column("num_tokens"), samples.column("num_vision_tokens")
        answers = samples.column("num_supervised_tokens")
        print_ = self._console.print
        print_(f"model   {checkpoint.family.title}, {checkpoint.source}")
        print_(
            f"data    {len(samples):,} conversations, {tokens.sum():,} tokens: {vision.sum():,} "
            f"vision, {answers.sum():,} supervised"
        )
        print_(f"        longest {tokens.max():,} tokens, limit {data.max_length:,}")
        kept, *others = data.train.plan.fate_counts().items()
        told = [f"{count:,} {fate}" for fate, count in others if count]
        of_all = f"{kept[1]:,} of {data.train.plan.num_samples:,} samples kept as they are"
        print_(f"        {', '.join([of_all, *told])}")
        if data.eval:
            print_(f"        {len(data.eval.samples):,} conversations held out")

    def batched(self, record: dict[str, Any]) -> None:
        """The steps are planned."""
        self.close()
        self._console.print(batches_text(record))

    def planned(self, record: dict[str, Any]) -> None:
        """The parameter table is known."""
        self.close()
        self._num_stages = len(record["stages"])
        self._console.print(plan_table(record))

    def stage_began(self, number: int, stage: Any, step: int) -> None:
        """Another stage of the plan begins."""
        self._console.print(f"stage {number} ({stage.name}) begins after step {step}")

    def note(self, text: str) -> None:
        """How the run goes on, where that is not as its user would think."""
        self.close()
        self._console.print(text, markup=False)

    def alarm(self, alarm: Any) -> None:
        """Something in the run should be looked at."""
        self._console.print(alarm_text(alarm.record()))

    def trainer_callbacks(self) -> list[Any]:
        """Callbacks for the Trainer."""
        # It imports transformers, which takes seconds.
        from sightline.cli.live import LiveView

        self._live = LiveView(self._console, self._num_stages, self._stop_spinner)
        return [self._live]

    def close(self) -> None:
        """Take away what moves."""
        if self._live is not None:
            self._live.close()
        self._stop_spinner()

    def _stop_spinner(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def train_command(
    path: Path,
    overrides: list[str],
    *,
    resume: bool,
    overwrite: bool,
    processes: int = 1,
    max_restarts: int = 0,
    ray: str | None = None,
) -> int:
    """Train a configuration; 0 where everything is proven, 1 where it is not."""
    with user_errors():
        config = load_config(path, overrides)
        if ray is not None:
            # Ray takes seconds to import, and torch comes with it.
            from sightline.cli.on_ray import train_on_ray

            train_on_ray(
                config,
                address=ray,
                processes=processes,
                max_restarts=max_restarts,
                resume=resume,
                overwrite=overwrite,
            )
            return finish(config, RunDirectory(Path(config.output)))
        if processes > 1 or max_restarts > 0:
            given = {"--resume": resume, "--overwrite": overwrite}
            options = [name for name, is_given in given.items() if is_given]
            code = train_in_processes(
                config,
                ["train", str(path), *(word for one in overrides for word in ("--set", one))],
                options,
                processes=processes,
                max_restarts=max_restarts,
            )
            return code or finish(config, RunDirectory(Path(config.output)))
        run = train_quietly(config, make_console(), resume=resume, overwrite=overwrite)
        # Our launcher verifies itself, when the processes of the run have given back their memory.
        if rank_of(os.environ) or is_ours(os.environ):
            return 0
        return finish(config, run)


def finish(config: Any, run: RunDirectory) -> int:
    """What comes after training: the verification, or the report alone."""
    if config.verify.enabled:
        return verify_in_fresh_process(run.path)
    render_run(run.path)
    make_console().print(f"report  {run.report}\nNot verified: verify.enabled is false.")
    return 0


def train_quietly(
    config: Any, console: Console, *, resume: bool = False, overwrite: bool = False
) -> RunDirectory:
    """Train with stages and tables on the console."""
    if is_ours(os.environ):
        end_with_launcher()
    quiet_libraries()
    import torch

    from sightline.training import train

    refuse_shared_gpus(os.environ, torch.cuda.device_count())
    observer = TerminalObserver(console)
    try:
        result = train(config, observer, resume=resume, overwrite=overwrite)
    finally:
        observer.close()
    if rank_of(os.environ):
        return result.run
    plot_loss(result.run.metrics, result.run.loss_plot)
    console.print(
        f"trained {result.num_steps} steps in {result.seconds:.1f} s, "
        f"final loss {result.final_loss:.2e}"
    )
    folder = result.run.merged if config.export.merged else result.run.adapter
    console.print(f"export  {folder}")
    return result.run


def verify_in_fresh_process(directory: Path, *options: str) -> int:
    """``sightline verify`` in a process of its own: nothing of the training is in its memory."""
    sys.stdout.flush()
    command = [sys.executable, "-m", "sightline", "verify", str(directory), *options]
    return subprocess.run(command, check=False, env=without_ranks(os.environ)).returncode
