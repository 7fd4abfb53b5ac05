"""Stopping well: a signal ends the step, saves and stops; a second one ends at once.

Python calls a handler only between two of its own instructions, and a backward pass is one of them:
two signals that come in its midst would be seen as one, when it is over. So signals are counted by
a thread, to which the interpreter passes their numbers as they arrive.

All processes of a run stop after the same step, whenever the signal reached each of them.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sightline.errors import Interrupted, StoppedError
from sightline.records import RunDirectory
from sightline.signals import SIGNALS, SignalEchoes
from sightline.training.processes import is_first

_SHOW_CURSOR = b"\x1b[?25h\n"
_STDOUT = 1
# No signal has the number 0.
_END = b"\0"


def signal_name(signum: int) -> str:
    """A signal as users know it."""
    return "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name


class StopSignals:
    """What SIGINT and SIGTERM do to a run.

    Outside of training the first raises `Interrupted`. In training it is remembered. A second one
    ends the process wherever it is: what is being saved appears whole or not at all. The echo of
    one is none.

    Outside of the main thread, where Python allows no handlers, nothing is changed; a signal that
    the caller has turned off stays off.

    Args:
        tell: Told what happens now that a signal came in training. Called in another thread.
    """

    def __init__(self, tell: Callable[[str], None] = lambda text: None) -> None:
        self._tell = tell
        self._before: dict[int, Any] = {}
        self._wakeup_before = -1
        self._write_end: int | None = None
        self._thread: threading.Thread | None = None
        self._echoes = SignalEchoes()
        self.is_training = False
        """Whether signals are remembered."""
        self.asked: int | None = None
        """The signal that came in training."""

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is not threading.main_thread():
            return self
        wanted = [one for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
        read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._wakeup_before = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, args=(read_end, wanted), daemon=True)
        self._thread.start()
        self._before = {one: signal.signal(one, self._handle) for one in wanted}
        _active.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._write_end is None:
            return
        _active.remove(self)
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        # Closing it would not do: workers that live on hold it open, too.
        os.write(self._write_end, _END)
        os.close(self._write_end)
        assert self._thread is not None
        self._thread.join()

    def _handle(self, signum: int, frame: Any) -> None:
        if self.is_training:
            self.asked = self.asked or signum
        elif not self._echoes.is_echo(signum):
            self._echoes.heard(signum)
            raise Interrupted(signum)

    def _listen(self, read_end: int, wanted: list[signal.Signals]) -> None:
        num_heard, echoes = 0, SignalEchoes()
        with open(read_end, "rb", buffering=0) as pipe:
            while numbers := pipe.read(64):
                # Other signals with a handler arrive here, too: of children that end, for one.
                for signum in (number for number in numbers if number in wanted):
                    if echoes.is_echo(signum):
                        continue
                    num_heard += 1
                    if num_heard > 1:
                        _leave(signum)
                    elif self.is_training:
                        self._tell(
                            f"{signal_name(signum)}: the step ends and a checkpoint is saved; once "
                            "more ends at once."
                        )
                    # From here: what came while it was told came with it.
                    echoes.heard(signum)
                if _END in numbers:
                    return

    def forget_in_child(self) -> None:
        """Let a process that is forked off be ended by signals like any other."""
        signal.set_wakeup_fd(-1)
        for signum in self._before:
            usual = signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL
            signal.signal(signum, usual)


class StopWatch(TrainerCallback):
    """Stops training after the step, or the evaluation, in which a signal came to any process.

    It comes after callbacks that save and evaluate: the last word is its own.

    Args:
        signals: The signals of this process.
    """

    def __init__(self, signals: StopSignals) -> None:
        self._signals = signals
        self._group: Any = None
        self._has_others = False
        self._stopped_by: int | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._has_others = dist.is_initialized() and dist.get_world_size() > 1
        if self._has_others and "gloo" not in str(dist.get_backend()):
            # On the CPU: a GPU would have to be waited for in every step.
            self._group = dist.new_group(backend="gloo")
        self._signals.is_training = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._stop_if_asked(control)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._stop_if_asked(control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._stopped_by is not None:
            # Saved already; and the epoch is not at its end, only its loop is.
            control.should_evaluate = control.should_save = False

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._signals.is_training = False
        if self._signals.asked is not None and self._stopped_by is None:
            # After the last step: what follows is ended where it stands.
            raise Interrupted(self._signals.asked)

    def end_if_stopped(self, run: RunDirectory, state: TrainerState) -> None:
        """End a run whose training was stopped; called when training has returned.

        Args:
            run: Its directory.
            state: The Trainer's.

        Raises:
            StoppedError: It was; says how to go on.
        """
        if self._stopped_by is None:
            return
        if is_first():
            run.write_state(state="stopped", steps=state.global_step)
        raise StoppedError(
            f"stopped by {signal_name(self._stopped_by)} after step {state.global_step} of "
            f"{state.max_steps}: a checkpoint is saved.\nGo on with sightline resume {run.path}",
            exit_code=128 + self._stopped_by,
        )

    def _stop_if_asked(self, control: TrainerControl) -> None:
        if self._stopped_by is not None:
            return
        asked = self._asked_of_any()
        if asked:
            self._stopped_by = asked
            control.should_evaluate = False
            control.should_save = True
            control.should_training_stop = True

    def _asked_of_any(self) -> int:
        """The signal that came to any process, the same in all; 0 where none did."""
        asked = self._signals.asked or 0
        if not self._has_others:
            return asked
        # Every step and not only when asked: the others cannot know that they are waited for.
        agreed = torch.tensor([asked], dtype=torch.int64)
        dist.all_reduce(agreed, dist.ReduceOp.MAX, group=self._group)
        return int(agreed)


def _leave(signum: int) -> None:
    """End this process without cleaning up: whatever it is in may take minutes."""
    if sys.stdout.isatty():
        os.write(_STDOUT, _SHOW_CURSOR)
    os._exit(128 + signum)


_active: list[StopSignals] = []


def _forget_in_child() -> None:
    for signals in _active:
        signals.forget_in_child()


os.register_at_fork(after_in_child=_forget_in_child)
