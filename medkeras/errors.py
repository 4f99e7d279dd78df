"""The error of whoever gave the input; any other error is a mistake in this package."""


class InputError(ValueError):
    """An argument, an option or a file breaks a rule: the message states the rule, then what was received.

    Example:
        >>> raise InputError("`size` must be >= 1. Received: size=0")
        Traceback (most recent call last):
        medkeras.InputError: `size` must be >= 1. Received: size=0
    """


InputError.__module__ = "medkeras"  # Where it is used from, and what a traceback names.
