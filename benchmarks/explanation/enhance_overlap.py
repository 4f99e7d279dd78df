"""Do the regions that a model chooses meet the lesions? On the test images of runs whose source has lesion masks.

    python benchmarks/accuracy/localization.py --data phantom --source-options size=128,images=1200 \
        --image-size 128 --epochs 4 --balance none --monitor loss --models "cross-entropy alone" --runs runs/phantom
    python benchmarks/explanation/enhance_overlap.py runs/phantom/cross-entropy_alone_*

Chooses regions by each map and rule, and prints the mean over runs of: the IoU of all regions with the lesion, the
share of the lesion that they cover, the share of the image that they take, and what regions of the same sizes at random
places would cover.
"""

import argparse
import pathlib

import numpy as np
import pandas as pd

from medkeras.evaluation import iou
from medkeras.super_resolution import RegionRule, importance_maps
from medkeras.super_resolution.enhancement.attention_guided import MAPS, check_map
from pipelines.images.decode import fit
from pipelines.inference.trained_model import load_model
from pipelines.io.run_folder import RunFolder
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_split

RULES = {"threshold 0.8": {}, "threshold 0.5": {"threshold": 0.5}, "top 3": {"top": 3}}
NAMES = ("IoU", "lesion covered", "share of the image", "covered by chance")


def mask_of(boxes, shape):
    """Where boxes lie."""
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
    """The means of `NAMES` over images."""
    rows = []
    for one, mask in zip(values, masks, strict=True):
        boxes = rule.regions(one, mask.shape)
        found, chance = mask_of(boxes, mask.shape), mask_of(moved(boxes, mask.shape, rng), mask.shape)
        rows.append((iou(found, mask), found[mask].mean(), found.mean(), chance[mask].mean()))
    return np.mean(rows, axis=0)


def rows_of(run, smallest):
    """One row per map and rule of a run."""
    model = load_model(RunFolder(run).open())
    test = load_split(TrainConfig.from_run(RunFolder(run)), "test")
    with_lesion = [i for i in range(len(test)) if test.read_mask(i).any()]
    masks = [test.read_mask(i) for i in with_lesion]
    images = np.stack([fit(test.read(i), model.image_shape) for i in with_lesion])
    own = check_map(model, None)
    for name in MAPS if own in MAPS else dict.fromkeys([own, "class_map", "evidence_map"]):
        values = importance_maps(model, images, name=name)
        for words, options in RULES.items():
            found = measure(values, masks, RegionRule(smallest=smallest, **options), np.random.default_rng(0))
            yield {"map": name, "rule": words, "images": len(masks), **dict(zip(NAMES, found, strict=True))}


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=pathlib.Path, nargs="+")
    parser.add_argument("--smallest", type=int, default=16, help="Pixels that the edges of a region are multiples of.")
    given = parser.parse_args()
    table = pd.DataFrame([row for run in given.runs for row in rows_of(run, given.smallest)])
    print(table.groupby(["map", "rule"], sort=False).mean().round(3).to_string())


if __name__ == "__main__":
    main()
