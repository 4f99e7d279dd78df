"""What really went wrong inside a tf.data pipeline: TensorFlow reports an error of our Python code as its own."""

import threading
from collections.abc import Callable
from typing import Any

_found: list[Exception] = []
_lock = threading.Lock()


def noting(read: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that a dataset calls, which notes the error that it raises.

    Example:
        >>> noting(int)("7")
        7
    """

    def noted(*arguments: Any) -> Any:
        try:
            return read(*arguments)
        except Exception as error:
            with _lock:
                _found.append(error)
            raise

    return noted


def original(error: Exception) -> Exception:
    """Returns the first error that was noted, if the given one is TensorFlow's report of it, else the given one.

    TensorFlow's report holds the text of the error it reports. What was noted before is forgotten.

    Args:
        error: What a dataset, or a function that iterates one, has raised.

    Example:
        >>> original(KeyError("a"))
        KeyError('a')
    """
    with _lock:
        found = next((one for one in _found if str(one) and str(one) in str(error)), error)
        _found.clear()
    return found if type(error).__module__.startswith("tensorflow") else error
