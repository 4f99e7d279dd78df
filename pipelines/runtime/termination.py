"""How a job ends when the system asks it to."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


class Terminated(Exception):
    """The system asked the process to end, and its state is saved."""


@contextlib.contextmanager
def on_sigterm(note: Callable[[], None]) -> Iterator[None]:
    """Within the block, SIGTERM calls a function instead of ending the process.

    Outside of the main thread, which alone can be told of signals, SIGTERM stays as it is.

    Args:
        note: What to call; it should be quick, and must leave a running step of a training alone.

    Example:
        >>> import os
        >>> with on_sigterm(lambda: print("asked to end")):
        ...     os.kill(os.getpid(), signal.SIGTERM)
        asked to end
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: note())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
