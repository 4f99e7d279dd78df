"""Makes docs/images/upscaler_phantom.png: phantom images made small, restored by an upscaler, and as they were.

Run from the repository: `python docs/upscaler_figure.py RUN`, with the run of `medkeras train-upscaler` on phantoms.
"""

import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import pipelines
from medkeras.evaluation import psnr
from medkeras.super_resolution import LDMUpscaler, degrade
from medkeras.super_resolution.interpolated import Interpolation
from pipelines.enhancement.upscaler_config import UpscalerConfig
from pipelines.io.figure_files import save_figure
from pipelines.io.run_folder import RunFolder

PATH = pathlib.Path(__file__).parent / "images" / "upscaler_phantom.png"
SHOWN, STEPS, CELL = 3, 25, 2.2  # images, steps of the diffusion, inches per panel


def main(folder: str) -> None:
    """Draws the first image of some patients of the test split."""
    run = RunFolder(folder)
    config = UpscalerConfig(**run.read_config(), run=folder)
    data = pipelines.load(config.data, image_size=config.image_size, leakage="off", **config.source_options)
    first = ~data.records["test"].table["patient"].duplicated().to_numpy()
    images = data.arrays("test")[0][np.flatnonzero(first)[:SHOWN]]
    upscaler = LDMUpscaler.from_pretrained(run / "upscaler")
    small = np.asarray(degrade(images, upscaler.factor))
    columns = {
        "made small": np.repeat(np.repeat(small, upscaler.factor, axis=1), upscaler.factor, axis=2),
        "bicubic": Interpolation("bicubic", factor=upscaler.factor).upscale(small),
        "upscaler": upscaler.upscale(small, steps=STEPS),
        "upscaler, consistent": upscaler.upscale(small, steps=STEPS, consistent=True),
        "original": images,
    }
    figure = Figure(figsize=(CELL * len(columns), (CELL + 0.2) * SHOWN), layout="constrained")
    for (name, shown), axes in zip(columns.items(), figure.subplots(SHOWN, len(columns)).T, strict=True):
        for ax, image, value in zip(axes, shown, psnr(shown, images), strict=True):
            ax.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
            ax.set_title(name if name == "original" else f"{name}: {value:.1f} dB", fontsize=8)
            ax.set_axis_off()
    save_figure(figure, PATH)
    Image.open(PATH).quantize(128).save(PATH, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
