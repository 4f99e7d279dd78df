"""Makes docs/images/preprocessing.png: every preprocessing step on drawn images, no patient's.

Run from the repository: `python docs/preprocessing_figure.py`
"""

import pathlib

import cv2
import numpy as np
from matplotlib.figure import Figure

from pipelines.preprocess import apply
from pipelines.preprocess.disc import Disc
from pipelines.sources import open_source

PANELS = (
    ("fundus", (), "drawn fundus photograph"),
    ("fundus", ("fundus-crop",), "fundus-crop"),
    ("fundus", ("fundus-crop", "fundus-normalize"), "fundus-crop, fundus-normalize"),
    ("fundus", ("fundus-crop", "clahe"), "fundus-crop, clahe"),
    ("phantom", (), "phantom, low contrast"),
    ("phantom", ("percentile",), "percentile"),
    ("phantom", ("clahe",), "clahe"),
    ("phantom", ("percentile", "square"), "percentile, square"),
)


def fundus() -> np.ndarray:
    """Draws a fundus photograph: a disc cut at top and bottom, uneven light, vessels, an optic disc, lesions."""
    rng = np.random.default_rng(0)
    disc = Disc(210.0, 320.0, 250.0)
    rows, columns = np.mgrid[:420, :640]
    image = np.zeros((420, 640, 3), np.uint8)
    image[:] = (190, 95, 40)
    for side in (-1, 1):
        for bend in (0.5, 1.0, 1.6):
            x = np.arange(0, 330, 4)
            y = 210 + side * bend * 7 * np.sqrt(x) + 4 * np.sin(x / 17 + bend)
            cv2.polylines(
                image, [np.stack([470 - x, y], axis=1).astype(np.int32)], False, (140, 45, 25), 4, cv2.LINE_AA
            )
    cv2.circle(image, (470, 210), 32, (245, 200, 120), -1, cv2.LINE_AA)
    for row, column in rng.normal((250, 280), (35, 45), (25, 2)).astype(int).tolist():
        colour, radius = ((240, 215, 110), 3) if rng.random() < 0.6 else ((110, 25, 20), 4)
        cv2.circle(image, (column, row), radius, colour, -1, cv2.LINE_AA)
    light = 1.15 - 0.75 * (columns / 640) - 0.25 * np.hypot(rows - 210, columns - 320) / disc.radius
    lit = cv2.GaussianBlur(image, (0, 0), 1.2) * light[..., None] + rng.normal(0, 1, image.shape)
    return np.where(disc.inside(image.shape)[..., None], np.clip(lit, 0, 255), 0).astype(np.uint8)


def phantom() -> np.ndarray:
    """Returns a phantom image, wider than high, of a third of the contrast."""
    image = open_source("phantom:multiclass", images=3, size=256).read(1)[40:216]
    return (70 + image / 3).astype(np.uint8)


def main() -> None:
    """Draws the panels and writes the figure."""
    images = {"fundus": fundus(), "phantom": phantom()}
    figure = Figure(figsize=(10, 5), layout="constrained", dpi=75)
    for axes, (name, steps, title) in zip(figure.subplots(2, 4).ravel(), PANELS, strict=True):
        axes.imshow(apply(images[name], steps), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=8)
        axes.axis("off")
    figure.savefig(pathlib.Path(__file__).parent / "images" / "preprocessing.png")


if __name__ == "__main__":
    main()
