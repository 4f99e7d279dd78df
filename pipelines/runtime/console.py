"""The console that every command prints to, and the sign of life of a long stage."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

SILENCE = 8.0  # Seconds without a line, after which one says that the work goes on.


class PlainConsole(Console):
    """Prints names as they are: brackets and colons in the name of a class or a file are no markup.

    Without a terminal, each stage has a line, and a long one further lines while nothing else is printed.

    Args:
        **options: What else `rich.console.Console` takes.

    Example:
        >>> PlainConsole().print("[/b] :cat:")
        [/b] :cat:
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)
        self._stages: list[Callable[[], str]] = []
        self._printed = time.monotonic()

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints; see `rich.console.Console.print`."""
        super().print(*objects, **options)
        self._printed = time.monotonic()
        with contextlib.suppress(AttributeError):
            self.file.flush()

    @contextlib.contextmanager
    def status(self, status: Any, **options: Any) -> Iterator[Any]:
        """Says what is being done while a block runs: see `rich.console.Console.status`.

        Example:
            >>> with PlainConsole().status("Reading 3 images"):
            ...     pass
            Reading 3 images
        """
        if self.is_terminal:
            with super().status(Text(status) if isinstance(status, str) else status, **options) as shown:
                yield shown
            return
        started = time.monotonic()
        self.print(status, highlight=False, soft_wrap=True)
        with self.alive(lambda: f"{status}: {time.monotonic() - started:.0f} s so far"):
            yield None

    @contextlib.contextmanager
    def alive(self, say: Callable[[], str]) -> Iterator[None]:
        """Has a line printed whenever the block was silent for some seconds; of blocks within each other, the inner's.

        Args:
            say: What to print then.
        """
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(SILENCE / 16):
                if self._stages[-1] is say and time.monotonic() - self._printed >= SILENCE:
                    self.print(say(), highlight=False, soft_wrap=True)

        self._stages.append(say)
        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._stages.remove(say)
