"""What an exported file must hold to beside its Keras model: a bound per format and measure."""

import math
from collections.abc import Mapping, Sequence

from medkeras.errors import InputError

Bounds = Mapping[str, Mapping[str, float]]

PLAIN_BOUNDS: dict[str, dict[str, float]] = {
    "saved_model": {"probabilities": 1e-5},
    "litert": {"probabilities": 1e-4, "map": 1e-4},
    "onnx": {"probabilities": 1e-4},
}
QUANTIZED_BOUNDS: dict[str, dict[str, float]] = {
    "litert-float16": {"logits": 2e-2},
    "litert-int8": {"agreement": 0.95, "auc_loss": 0.01},
    "litert-full-int8": {"agreement": 0.9, "auc_loss": 0.02},
}
BOUNDS = PLAIN_BOUNDS | QUANTIZED_BOUNDS
LARGEST = {"probabilities": 1.0, "logits": math.inf, "map": math.inf, "agreement": 1.0, "auc_loss": 1.0}


def merge_bounds(formats: Sequence[str], bounds: Bounds | None = None) -> dict[str, dict[str, float]]:
    """Returns what each format must hold to: its own bounds, changed by the given ones.

    Args:
        formats: Keys of `BOUNDS`.
        bounds: For some of these formats, other bounds: `probabilities`, the largest difference of a probability, at
            most 1; `logits`, that of a logit, divided by the logit where that exceeds 1; `map`, that of a map as a
            share of its highest value, of quantised files its mean; `agreement`, the smallest share of images with the
            same decision, in [0, 1]; of quantised files `auc_loss`, how much of the AUC may be lost, in [0, 1].

    Raises:
        ValueError: If a format or a bound is unknown, out of its range or of another format.

    Example:
        >>> merge_bounds(["litert", "litert-int8"], {"litert-int8": {"agreement": 0.9}})["litert-int8"]
        {'agreement': 0.9, 'auc_loss': 0.01}
        >>> merge_bounds(["litert"], {"litert": {"agreement": 2}})
        Traceback (most recent call last):
        ...
        medkeras.InputError: The bound `agreement` of litert must be in [0, 1]. Received: agreement=2
    """
    if unknown := [name for name in formats if name not in BOUNDS]:
        raise InputError(f"A format is one of {', '.join(BOUNDS)}. Received: {unknown[0]!r}")
    for name, own in (bounds or {}).items():
        if name not in formats:
            raise InputError(f"A bound is of a format that is exported. Received: a bound of {name!r}")
        known = [measure for measure in LARGEST if name in QUANTIZED_BOUNDS or measure != "auc_loss"]
        for measure, value in own.items():
            if measure not in known:
                raise InputError(f"The bounds of {name} are among {', '.join(known)}. Received: {measure!r}")
            if not 0 <= value <= LARGEST[measure]:
                most = f"in [0, {LARGEST[measure]:g}]" if LARGEST[measure] < math.inf else ">= 0"
                raise InputError(f"The bound `{measure}` of {name} must be {most}. Received: {measure}={value}")
    return {name: BOUNDS[name] | dict((bounds or {}).get(name, {})) for name in formats}


def missed(found: Mapping[str, float | None], bounds: Mapping[str, float]) -> list[str]:
    """Returns the measures that miss their bound; None, where something cannot be measured, misses none.

    Args:
        found: What was measured.
        bounds: See `merge_bounds`.

    Example:
        >>> missed({"agreement": 0.8, "auc_loss": None}, {"agreement": 0.9, "auc_loss": 0.01})
        ['agreement']
    """

    def holds(measure: str, bound: float) -> bool:
        value = found.get(measure)
        return value is None or (value >= bound if measure == "agreement" else value <= bound)

    return [measure for measure, bound in bounds.items() if not holds(measure, bound)]


def check_bounds(name: str, found: Mapping[str, float | None], bounds: Mapping[str, float], *, hint: str = "") -> None:
    """Checks that a file holds to its bounds.

    Args:
        name: Of its format.
        found: What was measured.
        bounds: See `merge_bounds`.
        hint: What else is known of the cause.

    Raises:
        ValueError: If it does not.

    Example:
        >>> check_bounds("litert-int8", {"agreement": 0.8}, {"agreement": 0.9})
        Traceback (most recent call last):
        ...
        medkeras.InputError: The litert-int8 export must have agreement of at least 0.9. Received: agreement=0.8
    """
    rules = {"agreement": "of at least {:g}", "auc_loss": "of at most {:g}"}
    for measure in missed(found, bounds):
        rule = rules.get(measure, "within {:g} of Keras").format(bounds[measure])
        raise InputError(
            f"The {name} export must have {measure} {rule}. Received: {measure}={found[measure]:.3g}{hint}"
        )
