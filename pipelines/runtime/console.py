"""The console that every command prints to."""

from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text


class PlainConsole(Console):
    """Prints names as they are: brackets and colons in the name of a class or a file are no markup.

    Args:
        **options: What else `rich.console.Console` takes.

    Example:
        >>> PlainConsole().print("[/b] :cat:")
        [/b] :cat:
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def status(self, status: Any, **options: Any) -> Status:
        """Shows what is being done; see `rich.console.Console.status`."""
        return super().status(Text(status) if isinstance(status, str) else status, **options)
