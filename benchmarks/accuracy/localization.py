"""Trains DualAttendMed with and without AADA, and a plain backbone, and compares what they find with expert masks.

    python benchmarks/tables/busi.py --data ../shared/data/busi --out runs/busi.csv
    python benchmarks/accuracy/localization.py --data runs/busi.csv \
        --source-options mask_column=mask,root=../shared/data/busi \
        --image-size 128 --epochs 12 --seeds 3 --runs runs/busi_attention

With AADA an image goes through the network three times per epoch. So without it there are two budgets: as many epochs,
hence as many updates, and as many passes, which are three times the epochs; the plain backbone has the passes, and so
has, if it is asked for, DualAttendMed trained by cross-entropy alone, without its other losses. Nobody
sees a mask in training; the threshold of a map is chosen on validation masks. Each run is a run folder, so a stopped
benchmark goes on with the same command. Differences are paired: over the same test images, the seeds' probabilities
and scores averaged first, drawn by patient or duplicate group. `iou_..._mirrored` is that of the mean over the four
mirror images.
"""

import argparse
import itertools
import os
import pathlib
import sys
from typing import Any, NamedTuple

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As the command line does.

import numpy as np
import pandas as pd
from rich.console import Console

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import baselines  # noqa: F401
from experiment import config_of, parser_of

from medkeras.evaluation import paired_bootstrap
from medkeras.evaluation.statistics.means import mean_interval
from pipelines.io.run_folder import RunFolder
from pipelines.jobs.evaluate import evaluate_run
from pipelines.jobs.localize import localize_run
from pipelines.jobs.train import train
from pipelines.training.config import TrainConfig


class Row(NamedTuple):
    """A way to train: the model, the options of training by attention, times the epochs, the map."""

    model: str
    options: dict[str, Any] | None
    times: int
    map: str


AADA, ALONE = "with AADA", "cross-entropy alone"
ROWS = {
    AADA: Row("dualattendmed_tiny", {}, 1, "attention"),
    "without, same epochs": Row("dualattendmed_tiny", {"views": []}, 1, "attention"),
    "without, same passes": Row("dualattendmed_tiny", {"views": []}, 3, "attention"),
    ALONE: Row("dualattendmed_tiny", None, 3, "attention"),
    "plain backbone, Grad-CAM": Row("plain_backbone", None, 3, "class_map"),
}
SCORES = ("iou", "dice", "pointing", "energy")


def config(arguments: argparse.Namespace, name: str, seed: int) -> TrainConfig:
    row = ROWS[name]
    training = "plain" if row.options is None else "attention"
    run, epochs = name.replace(", ", "_").replace(" ", "_"), arguments.epochs * row.times
    changes = {"training": training, "training_options": row.options or {}, "epochs": epochs}
    return config_of(arguments, row.model, run=run, seed=seed, **changes)


def run_one(arguments: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Trains, evaluates and localizes; returns the row of the table."""
    quiet = Console(quiet=True)
    run = train(config(arguments, name, seed), console=Console())
    measures = evaluate_run(run.path, console=quiet)
    maps = localize_run(run.path, console=quiet)["maps"]
    row = {"model": name, "seed": seed, "auc": measures["macro"]["auc"], "accuracy": measures["accuracy"]}
    row |= {score: maps[ROWS[name].map][score]["value"] for score in SCORES}
    row |= {f"iou_{other}": found["iou"]["value"] for other, found in maps.items()}
    mirrored = localize_run(run.path, mirrored=True, samples=0, console=quiet)["maps"]
    row |= {f"iou_{other}_mirrored": found["iou"]["value"] for other, found in mirrored.items()}
    Console().print(row)
    return row


def predictions(arguments: argparse.Namespace, name: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Returns the table of the test images, and their probabilities, the mean over the seeds."""
    tables = [
        pd.read_csv(RunFolder(config(arguments, name, seed).run) / "predictions.csv") for seed in range(arguments.seeds)
    ]
    columns = [column for column in tables[0] if column.startswith("probability_")]
    return tables[0], np.mean([table[columns].to_numpy() for table in tables], axis=0)


def scores(arguments: argparse.Namespace, name: str, kind: str) -> pd.DataFrame:
    """Returns the scores of a map of each test image with a lesion, the mean over the seeds."""
    tables = [
        pd.read_csv(RunFolder(config(arguments, name, seed).run) / "localization/localization.csv")
        for seed in range(arguments.seeds)
    ]
    chosen = [table[table["map"] == kind].set_index("file") for table in tables]
    return sum(table[list(SCORES)] for table in chosen) / len(chosen)


def compare(arguments: argparse.Namespace, first: str, second: str) -> list[dict[str, Any]]:
    """Returns the paired differences of the first less the second, with 95 % intervals."""
    (table, ours), (_, theirs) = (predictions(arguments, name) for name in (first, second))
    classes = [c.removeprefix("probability_") for c in table if c.startswith("probability_")]
    labels, task = table["label"].map(classes.index).to_numpy(), "binary" if len(classes) == 2 else "multiclass"
    rows = [
        {"measure": m, **paired_bootstrap(m, labels, ours, theirs, task=task, groups=table["patient"]).to_dict()}
        for m in ("auc", "accuracy")
    ]
    kinds = {"": [ROWS[name].map for name in (first, second)], " of evidence_map": ["evidence_map"] * 2}
    for suffix, (own, other) in kinds.items():
        difference = scores(arguments, first, own) - scores(arguments, second, other)
        groups = table.set_index("id")["patient"].loc[difference.index].to_numpy()
        rows += [{"measure": s + suffix, **mean_interval(difference[s], groups=groups).to_dict()} for s in SCORES]
    return [{"first": first, "less": second, **row} for row in rows]


def main() -> None:
    parser = parser_of(__doc__, epochs=12, batch_size=16, learning_rate=1e-3, augment="standard")
    parser.add_argument("--models", nargs="+", default=[n for n in ROWS if n != ALONE], choices=ROWS)
    arguments = parser.parse_args()
    rows = [run_one(arguments, name, seed) for seed in range(arguments.seeds) for name in arguments.models]
    frame = pd.DataFrame(rows)
    frame.to_csv(arguments.runs / "results.csv", index=False)
    print(frame.drop(columns="seed").groupby("model", sort=False).agg(["mean", "min", "max"]).round(3).T.to_string())
    pairs = itertools.combinations(arguments.models, 2)
    differences = pd.DataFrame([row for first, second in pairs for row in compare(arguments, first, second)])
    differences.to_csv(arguments.runs / "differences.csv", index=False)
    print(differences.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
