"""Makes docs/images/explanation_<model>.png: all methods of explanation side by side, on phantom images.

Run from the repository, after `medkeras train --data phantom ...`: `python docs/explanation_figure.py RUN [RUN ...]`
"""

import pathlib
import sys
import textwrap

import numpy as np
from PIL import Image

from medkeras.explain import explanation_maps, maps_figure, methods_of
from pipelines.images.decode import fit
from pipelines.inference.trained_model import load_model
from pipelines.io.figure_files import save_figure
from pipelines.io.run_folder import RunFolder
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_split

IMAGES = pathlib.Path(__file__).parent / "images"
ROWS, LESION = 3, 1


def main(folder: str) -> None:
    """Draws the first image with a lesion of some patients of the test split, each map of the class with lesions."""
    run = RunFolder(folder).open()
    config = TrainConfig.from_run(run)
    model, records = load_model(run), load_split(config, "test")
    shown = [i for i in range(len(records)) if records.read_mask(i).any()]
    patients = records.table["patient"].iloc[shown]
    records = records.select(np.array(shown)[~patients.duplicated().to_numpy()][:ROWS])
    images = np.stack([fit(records.read(i), model.image_shape) for i in range(ROWS)])
    masks = [fit(records.read_mask(i), (*model.image_shape[:-1], 1))[..., 0] > 0.5 for i in range(ROWS)]
    maps = {}
    for method in methods_of(model):
        of_class = {} if method in ("attention", "attention_rollout") else {"target": LESION}
        maps[textwrap.fill(method.replace("_", " "), 12)] = explanation_maps(model, images, method=method, **of_class)
    path = IMAGES / f"explanation_{config.model}.png"
    save_figure(maps_figure(images, maps, names=records.table["id"].tolist(), masks=masks), path)
    Image.open(path).quantize(256).save(path, optimize=True)  # A third of the size.


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        main(argument)
