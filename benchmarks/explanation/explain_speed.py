"""How long explanations take: Grad-CAM against one prediction, occlusion against tf-explain on the same grid.

    python benchmarks/explanation/explain_speed.py --models vit_tiny dualattendmed_small

Each time is the least of several runs, after one that is not counted; the two sides of a comparison take turns.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from medkeras import models
from medkeras.explain import class_map, occlusion


def least_times(calls: dict[str, Callable[[], Any]], *, runs: int, warm: int) -> dict[str, float]:
    """Returns the least time of each call in seconds, the calls taking turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warm + runs):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= warm:
                times[name].append(time.perf_counter() - start)
    return {name: min(found) for name, found in times.items()}


def measure(name: str, *, size: int, batch: int, patch: int, runs: int) -> dict[str, float]:
    """Returns the times of one model."""
    from tf_explain.core.occlusion_sensitivity import OcclusionSensitivity

    model = models.create(name, input_shape=(size, size, 3), num_classes=2)
    images = np.random.default_rng(0).uniform(size=(batch, size, size, 3)).astype("float32")
    other = OcclusionSensitivity()
    model.predict = _quiet(model.predict)
    times = least_times(
        {
            "predict": lambda: model.predict(images, batch_size=batch),
            "grad_cam": lambda: class_map(model, images, target=1),
        },
        runs=runs,
        warm=2,
    )
    return times | least_times(
        {
            "tf_explain": lambda: other.get_sensitivity_map(model, images[0], 1, patch),
            "occlusion": lambda: occlusion(model, images[:1], target=1, patch=patch),
        },
        runs=runs,
        warm=1,
    )


def _quiet(predict: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given, **options: predict(*given, verbose=0, **options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["vit_tiny", "dualattendmed_small"])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--patch", type=int, default=28)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print("| model | predict s | Grad-CAM s | ratio | tf-explain occlusion s | ours s | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name in options.models:
        t = measure(name, size=options.size, batch=options.batch, patch=options.patch, runs=options.runs)
        print(
            f"| {name} | {t['predict']:.3f} | {t['grad_cam']:.3f} | {t['grad_cam'] / t['predict']:.2f} "
            f"| {t['tf_explain']:.3f} | {t['occlusion']:.3f} | {t['tf_explain'] / t['occlusion']:.2f} |",
            flush=True,
        )
