"""What an exported run answers beside `serving_default`, as its model and its preprocessing allow."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from medkeras.errors import InputError
from medkeras.export import available_signatures, graph_step
from medkeras.models import ImageClassifier
from pipelines.preprocess import parse


def choose_signatures(
    model: ImageClassifier,
    preprocess: Sequence[str],
    *,
    wanted: Sequence[str] | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Returns the arguments `signatures` and `steps` of `medkeras.export.export_saved_model`.

    Image files are served only where every step of the run's preprocessing has a form in a graph: a model must see
    them as it saw those of its training.

    Args:
        model: The model of the run.
        preprocess: The steps of the run, see `pipelines.preprocess.parse`.
        wanted: The signatures to have; by default all that can be, and the console says why the others cannot.
        console: Where to print; nothing is printed by default.

    Raises:
        ValueError: If a wanted signature is unknown, or cannot be.

    Example:
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2, dropout=0.0)
        >>> choose_signatures(model, ["clahe"])["signatures"]
        ['explain']
        >>> choose_signatures(model, ["clahe"], wanted=["serve_bytes"])
        Traceback (most recent call last):
        ...
        medkeras.InputError: There is no signature serve_bytes: the step clahe has no form in a graph. Received: ...
    """
    reasons = available_signatures(model)
    steps = [graph_step(step.name, dataclasses.asdict(step)) for step in map(parse, preprocess)]
    if None in steps:
        reasons["serve_bytes"] = f"the step {preprocess[steps.index(None)]} has no form in a graph"
    for name in wanted or ():
        if name not in reasons:
            raise InputError(f"A signature is one of {', '.join(reasons)}. Received: {list(wanted)}")
        if reasons[name]:
            raise InputError(f"There is no signature {name}: {reasons[name]}. Received: {list(wanted)}")
    for name, reason in reasons.items():
        if reason and wanted is None and console:
            console.print(f"no signature {name}: {reason}", highlight=False, soft_wrap=True)
    chosen = [name for name in reasons if not reasons[name] and (wanted is None or name in wanted)]
    return {"signatures": chosen, "steps": steps if "serve_bytes" in chosen else ()}
