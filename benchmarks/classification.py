"""Trains models on one data set with several seeds and equal budgets, and prints a table of test measures.

    python benchmarks/classification.py --data ../shared/data/pneumoniamnist/pneumoniamnist_rebuilt.npz \
        --models focusnet2d focusnet2d:integration=gru plain_resnet --epochs 30 --seeds 3 --runs runs/pneumonia

Each run is a run folder of the train and evaluate jobs, so a stopped benchmark goes on with the same command.
The best epoch is chosen on validation. The plain baseline is in `baselines.py`.
"""

import os
import pathlib
import sys
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As the command line does.

import pandas as pd
from rich.console import Console

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import baselines  # noqa: F401
from training import config_of, options_of, parser_of

from pipelines.jobs.evaluate import evaluate_run
from pipelines.jobs.train import train


def run_one(arguments, model, seed):
    """Trains and evaluates one model with one seed; returns its row of the table."""
    name, _, options = model.partition(":")
    run = model.replace(":", "-").replace(",", "-")
    config = config_of(arguments, name, run=run, seed=seed, model_options=options_of(options))
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
    parser = parser_of(__doc__)
    parser.add_argument("--models", nargs="+", required=True, help="name, or name:key=value,key=value")
    arguments = parser.parse_args()
    rows = [run_one(arguments, m, s) for s in range(arguments.seeds) for m in arguments.models]
    frame = pd.DataFrame(rows)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    frame.to_csv(arguments.runs / "results.csv", index=False)
    print(frame.round(4).to_string())
    measures = ["auc", "accuracy", "macro_f1", "minutes"]
    print(frame.groupby("model", sort=False)[measures].agg(["mean", "min", "max"]).round(3).to_string())


if __name__ == "__main__":
    main()
