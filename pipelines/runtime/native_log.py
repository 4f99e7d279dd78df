"""What native libraries write to standard error by themselves, kept from the person who runs a command."""

import contextlib
import faulthandler
import os
import sys
from collections.abc import Iterator

SHOW = "MEDKERAS_SHOW_NATIVE_LOG"  # A variable of the environment; `--debug` sets it.


@contextlib.contextmanager
def hidden_native_log() -> Iterator[None]:
    """Within the block, what C++ code writes to standard error is dropped; what Python writes there is not.

    TensorFlow's log level does not hold for its first lines, nor for those of XNNPACK and of the converter. Where the
    process crashes in native code, Python says in which line. With `SHOW` in the environment nothing is dropped.

    Example:
        >>> with hidden_native_log():
        ...     _ = os.write(2, b"I0000 00:00 cudart_stub.cc: ...")
    """
    if os.environ.get(SHOW):
        yield
        return
    sys.stderr.flush()
    shown, kept, nothing = sys.stderr, os.dup(2), os.open(os.devnull, os.O_WRONLY)
    stream = open(kept, "w", buffering=1, encoding=shown.encoding, errors="backslashreplace", closefd=False)
    # A stream that writes to the descriptor is led past it; any other, as a test's, goes its own way already.
    if _descriptor(shown) == 2:
        sys.stderr = stream
    is_first = not faulthandler.is_enabled()
    if is_first:
        faulthandler.enable(stream)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = shown
        os.dup2(kept, 2)
        if is_first:
            faulthandler.disable()
        stream.close()
        os.close(kept)
        os.close(nothing)


def _descriptor(stream: object) -> int | None:
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None
