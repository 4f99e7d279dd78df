"""The console that every command prints to: names as they are, and a sign of life at least every ten seconds."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

SILENCE_SECONDS = 8.0  # After which a line says what is being done.


class PlainConsole(Console):
    """Prints names as they are: brackets and colons in the name of a class or a file are no markup.

    Args:
        **options: What else `rich.console.Console` takes.

    Example:
        >>> PlainConsole().print("[/b] :cat:")
        [/b] :cat:
        >>> with PlainConsole().status("Loading the model"):
        ...     pass
        Loading the model
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)
        self._stages: list[tuple[Callable[[], str], float]] = []
        self._printed = time.monotonic()

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints; see `rich.console.Console.print`."""
        self._printed = time.monotonic()
        super().print(*objects, **options)

    @contextlib.contextmanager
    def status(self, status: str, **options: Any) -> Iterator[None]:
        """Shows what is being done, by a spinner in a terminal, else by a line."""
        with self.stage(lambda: status):
            if self.is_terminal:
                with super().status(Text(status), **options):
                    yield
            else:
                self.print(status, highlight=False, soft_wrap=True)
                yield

    @contextlib.contextmanager
    def stage(self, says: Callable[[], str]) -> Iterator[None]:
        """Has `alive` name what is being done in the block, in words that may change."""
        self._stages.append((says, time.monotonic()))
        try:
            yield
        finally:
            self._stages.pop()

    @contextlib.contextmanager
    def alive(self, *, silence: float = SILENCE_SECONDS) -> Iterator[None]:
        """Within the block, a line says what is being done whenever nothing was printed for so many seconds.

        A terminal has spinners and bars for that.

        Example:
            >>> console = PlainConsole()
            >>> with console.alive(silence=0.05), console.status("Converting"):
            ...     time.sleep(0.08)
            Converting
            Converting: 0 s so far
        """
        ended = threading.Event()

        def run() -> None:
            while not ended.wait(max(0.01, self._printed + silence - time.monotonic())):
                if time.monotonic() - self._printed >= silence:
                    self._say_stage()

        thread = threading.Thread(target=run, daemon=True)
        if not self.is_terminal:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            if thread.is_alive():
                thread.join()

    def _say_stage(self) -> None:
        for says, since in self._stages[-1:] or [(lambda: "Working", self._printed)]:
            self.print(f"{says()}: {time.monotonic() - since:.0f} s so far", highlight=False, soft_wrap=True)
