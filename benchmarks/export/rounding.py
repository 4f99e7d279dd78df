"""How far a model's own logits move when its pixels are rounded a little differently.

    TF_ENABLE_ONEDNN_OPTS=1 python benchmarks/export/rounding.py --model focusnet2d_large --steps 1 20 200

Seeded weights, three classes, the waves of `export_parity.py` as images. `--steps` are training passes that the
statistics of the norms have seen. Each pixel is multiplied by 1 + change * a normal number; three draws, the largest
difference of a logit, divided by the logit where that exceeds 1.
"""

import argparse
import pathlib
import sys

import keras
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from parity import waves

from medkeras.models import create, preset


def moved(model: keras.Model, images: np.ndarray, change: float) -> float:
    """Returns the largest difference of a logit over three draws."""
    rng = np.random.default_rng(1)
    logits = np.asarray(model(images, training=False))
    near = [images * (1 + change * rng.standard_normal(images.shape)).astype("float32") for _ in range(3)]
    found = [np.abs(np.asarray(model(x, training=False)) - logits) / np.maximum(1, np.abs(logits)) for x in near]
    return float(np.max(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="focusnet2d_large")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 20, 200])
    parser.add_argument("--changes", type=float, nargs="+", default=[1e-7, 1e-6])
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    shape = preset(arguments.model).input_shape
    model, images, done = create(arguments.model, input_shape=shape, num_classes=3), waves(shape, 4), 0
    for steps in sorted(arguments.steps):
        for _ in range(steps - done):
            model(images, training=True)
        done = steps
        print(f"{steps} steps:", ", ".join(f"{c:g}: {moved(model, images, c):.1e}" for c in arguments.changes))


if __name__ == "__main__":
    main()
