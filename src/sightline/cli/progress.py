"""A count that grows while somebody watches; a few lines, or nothing, where nobody does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_NUM_LINES = 10


@contextmanager
def counted(
    console: Console, what: str, *, total: int | None = None, done: int = 0, tells: bool = True
) -> Iterator[Callable[[int], None]]:
    """Show how far something is.

    Args:
        console: Where.
        what: What is done.
        total: How much there is; None where it is not known, and only a terminal shows a count.
        done: How much was done before.
        tells: Whether lines are printed where nobody watches.

    Yields:
        Told how much more is done.
    """
    if not console.is_terminal:
        yield _lines(console, what, total, done) if tells else lambda count: None
        return
    columns = [TextColumn(what), BarColumn(bar_width=20), MofNCompleteColumn()]
    with Progress(
        *columns, TimeRemainingColumn(compact=True), console=console, transient=True
    ) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda count: bar.advance(task, count)


def _lines(console: Console, what: str, total: int | None, done: int) -> Callable[[int], None]:
    """A line at every tenth of what is known in number."""

    def advance(count: int) -> None:
        nonlocal done
        before, done = done, done + count
        if total and _NUM_LINES * done // total > _NUM_LINES * before // total:
            console.print(f"{what}: {done:,} of {total:,}")

    return advance
