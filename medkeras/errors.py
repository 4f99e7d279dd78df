"""The error of whoever gave the input; any other error is a mistake in this package."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """An argument, an option or a file breaks a rule: the message states the rule, then what was received.

    Example:
        >>> raise InputError("`size` must be >= 1. Received: size=0")
        Traceback (most recent call last):
        medkeras.InputError: `size` must be >= 1. Received: size=0
    """


InputError.__module__ = "medkeras"  # Where it is used from, and what a traceback names.


def perhaps(name: object, known: Iterable[str]) -> str:
    """Returns the end of a message on an unknown name: the known one that is most like it, or nothing.

    Args:
        name: What was given.
        known: The names that there are.

    Example:
        >>> perhaps("batchsize", ["batch_size", "epochs"])
        '; perhaps `batch_size`'
        >>> perhaps("x", ["batch_size", "epochs"])
        ''
    """
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; perhaps `{near[0]}`" if near else ""
