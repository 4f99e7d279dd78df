"""How a command starts: it speaks before Keras and TensorFlow are there, and they stay silent."""

import contextlib
import faulthandler
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator

from pipelines.runtime.console import PlainConsole


@contextlib.contextmanager
def starting() -> Iterator[PlainConsole]:
    """Imports Keras and TensorFlow, which takes seconds, and keeps them silent; gives the console to print to.

    With `--debug`, what they say is seen.
    """
    console = PlainConsole()
    # Faster in training. By itself TensorFlow takes it only on processors with VNNI.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with contextlib.nullcontext() if _Native.is_shown else _silent():
        with console.status("Starting TensorFlow"):
            import keras  # noqa: F401
            import tensorflow  # noqa: F401
        yield console


class _Native:
    is_shown = False


def show_native(is_shown: bool) -> None:
    """Says whether the commands of this process show what TensorFlow and other native code write."""
    _Native.is_shown = is_shown


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Drops what native code writes to standard error, for which no log level is enough; what Python writes stays.

    A crash of native code still shows where it came from.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with contextlib.ExitStack() as stack:
        kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, kept)
        stack.callback(os.close, nothing)
        if _is_descriptor_2(sys.stderr):
            sys.stderr.flush()
            options = {"encoding": sys.stderr.encoding, "errors": sys.stderr.errors, "buffering": 1}
            ours = stack.enter_context(os.fdopen(os.dup(kept), "w", **options))
            stack.enter_context(contextlib.redirect_stderr(ours))
        os.dup2(nothing, 2)
        stack.callback(os.dup2, kept, 2)
        if not faulthandler.is_enabled():
            faulthandler.enable(kept)
            stack.callback(faulthandler.disable)
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", module="(keras|tensorflow)")
        yield


def _is_descriptor_2(stream: object) -> bool:
    try:
        return stream.fileno() == 2
    except (AttributeError, io.UnsupportedOperation):
        return False
