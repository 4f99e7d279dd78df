"""How a command starts: a first line at once, then Keras and TensorFlow in silence."""

import contextlib
import os
from collections.abc import Iterator

from pipelines.runtime.console import PlainConsole
from pipelines.runtime.native_log import hidden_native_log


@contextlib.contextmanager
def starting() -> Iterator[PlainConsole]:
    """Imports Keras and TensorFlow, which takes seconds; gives the console to print to while the command runs."""
    console = PlainConsole()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Faster in training. By itself TensorFlow takes it only on processors with VNNI.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with hidden_native_log(), console.alive():
        with console.status("Starting TensorFlow"):
            import keras  # noqa: F401
            import tensorflow

            tensorflow.get_logger().setLevel("ERROR")
        yield console
