"""Makes docs/images/localization_phantom.png: what a run on phantom images marks, beside the true lesions.

Run from the repository, after `medkeras localize RUN`: `python docs/localization_figure.py RUN`
"""

import pathlib
import sys

import numpy as np

from medkeras.explain import localization_figure, localize
from pipelines.decode import fit
from pipelines.jobs.config import TrainConfig, load_split
from pipelines.jobs.evaluate import save_figure
from pipelines.jobs.trained import load_model
from pipelines.run_folder import RunFolder

OUT = pathlib.Path(__file__).parent / "images" / "localization_phantom.png"
COUNT = 4


def main(folder: str) -> None:
    """Draws the first image with a lesion of some patients of the test split."""
    run = RunFolder(folder).open()
    model, records = load_model(run), load_split(TrainConfig.from_run(run), "test")
    found = run.read_json("localization/localization.json")["maps"]
    shown = [i for i in range(len(records)) if records.read_mask(i).any()]
    patients = records.table["patient"].iloc[shown]
    records = records.select(np.array(shown)[~patients.duplicated().to_numpy()][:COUNT])
    images = np.stack([fit(records.read(i), model.image_shape) for i in range(len(records))])
    masks = [fit(records.read_mask(i), (*model.image_shape[:-1], 1))[..., 0] > 0.5 for i in range(len(records))]
    regions = {
        name.replace("_", " "): localize(model, images, point=name, threshold=found[name]["threshold"])
        for name in found
    }
    save_figure(localization_figure(images, regions, names=records.table["id"].tolist(), masks=masks), OUT)


if __name__ == "__main__":
    main(sys.argv[1])
