"""Do the regions that a ViT chooses meet the lesions? On phantom images, whose lesions are known.

    python benchmarks/enhance_overlap.py --runs runs/overlap --epochs 12

Trains a small ViT with labels alone, chooses regions on the test images with a lesion by each rule, and prints, with
95 % intervals over patients: the IoU of all regions with the lesion, the share of the lesion that they cover, the share
of the image that they take, and what regions of the same sizes at random places would cover.
"""

import argparse
import pathlib

import numpy as np
from rich.console import Console
from rich.table import Table

from medkeras.evaluation import iou
from medkeras.evaluation.localization import mean_interval
from medkeras.super_resolution import RegionRule, importance_maps
from pipelines.decode import fit
from pipelines.jobs.config import TrainConfig, load_split
from pipelines.jobs.train import train
from pipelines.jobs.trained import load_model

RULES = {
    "threshold 0.8": {"threshold": 0.8},
    "threshold 0.5": {"threshold": 0.5},
    "top 3": {"top": 3},
}
MODEL = {"patch": 8, "units": 64, "depth": 4, "heads": 4, "hidden": 128}


def mask_of(boxes, shape):
    found = np.zeros(shape, bool)
    for top, left, bottom, right in boxes:
        found[top:bottom, left:right] = True
    return found


def moved(boxes, shape, rng):
    """The same boxes at random places."""
    edges = boxes[:, 2:] - boxes[:, :2]
    first = (rng.uniform(size=edges.shape) * (np.array(shape) - edges + 1)).astype(int)
    return np.concatenate([first, first + edges], axis=1)


def measure(values, masks, rule, rng):
    """Rows of IoU, covered share of the lesion, share of the image, and covered share at random places."""
    rows = []
    for map_, mask in zip(values, masks, strict=True):
        boxes = rule.regions(map_, mask.shape)
        found, chance = mask_of(boxes, mask.shape), mask_of(moved(boxes, mask.shape, rng), mask.shape)
        rows.append((iou(found, mask), found[mask].mean(), found.mean(), chance[mask].mean()))
    return np.array(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/overlap"))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--size", type=int, default=128, help="Pixels of a phantom's edge.")
    parser.add_argument("--smallest", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    config = TrainConfig(
        data="phantom",
        model="vit_tiny",
        run=str(given.runs / f"vit_{given.seed}"),
        source_options={"images": given.images, "size": given.size},
        image_size=given.size // 2,
        model_options=MODEL,
        epochs=given.epochs,
        learning_rate=5e-4,
        seed=given.seed,
    )
    console = Console()
    model = load_model(train(config, console=console))
    test = load_split(config, "test")
    rows = [i for i in range(len(test)) if test.read_mask(i).any()]
    masks = [test.read_mask(i) for i in rows]
    images = np.stack([fit(test.read(i), model.image_shape) for i in rows])
    patients, rng = test.table["patient"].to_numpy()[rows], np.random.default_rng(given.seed)
    table = Table("map", "rule", "IoU", "lesion covered", "share of the image", "covered by chance")
    for name in ("rollout", "relevance", "published"):
        values = importance_maps(model, images, name=name)
        for words, options in RULES.items():
            found = measure(values, masks, RegionRule(smallest=given.smallest, **options), rng)
            table.add_row(name, words, *(str(mean_interval(column, groups=patients)) for column in found.T))
    console.print(f"{len(rows)} test images with a lesion of {len(np.unique(patients))} patients", highlight=False)
    console.print(table)


if __name__ == "__main__":
    main()
