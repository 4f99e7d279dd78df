"""Makes docs/images/localization_phantom_1.png and _2.png: what a run on phantom images marks, beside the true lesions.

Run from the repository, after `medkeras localize RUN --mirrored`: `python docs/localization_figure.py RUN`
"""

import pathlib
import sys

import numpy as np
from PIL import Image

from medkeras.explain import localization_figure, localize
from pipelines.images.decode import fit
from pipelines.inference.trained_model import load_model
from pipelines.io.figure_files import save_figure
from pipelines.io.run_folder import RunFolder
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_split

IMAGES = pathlib.Path(__file__).parent / "images"
MAPS = ("attention", "evidence_map")
FIGURES, EACH = 2, 6


def main(folder: str) -> None:
    """Draws the first image with a lesion of some patients of the test split."""
    run = RunFolder(folder).open()
    model, records = load_model(run), load_split(TrainConfig.from_run(run), "test")
    found = run.read_json("localization_mirrored/localization.json")["maps"]
    shown = [i for i in range(len(records)) if records.read_mask(i).any()]
    patients = records.table["patient"].iloc[shown]
    records = records.select(np.array(shown)[~patients.duplicated().to_numpy()][: FIGURES * EACH])
    images = np.stack([fit(records.read(i), model.image_shape) for i in range(len(records))])
    masks = [fit(records.read_mask(i), (*model.image_shape[:-1], 1))[..., 0] > 0.5 for i in range(len(records))]
    for part in range(FIGURES):
        own = slice(part * EACH, (part + 1) * EACH)
        regions = {
            name.replace("_", " "): localize(
                model, images[own], point=name, threshold=found[name]["threshold"], mirrored=True
            )
            for name in MAPS
        }
        figure = localization_figure(images[own], regions, names=records.table["id"].tolist()[own], masks=masks[own])
        path = IMAGES / f"localization_phantom_{part + 1}.png"
        save_figure(figure, path)
        Image.open(path).quantize(256).save(path, optimize=True)  # A third of the size.


if __name__ == "__main__":
    main(sys.argv[1])
