"""What a training shows in a terminal, and where there is none."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from sightline.cli.live import LiveView
from sightline.report.live import alarm_text, status_lines

TOWERS = ("vision", "projector", "language", "embeddings", "head")


def _logs(step: int, towers: tuple[str, ...] = TOWERS) -> dict[str, Any]:
    return {
        "loss": 123.456 / step,
        "stage": 2,
        "tokens_per_second": 512_345.6,
        "images_per_second": 1234.5,
        "memory_mib": 78 * 1024.0,
        **{f"learning_rate/{tower}": 1.23e-5 for tower in towers},
        **{f"grad_norm/{tower}": 4.56e-7 for tower in towers},
    }


def _run(view: LiveView, num_steps: int, *, first: int = 0) -> None:
    """The callbacks of a run that logs every step and evaluates every tenth."""
    arguments: Any = None
    state: Any = SimpleNamespace(global_step=first, max_steps=num_steps)
    view.on_train_begin(arguments, state, arguments)
    for step in range(first + 1, num_steps + 1):
        state.global_step = step
        view.on_step_end(arguments, state, arguments)
        view.on_log(arguments, state, arguments, logs=_logs(step))
        if step % 10 == 0:
            view.on_log(arguments, state, arguments, logs={"eval_loss": 1.5})
    view.on_train_end(arguments, state, arguments)


def _console(*, is_terminal: bool) -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=is_terminal, highlight=False)


def _said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _clock(seconds: float) -> Any:
    """Time that goes on by so much whenever it is asked for."""
    times = iter(range(10**9))
    return lambda: next(times) * seconds


def test_ten_lines_at_most_where_there_is_no_terminal() -> None:
    console = _console(is_terminal=False)
    _run(LiveView(console, clock=_clock(30.0)), 1000)
    lines = _said(console).splitlines()
    assert len(lines) == 9
    assert lines[0].startswith("step 100 of 1,000  loss 1.23  held out 1.5  512 K tokens/s")
    assert lines[0].endswith(" left")
    assert max(len(line) for line in lines) <= 80


def test_a_run_of_seconds_needs_no_lines() -> None:
    console = _console(is_terminal=False)
    _run(LiveView(console, clock=_clock(0.001)), 1000)
    assert _said(console) == ""


def test_a_resumed_run_goes_on_from_its_step() -> None:
    console = _console(is_terminal=False)
    _run(LiveView(console, clock=_clock(30.0)), 1000, first=550)
    lines = _said(console).splitlines()
    assert [line.split()[1] for line in lines] == ["600", "700", "800", "900"]


def test_the_time_left_is_told_from_the_pace() -> None:
    console = _console(is_terminal=False)
    times = iter([0.0, *[60.0] * 1000])
    _run(LiveView(console, clock=lambda: next(times)), 4)
    # The first step took a minute, and three are to come.
    assert _said(console).splitlines()[0].endswith("  3 min 00 s left")


def test_everything_is_shown_in_a_terminal_of_80_columns() -> None:
    console = _console(is_terminal=True)
    view = LiveView(console, num_stages=3)
    began: list[int] = []
    view._begins = lambda: began.append(1)
    _run(view, 20)
    said = _said(console)
    assert began == [1]
    for words in (
        "20/20",
        "loss 6.",
        "stage 2 of 3   held out 1.5   512 K tokens/s   1.23 K images/s   78.0 GiB",
        "vision      projector   language    embeddings  head",
        "1.23e-5     1.23e-5     1.23e-5     1.23e-5     1.23e-5",
        "4.56e-7     4.56e-7     4.56e-7     4.56e-7     4.56e-7",
    ):
        assert words in said
    # The cursor is back.
    assert said.rfind("\x1b[?25h") > said.rfind("\x1b[?25l")


def test_five_towers_fit_80_columns_and_never_jump() -> None:
    shapes = set()
    for step in (1, 50, 5000):
        lines = status_lines(_logs(step), held_out=0.00123, num_stages=3).plain.splitlines()
        assert max(len(line) for line in lines) <= 79
        shapes.add(tuple(len(line) for line in lines))
    assert len(shapes) == 1


def test_what_is_not_known_is_not_shown() -> None:
    assert status_lines({}, held_out=None, num_stages=1).plain == ""
    logs = {"loss": 1.0, "stage": 1, "learning_rate/head": 1e-3}
    assert status_lines(logs, held_out=None, num_stages=1).plain.splitlines() == [
        "          head",
        "rate      1e-3",
    ]


def test_an_alarm_has_cause_and_remedy_in_80_columns() -> None:
    console = _console(is_terminal=False)
    long = "the gradient norm of vision [bold] is 500 " * 4
    record = {"step": 1200, "seen": long, "cause": "Its rate.", "remedy": "Lower it."}
    console.print(alarm_text(record))
    lines = _said(console).splitlines()
    assert lines[0].startswith("alarm   step 1,200: the gradient norm of vision [bold] is 500")
    assert [line.rstrip() for line in lines[-2:]] == ["cause   Its rate.", "remedy  Lower it."]
    assert max(len(line) for line in lines) <= 80
