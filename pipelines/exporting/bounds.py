"""The bounds of exported files, as a command line writes them."""

from collections.abc import Sequence

from medkeras.errors import InputError


def parse_bounds(texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """Returns the bounds for `medkeras.export.bounds.merge_bounds` that some texts stand for.

    Args:
        texts: Each `<format>.<bound>=<number>`.

    Raises:
        ValueError: If a text is not of this form.

    Example:
        >>> parse_bounds(["litert-int8.agreement=0.9", "litert-int8.auc_loss=0.02"])
        {'litert-int8': {'agreement': 0.9, 'auc_loss': 0.02}}
    """
    bounds: dict[str, dict[str, float]] = {}
    for text in texts:
        place, _, value = text.partition("=")
        form, _, name = place.partition(".")
        try:
            number = float(value)
        except ValueError as error:
            raise InputError(f"A bound is <format>.<bound>=<number>. Received: {text!r}") from error
        bounds.setdefault(form, {})[name] = number
    return bounds
