"""One training of Sightline in this process, with the time of its parts taken.

``python training_watched.py whole|parts|first CONFIG``, CONFIG a run configuration:

- ``whole``: what ``sightline train`` does, and when each stage of it began;
- ``parts``: seconds of every step by what they were spent on;
- ``first``: seconds from torch and transformers being there to the end of the first step.

Prints JSON as the last line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

STARTED = float(os.environ.get("STARTED", "nan"))


def whole(config: str) -> dict[str, Any]:
    """Stages with the seconds that they took, start-up first."""
    from sightline.cli import train as command

    marks: list[tuple[str, float]] = []

    class Marking(command.TerminalObserver):
        def stage(self, text: str) -> None:
            marks.append((text, time.time()))
            super().stage(text)

    command.TerminalObserver = Marking
    verify = command.verify_in_fresh_process

    def verifying(*arguments: Any) -> int:
        marks.append(("verifying, in a fresh process", time.time()))
        return verify(*arguments)

    command.verify_in_fresh_process = verifying
    code = command.train_command(Path(config), [], resume=False, overwrite=False)
    assert code == 0, f"sightline train ended with {code}"
    begun = [("start-up and imports", STARTED), *marks, ("", time.time())]
    return {"stages": [(text, after - before) for (text, before), (_, after) in pairwise(begun)]}


class Parts:
    """Seconds of one step after the other, by part; a part inside another counts once."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self._spent: dict[str, float] = defaultdict(float)
        self._open: list[list[Any]] = []
        self._began = 0.0

    def begin(self, part: str) -> None:
        """A part begins; what is open waits."""
        self._open.append([part, time.perf_counter(), 0.0])

    def end(self) -> None:
        """The innermost part ends."""
        part, begun, inside = self._open.pop()
        taken = time.perf_counter() - begun
        self._spent[part] += taken - inside
        if self._open:
            self._open[-1][2] += taken

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted."""

        def run(*arguments: Any, **named: Any) -> Any:
            self.begin(part)
            try:
                return function(*arguments, **named)
            finally:
                self.end()

        return run

    def step_begins(self) -> None:
        """Forget what came before."""
        self._spent.clear()
        self._began = time.perf_counter()

    def step_ends(self) -> None:
        """Keep what this step took, and begin the next."""
        now = time.perf_counter()
        spent = dict(self._spent)
        self.steps.append({**spent, "the Trainer": now - self._began - sum(spent.values())})
        self.step_begins()


def parts(config: str) -> dict[str, Any]:
    """Steps with the seconds of their parts."""
    import torch
    from transformers import TrainerCallback
    from transformers.trainer_callback import CallbackHandler

    from sightline.config import load_config
    from sightline.model import losses
    from sightline.training import train
    from sightline.training.observer import SilentObserver
    from sightline.training.steps import _MicroBatches
    from sightline.training.trainer import SightlineTrainer
    from sightline.training.watching import RunWatch

    clock = Parts()
    planned: dict[str, Any] = {}

    class Mark(TrainerCallback):
        def on_train_begin(self, *_: Any, model: Any, **others: Any) -> None:
            for name, part in (("visual", "vision"), ("language_model", "language")):
                module = next(m for n, m in model.named_modules() if n.endswith(f".{name}"))
                module.register_forward_pre_hook(lambda *_, part=part: clock.begin(part))
                module.register_forward_hook(lambda *_: clock.end())
            optimizer = others["optimizer"]
            optimizer.step = clock.timed("optimizer", optimizer.step)
            clock.step_begins()

    class Observer(SilentObserver):
        def batched(self, record: dict[str, Any]) -> None:
            planned.update(record)

        def trainer_callbacks(self) -> list[Any]:
            return [Mark()]

    losses.head_loss = clock.timed("head and loss", losses.head_loss)
    _MicroBatches.__getitem__ = clock.timed("data", _MicroBatches.__getitem__)
    torch.Tensor.backward = clock.timed("backward", torch.Tensor.backward)
    clip: Any = SightlineTrainer._clip_grad_norm
    SightlineTrainer._clip_grad_norm = clock.timed("clipping", clip)
    for name in ("saw", "check_losses", "fill"):
        setattr(RunWatch, name, clock.timed("watching", getattr(RunWatch, name)))
    tell = CallbackHandler.call_event
    tell_timed = clock.timed("watching", tell)

    def call_event(self: Any, event: str, *arguments: Any, **named: Any) -> Any:
        if event == "on_train_begin":
            return tell(self, event, *arguments, **named)
        told = tell_timed(self, event, *arguments, **named)
        if event == "on_step_end":
            clock.step_ends()
        return told

    CallbackHandler.call_event = call_event
    train(load_config(Path(config), []), Observer())
    return {"steps": clock.steps, "batches": planned}


def first(config: str) -> dict[str, Any]:
    """Seconds to the end of the first step once torch and transformers are there."""
    from sightline.config import load_config

    begun = time.perf_counter()
    import torch
    import transformers

    # The Trainer is a part of transformers that is imported when it is first asked for.
    assert torch.__version__
    assert transformers.Trainer
    there = time.perf_counter()
    from sightline.training import train
    from sightline.training.observer import SilentObserver

    steps: list[float] = []

    class Mark(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            steps.append(time.perf_counter())

    class Observer(SilentObserver):
        def trainer_callbacks(self) -> list[Any]:
            return [Mark()]

    train(load_config(Path(config), []), Observer())
    return {"imports": there - begun, "first": steps[0] - there}


if __name__ == "__main__":
    kind, given = sys.argv[1:]
    print(json.dumps({"whole": whole, "parts": parts, "first": first}[kind](given)))
