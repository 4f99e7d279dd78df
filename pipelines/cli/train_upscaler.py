"""The command `train-upscaler`."""

from collections.abc import Mapping
from typing import Any

import typer

from pipelines.cli import options
from pipelines.cli.starting import starting
from pipelines.enhancement.upscaler_config import UpscalerConfig


@options.takes_settings(UpscalerConfig)
def train_upscaler(context: typer.Context, fields: Mapping[str, Any]) -> None:
    """Train an upscaler on one's own images, for `medkeras enhance --upscaler RUN/upscaler`."""
    with starting() as console:
        from pipelines.jobs.train_upscaler import train_upscaler as run_training

        run_training(UpscalerConfig(**fields), console=console)
