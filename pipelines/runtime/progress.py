"""How far a job has come: a moving bar in a terminal, elsewhere a line now and then."""

import contextlib
from collections.abc import Iterator

from rich import progress as rich_progress
from rich.console import Console

from pipelines.runtime.console import PlainConsole


@contextlib.contextmanager
def bar(console: Console) -> Iterator[rich_progress.Progress]:
    """Gives a progress bar that leaves nothing behind; where the output is no terminal, lines of `PlainConsole.alive`.

    Example:
        >>> with bar(Console(quiet=True)) as moving:
        ...     row = moving.add_task("Reading", total=3)
        ...     moving.advance(row)
        ...     progress_line(moving)
        'Reading: 1 of 3'
    """
    moving = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    speaks = isinstance(console, PlainConsole) and not console.is_terminal
    with moving, console.alive(lambda: progress_line(moving)) if speaks else contextlib.nullcontext():
        yield moving


def progress_line(moving: rich_progress.Progress) -> str:
    """Returns what the newest row of a bar shows, as a line."""
    if not moving.tasks:
        return "Starting"
    row = moving.tasks[-1]
    of = "" if row.total is None else f" of {row.total:.0f}"
    return f"{row.description}: {row.completed:.0f}{of}"
