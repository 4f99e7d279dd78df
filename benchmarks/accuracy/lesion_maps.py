"""Trains models by labels alone and measures what each method of explanation finds of the lesions that experts drew.

    python benchmarks/tables/busi.py --data ../shared/data/busi --out runs/busi.csv
    python benchmarks/accuracy/lesion_maps.py --data runs/busi.csv \
        --source-options mask_column=mask,root=../shared/data/busi \
        --image-size 128 --epochs 24 --seeds 2 --models dualattendmed_tiny dcat_small vit_tiny --runs runs/lesion_maps

Thresholds are chosen on validation masks, for each run and map. DualAttendMed is trained with its composite loss,
without AADA. The scores of an image are averaged over the seeds; intervals are 95 %, by bootstrap over patients or
duplicate groups. Each run is a run folder, so a stopped benchmark goes on with the same command.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As the command line does.

import pandas as pd
from rich.console import Console

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from experiment import config_of, parser_of

from medkeras.evaluation.statistics.means import mean_interval
from medkeras.explain import map_names
from pipelines.inference.trained_model import load_model
from pipelines.io.run_folder import RunFolder
from pipelines.jobs.evaluate import evaluate_run
from pipelines.jobs.localize import localize_run
from pipelines.jobs.train import train
from pipelines.training.config import TrainConfig

MAPS = (
    "attention",
    "priority",
    "native_attention",
    "attention_rollout",
    "gradient_rollout",
    "grad_cam",
    "grad_cam_plus_plus",
    "layer_cam",
    "hires_cam",
    "occlusion",
    "smooth_grad",
    "integrated_gradients",
)
SCORES = ("iou", "dice", "pointing", "energy")
TRAINING = {"dualattendmed": {"training": "attention", "training_options": {"views": []}}}


def config(arguments: argparse.Namespace, model: str, seed: int) -> TrainConfig:
    return config_of(arguments, model, run=model, seed=seed, **TRAINING.get(model.split("_")[0], {}))


def run_one(arguments: argparse.Namespace, model: str, seed: int) -> pd.DataFrame:
    """Trains, evaluates and localizes what is not done yet; returns the scores of each image and map."""
    run = RunFolder(train(config(arguments, model, seed), console=Console()).path)
    measures = evaluate_run(run.path, console=Console(quiet=True))
    known = map_names(load_model(run))
    wanted = [name for name in arguments.maps if name in known]
    path = run / "localization/localization.csv"
    if not path.is_file() or not set(wanted) <= set(pd.read_csv(path)["map"]):
        localize_run(run.path, maps=wanted, samples=arguments.samples, console=Console())
    return pd.read_csv(path).assign(model=model, seed=seed, auc=measures["macro"]["auc"])


def row(scores: pd.DataFrame) -> dict[str, str | float]:
    """Returns the measures of one model and map."""
    images = scores.groupby("file").agg({"patient": "first", "lesion_share": "first"} | dict.fromkeys(SCORES, "mean"))
    intervals = {name: str(mean_interval(images[name], groups=images["patient"].to_numpy())) for name in SCORES}
    seeds = scores.groupby("seed")["iou"].mean()
    return {"images": len(images), "seeds": len(seeds), "share": round(images["lesion_share"].mean(), 3)} | intervals


def main() -> None:
    parser = parser_of(__doc__, epochs=24, seeds=2, batch_size=16, learning_rate=1e-3, augment="standard")
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--maps", nargs="+", default=MAPS)
    parser.add_argument("--samples", type=int, default=12, help="Images to draw.")
    arguments = parser.parse_args()
    found = [run_one(arguments, model, seed) for seed in range(arguments.seeds) for model in arguments.models]
    scores = pd.concat(found, ignore_index=True)
    print(scores.drop_duplicates(["model", "seed"])[["model", "seed", "auc"]].round(3).to_string(index=False))
    table = [
        {"model": model, "map": name} | row(own)
        for model in arguments.models
        for name, own in scores[scores["model"] == model].groupby("map", sort=False)
    ]
    frame = pd.DataFrame(table)
    frame.to_csv(arguments.runs / "maps.csv", index=False)
    print(frame.to_string(index=False))


if __name__ == "__main__":
    main()
