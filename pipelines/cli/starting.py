"""How a command starts: Keras and TensorFlow in silence, and a console to print to."""

import contextlib
import os
import sys
from collections.abc import Iterator

from rich.console import Console

from pipelines.runtime.console import PlainConsole


@contextlib.contextmanager
def starting() -> Iterator[Console]:
    """Imports Keras and TensorFlow, which takes seconds, in silence; gives the console to print to."""
    console = PlainConsole()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Faster in training. By itself TensorFlow takes it only on processors with VNNI.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with console.status("Starting TensorFlow"), _silent_native_log():
        import keras  # noqa: F401
        import tensorflow

        tensorflow.get_logger().setLevel("ERROR")
    yield console


@contextlib.contextmanager
def _silent_native_log() -> Iterator[None]:
    """Drops what the C++ side writes to standard error while it starts, before any log level holds."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
