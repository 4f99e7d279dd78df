"""The demonstration: the whole way once, on images that need no download and whose truth is known."""

import os
import pathlib

from rich.console import Console

from pipelines.jobs.evaluate import evaluate_run
from pipelines.jobs.explain import explain_run
from pipelines.jobs.export import export_run
from pipelines.jobs.train import train
from pipelines.training.config import TrainConfig

EXPLAINED = 6


def demo(out: str | os.PathLike = "demo", *, seed: int = 0, console: Console | None = None) -> pathlib.Path:
    """Trains, evaluates, explains and exports a small model on phantom images, in a few minutes on two cores.

    Called again, it continues what was interrupted and repeats the rest.

    Args:
        out: Folder of everything it makes: `run/`, `maps/`, `saved_models/`.
        seed: Seed of the training.
        console: Where to print; nothing is printed by default.

    Returns:
        The folder.
    """
    console, out = console or Console(quiet=True), pathlib.Path(out)
    config = TrainConfig(
        data="phantom",
        model="focusnet2d",
        run=str(out / "run"),
        image_size=48,
        source_options={"images": 480},
        epochs=12,
        learning_rate=2e-3,
        seed=seed,
    )
    console.rule("1. Train")
    run = train(config, console=console)
    console.rule("2. Evaluate")
    evaluate_run(run.path, console=console)
    console.rule("3. Explain")
    explain_run(run.path, out=out / "maps", samples=EXPLAINED, seed=seed, console=console)
    console.rule("4. Export")
    export_run(run.path, out / "saved_models", name="phantom", console=console)
    console.rule("Where to look")
    for what, place in (
        ("measures", run / "metrics.json"),
        ("curves", run / "figures"),
        ("pictures of what it saw", out / "maps"),
        ("model to serve", out / "saved_models" / "phantom"),
    ):
        console.print(f"{what:24}{place}", highlight=False, soft_wrap=True)
    return out
