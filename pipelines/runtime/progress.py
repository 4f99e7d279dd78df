"""A bar that moves where there is a terminal, and lengths of time in words."""

import contextlib

from rich import progress as rich_progress
from rich.console import Console

from pipelines.runtime.console import PlainConsole


class Bar(rich_progress.Progress):
    """A progress bar that leaves nothing behind; where the output is no terminal, its title and count are the stage.

    Args:
        console: Where to show it.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(
            rich_progress.TextColumn("{task.description}", markup=False),
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._stage = contextlib.ExitStack()

    def start(self) -> None:
        """Shows the bar."""
        super().start()
        if isinstance(self.console, PlainConsole):
            self._stage.enter_context(self.console.stage(self._says))

    def stop(self) -> None:
        """Takes the bar away."""
        super().stop()
        self._stage.close()

    def _says(self) -> str:
        for task in self.tasks[-1:]:
            return f"{task.description}, {task.completed:.0f} of {task.total:.0f}" if task.total else task.description
        return "Working"


def duration(seconds: float) -> str:
    """Returns a length of time in its two largest units.

    Example:
        >>> duration(7.4), duration(192), duration(8100)
        ('7 s', '3 min 12 s', '2 h 15 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, seconds = divmod(whole, 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
