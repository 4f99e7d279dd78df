"""What the benchmarks that train have in common: their arguments, and the configuration of a run."""

import argparse
import pathlib
import re
from typing import Any

import yaml

from pipelines.training.config import TrainConfig


def parser_of(description: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """Returns the parser of what each training needs; `defaults` change its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--runs", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--channels", type=int)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-3)
    parser.add_argument("--augment", default="strong")
    parser.add_argument("--balance", default="class-weights")
    parser.add_argument("--monitor", default="auc")
    parser.add_argument("--source-options", default="", help="key=value,key=value")
    parser.set_defaults(**defaults)
    return parser


def options_of(text: str) -> dict[str, Any]:
    """Reads `key=value,key=[value,value]`."""
    parts = re.split(r",(?![^\[]*\])", text)
    return {key: yaml.safe_load(value) for key, _, value in (part.partition("=") for part in parts if part)}


def config_of(arguments: argparse.Namespace, model: str, *, run: str, seed: int, **changes: Any) -> TrainConfig:
    """Returns the configuration of one run; its folder is made of its name and its seed."""
    settings = {
        "data": arguments.data,
        "source_options": options_of(arguments.source_options),
        "leakage": "warn",
        "model": model,
        "run": str(arguments.runs / f"{run}_{seed}"),
        "image_size": arguments.image_size,
        "channels": arguments.channels,
        "batch_size": arguments.batch_size,
        "augment": arguments.augment,
        "balance": arguments.balance,
        "monitor": arguments.monitor,
        "epochs": arguments.epochs,
        "learning_rate": arguments.learning_rate,
        "weight_decay": arguments.weight_decay,
        "seed": seed,
    }
    return TrainConfig(**settings | changes)
