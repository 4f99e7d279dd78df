"""Trains models on one data set with several seeds and equal budgets, and prints a table of test measures.

    python benchmarks/classification.py --data ../shared/data/pneumoniamnist/pneumoniamnist_rebuilt.npz \
        --models focusnet2d focusnet2d:integration=gru plain_resnet --epochs 30 --seeds 3 --runs runs/pneumonia

Each run is a run folder of the train and evaluate jobs, so a stopped benchmark goes on with the same command.
The best epoch is chosen on validation. The plain baseline is in `baselines.py`.
"""

import argparse
import pathlib
import sys
import time

import pandas as pd
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parent))


def variant(text):
    """Splits `name:key=value,key=value` into the name and its options."""
    name, _, rest = text.partition(":")
    return name, {k: yaml.safe_load(v) for k, _, v in (part.partition("=") for part in rest.split(",") if part)}


def run_one(arguments, model, seed):
    """Trains and evaluates one model with one seed; returns its row of the table."""
    from rich.console import Console

    from pipelines.jobs.config import TrainConfig
    from pipelines.jobs.evaluate import evaluate_run
    from pipelines.jobs.train import train

    name, options = variant(model)
    config = TrainConfig(
        data=arguments.data,
        leakage="warn",
        model=name,
        run=str(arguments.runs / f"{model.replace(':', '-').replace(',', '-')}_{seed}"),
        image_size=arguments.image_size,
        channels=arguments.channels,
        batch_size=arguments.batch_size,
        augment=arguments.augment,
        balance=arguments.balance,
        monitor=arguments.monitor,
        epochs=arguments.epochs,
        learning_rate=arguments.learning_rate,
        weight_decay=arguments.weight_decay,
        model_options=options,
        source_options=variant(":" + arguments.source_options)[1],
        seed=seed,
    )
    started = time.monotonic()
    console = Console()
    train(config, console=console)
    seconds = time.monotonic() - started
    metrics = evaluate_run(config.run, console=Console(quiet=True))
    row = {"model": model, "seed": seed, "auc": metrics["macro"]["auc"], "accuracy": metrics["accuracy"]}
    row |= {"macro_f1": metrics["macro"]["f1"], "minutes": seconds / 60}
    for measure, interval in metrics["intervals"].items():
        row |= {f"{measure}_low": interval["low"], f"{measure}_high": interval["high"]}
    console.print(row)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--models", nargs="+", required=True)
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
    arguments = parser.parse_args()

    import baselines  # noqa: F401

    rows = [run_one(arguments, m, s) for s in range(arguments.seeds) for m in arguments.models]
    frame = pd.DataFrame(rows)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    frame.to_csv(arguments.runs / "results.csv", index=False)
    print(frame.round(4).to_string())
    measures = ["auc", "accuracy", "macro_f1", "minutes"]
    print(frame.groupby("model", sort=False)[measures].agg(["mean", "min", "max"]).round(3).to_string())


if __name__ == "__main__":
    main()
