"""How far integrated gradients add up to the rise of the logit from the baseline to the image, by the number of points.

    python benchmarks/accuracy/completeness.py runs/lesion_maps/dualattendmed_tiny_0 --images 12

For some of the run's test images, evenly chosen: the error of the map's sum, as share of the rise.
"""

import argparse
import pathlib

import numpy as np

from medkeras.explain import integrated_gradients
from medkeras.explain.methods.input_gradients import baseline_image, logits_of, most_probable
from medkeras.models import ImageClassifier
from pipelines.images.decode import fit
from pipelines.inference.trained_model import load_model
from pipelines.io.run_folder import RunFolder
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_split


def errors(model: ImageClassifier, images: np.ndarray, *, steps: int) -> np.ndarray:
    """Returns the error of each image."""
    targets = most_probable(model, images, None)
    start = np.broadcast_to(baseline_image(model, None), images[:1].shape).astype(np.float32)
    rise = logits_of(model, images)[range(len(images)), targets] - logits_of(model, start)[0, targets]
    maps = integrated_gradients(model, images, target=targets, steps=steps)
    return np.abs(maps.reshape(len(images), -1).sum(axis=1) - rise) / np.abs(rise)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--steps", type=int, nargs="+", default=[32, 64, 128])
    arguments = parser.parse_args()
    run = RunFolder(arguments.run).open()
    model, records = load_model(run), load_split(TrainConfig.from_run(run), "test")
    rows = np.linspace(0, len(records) - 1, arguments.images).astype(int)
    images = np.stack([fit(records.read(int(i)), model.image_shape) for i in rows]).astype(np.float32)
    print("| points | median error | largest |\n|---|---|---|")
    for steps in arguments.steps:
        found = errors(model, images, steps=steps)
        print(f"| {steps} | {np.median(found):.1%} | {found.max():.1%} |", flush=True)
