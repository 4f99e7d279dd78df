"""Trains an upscaler on chest X-rays and compares what it restores with interpolation, on patients it has not seen.

    python benchmarks/super_resolution/restoration.py --data ../shared/data/nih_cxr_1000 --run runs/upscaler

Images are made smaller by a factor of 4 (`medkeras.super_resolution.degrade`), and restored: by the upscaler with each
of several settings, as it is and made consistent with the small image (`make_consistent`), of which the one with the
best PSNR on validation is named; by bicubic and Lanczos interpolation of OpenCV, the former made consistent too, so
that what the upscaler adds is told from what the projection gives; and, as what no upscaler of this autoencoder can be
expected to pass unless it is made consistent, by the autoencoder from the large image itself. PSNR and SSIM (Gaussian
window) of the test images are averaged per patient; the intervals are of the difference to bicubic interpolation,
paired, over draws of patients. More samples are averaged because the mean of what is likely has a smaller squared error
than any one sample.

A stopped training begins anew; where RUN holds an upscaler already, only the measurement is made.
"""

import argparse
import os
import pathlib
import time
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As the command line does.

import numpy as np
import pandas as pd
from rich.console import Console

import pipelines
from medkeras.evaluation import paired_bootstrap, psnr, ssim
from medkeras.super_resolution import LDMUpscaler, degrade, make_consistent
from medkeras.super_resolution.interpolated import Interpolation
from pipelines.enhancement.upscaler_config import UpscalerConfig
from pipelines.jobs.train_upscaler import reconstructed, train_upscaler

FINDINGS = ("Atelectasis", "Effusion", "Infiltration", "Pneumonia")  # enough of each in every split
MEASURES = {"psnr": psnr, "ssim": ssim}


def config_of(arguments: argparse.Namespace) -> UpscalerConfig:
    return UpscalerConfig(
        data=str(arguments.data / "labels.csv"),
        source_options={"root": str(arguments.data / "images"), "label_columns": list(FINDINGS)},
        leakage="warn",
        run=str(arguments.run),
        preset=arguments.preset,
        image_size=arguments.image_size,
        crop=arguments.crop,
        batch_size=arguments.batch_size,
        vqvae_epochs=arguments.vqvae_epochs,
        epochs=arguments.epochs,
        reconstruction=arguments.reconstruction,
        learning_rate=arguments.learning_rate,
        ema=arguments.ema,
        seed=arguments.seed,
    )


def some_patients(patients: np.ndarray, count: int | None) -> np.ndarray:
    """Returns which images are of the first so many patients, in a fixed random order of patients."""
    known = np.random.default_rng(0).permutation(np.unique(patients))
    return np.flatnonzero(np.isin(patients, known[:count]))


def settings_of(arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, float]]]:
    for words in arguments.settings:
        steps, eta, samples = words.split(":")
        name = f"steps {steps}, eta {eta}, mean of {samples}"
        yield name, {"steps": int(steps), "eta": float(eta), "samples": int(samples)}


def restored(upscaler: LDMUpscaler, small: np.ndarray, arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Returns what each setting restores, the mean of its samples, as it is and made consistent."""
    found = {}
    for name, setting in settings_of(arguments):
        count = setting.pop("samples")
        found[name] = sum(upscaler.upscale(small, **setting, seed=seed, batch_size=16) for seed in range(count)) / count
        found[f"{name}, consistent"] = consistent(found[name], small)
    return found


def consistent(large: np.ndarray, small: np.ndarray) -> np.ndarray:
    return np.clip(make_consistent(large, small), 0, 1)


def per_patient(restored: np.ndarray, images: np.ndarray, patients: np.ndarray) -> pd.DataFrame:
    """Returns a row of measures for each patient."""
    values = {name: measure(restored, images) for name, measure in MEASURES.items()}
    return pd.DataFrame(values).groupby(patients).mean()


def difference(first: pd.Series, second: pd.Series) -> str:
    found = paired_bootstrap(lambda _, values: values.mean(), np.zeros(len(first)), first, second)
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with labels.csv and images/")
    parser.add_argument("--run", type=pathlib.Path, required=True)
    parser.add_argument("--preset", default="ldm_4x_mini")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--vqvae-epochs", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--reconstruction", default="l2", help="l2, which PSNR measures, or l1")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--ema", type=float, default=0.99)
    parser.add_argument(
        "--settings",
        nargs="+",
        default=["10:0:1", "25:0:1", "25:1:1", "10:0:8"],
        help="of the upscaler, each STEPS:ETA:SAMPLES",
    )
    parser.add_argument("--validation-patients", type=int, default=15)
    parser.add_argument("--test-patients", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    config, console, started = config_of(arguments), Console(), time.monotonic()
    if not (arguments.run / "upscaler").is_dir():
        train_upscaler(config, console=console)
        console.print(f"trained in {(time.monotonic() - started) / 60:.1f} minutes")
    upscaler = LDMUpscaler.from_pretrained(arguments.run / "upscaler")
    data = pipelines.load(
        config.data, image_size=config.image_size, leakage="off", augment="none", **config.source_options
    )

    def part(split: str, count: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        patients = data.records[split].table["patient"].to_numpy()
        rows = some_patients(patients, count)
        images = data.arrays(split)[0][rows]
        return images, np.asarray(degrade(images, upscaler.factor)), patients[rows]

    images, small, patients = part("val", arguments.validation_patients)
    found = {
        name: per_patient(large, images, patients)["psnr"].mean()
        for name, large in restored(upscaler, small, arguments).items()
    }
    chosen = max(found, key=found.get)
    values = ", ".join(f"{name}: {value:.2f} dB" for name, value in found.items())
    console.print(f"on validation: {values}", soft_wrap=True)

    images, small, patients = part("test", arguments.test_patients)
    ways = {name: Interpolation(name, factor=upscaler.factor).upscale(small) for name in ("bicubic", "lanczos")}
    ways["bicubic, consistent"] = consistent(ways["bicubic"], small)
    ways |= restored(upscaler, small, arguments)
    ways["autoencoder, from the large image"] = reconstructed(upscaler, images)
    scores = {name: per_patient(large, images, patients) for name, large in ways.items()}
    rows = [
        {
            "restored by": name + (" (chosen)" if name == chosen else ""),
            **{measure: score[measure].mean() for measure in MEASURES},
            **{
                f"{measure}, less bicubic's": difference(score[measure], scores["bicubic"][measure])
                for measure in MEASURES
            },
        }
        for name, score in scores.items()
    ]
    table = pd.DataFrame(rows)
    table.to_csv(arguments.run / "results.csv", index=False)
    print(f"{len(images)} test images of {len(scores['bicubic'])} patients, {images.shape[1]} pixels")
    print(table.round(4).to_string(index=False))
    console.print(f"{(time.monotonic() - started) / 60:.1f} minutes in all")


if __name__ == "__main__":
    main()
