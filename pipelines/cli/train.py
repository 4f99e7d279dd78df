"""The command `train`."""

from collections.abc import Mapping
from typing import Any

import typer

from medkeras.errors import InputError
from pipelines.cli import options
from pipelines.cli.starting import starting
from pipelines.training.config import TrainConfig


@options.takes_settings(TrainConfig, optional=("model",))
def train(context: typer.Context, fields: Mapping[str, Any]) -> None:
    """Train a model, or continue a training that was interrupted."""
    if fields["recipe"] is None and fields["model"] is None:
        raise InputError("A training needs --model, or a --recipe that names one. Received: neither")
    # At once, but for the steps, whose names take the imports that follow, and what stands in a recipe.
    later = {"preprocess": (), "train_preprocess": None, "model": fields["model"] or ""}
    TrainConfig(**fields | later | ({} if fields["recipe"] is None else {"training_options": {}}))
    with starting() as console:
        from pipelines.jobs.train import train as run_training

        if fields["recipe"] is not None:
            fields = options.over_recipe(fields["recipe"], fields, given=options.given(context))
        run_training(TrainConfig(**fields), console=console)
