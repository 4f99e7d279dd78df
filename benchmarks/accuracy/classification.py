"""Trains models on one data set with several seeds and equal budgets, and prints a table of test measures.

    python benchmarks/accuracy/classification.py --data ../shared/data/pneumoniamnist/pneumoniamnist_rebuilt.npz \
        --models focusnet2d focusnet2d:integration=gru plain_resnet --epochs 30 --seeds 3 --runs runs/pneumonia

Each run is a run folder of the train and evaluate jobs, so a stopped benchmark goes on with the same command. With
--against MODEL, the measures of each other model less those of that one are given as well: the probabilities are means
over the seeds, the 95 % intervals a paired bootstrap over patients or duplicate groups.
The best epoch is chosen on validation. The plain baseline is in `baselines.py`.
"""

import os
import pathlib
import sys
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As the command line does.

import numpy as np
import pandas as pd
from rich.console import Console

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import baselines  # noqa: F401
from experiment import config_of, options_of, parser_of

from medkeras.evaluation import paired_bootstrap
from pipelines.io.run_folder import RunFolder
from pipelines.jobs.evaluate import evaluate_run
from pipelines.jobs.train import train


def config_for(arguments, model, seed):
    """Returns the configuration of one run."""
    name, _, options = model.partition(":")
    run = model.replace(":", "-").replace(",", "-")
    return config_of(arguments, name, run=run, seed=seed, model_options=options_of(options))


def run_one(arguments, model, seed):
    """Trains and evaluates one model with one seed; returns its row of the table."""
    config = config_for(arguments, model, seed)
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


def predictions(arguments, model):
    """Returns the table of the test images, and their probabilities, the mean over the seeds."""
    runs = [RunFolder(config_for(arguments, model, seed).run) for seed in range(arguments.seeds)]
    tables = [pd.read_csv(run.path / "predictions.csv") for run in runs]
    columns = [column for column in tables[0] if column.startswith("probability_")]
    return tables[0], np.mean([table[columns].to_numpy() for table in tables], axis=0)


def differences(arguments, first, second):
    """Returns the measures of the first model less those of the second, with their intervals."""
    (table, ours), (_, theirs) = (predictions(arguments, model) for model in (first, second))
    classes = [c.removeprefix("probability_") for c in table if c.startswith("probability_")]
    labels, task = table["label"].map(classes.index).to_numpy(), "binary" if len(classes) == 2 else "multiclass"
    pairs = {"task": task, "groups": table["patient"]}
    found = {m: paired_bootstrap(m, labels, ours, theirs, **pairs).to_dict() for m in ("auc", "accuracy")}
    return [{"model": first, "less": second, "measure": measure, **interval} for measure, interval in found.items()]


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--models", nargs="+", required=True, help="name, or name:key=value,key=value")
    parser.add_argument("--against", help="a model of --models that the others are compared with")
    arguments = parser.parse_args()
    rows = [run_one(arguments, m, s) for s in range(arguments.seeds) for m in arguments.models]
    frame = pd.DataFrame(rows)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    frame.to_csv(arguments.runs / "results.csv", index=False)
    print(frame.round(4).to_string())
    measures = ["auc", "accuracy", "macro_f1", "minutes"]
    print(frame.groupby("model", sort=False)[measures].agg(["mean", "min", "max"]).round(3).to_string())
    if arguments.against:
        others = [model for model in arguments.models if model != arguments.against]
        rows = [row for model in others for row in differences(arguments, model, arguments.against)]
        print(pd.DataFrame(rows).round(4).to_string())


if __name__ == "__main__":
    main()
