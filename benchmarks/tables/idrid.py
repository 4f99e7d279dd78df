"""Cuts IDRiD's fundus images into patches with and without hard exudates, and writes their table.

    python benchmarks/tables/idrid.py --data ../shared/data/idrid_seg20 --out runs/idrid

Writes `images/`, `masks/` (of hard exudates) and `table.csv`, for `medkeras train --data runs/idrid/table.csv
--source-option mask_column=mask`. Patches lie side by side; those outside the fundus disc are left out, and so are
those with a mere trace of exudate, whose label would be a matter of opinion. All patches of an image are in one split,
11, 3 and 6 images for train, val and test, such that every split has images with many and with few exudates.
"""

import argparse
import pathlib
from collections.abc import Iterator

import cv2
import numpy as np
import pandas as pd

HARD_EXUDATE, SIZE = 3, 128
DARK, TRACE = 20, 20  # Mean grey value outside the disc; exudate pixels of a patch.
IN_ORDER = ("train", "test", "train", "val", "train", "test", "train")


def splits(folder: pathlib.Path, seed: int) -> dict[str, str]:
    """Returns the split of each image: by exudate area in order, from a random beginning."""
    masks = sorted((folder / "masks").glob("*.png"))
    area = [(cv2.imread(str(path), cv2.IMREAD_UNCHANGED) == HARD_EXUDATE).sum() for path in masks]
    order = np.argsort(area, kind="stable")
    start = np.random.default_rng(seed).integers(len(IN_ORDER))
    return {masks[i].stem: IN_ORDER[(start + k) % len(IN_ORDER)] for k, i in enumerate(order)}


def patches(folder: pathlib.Path, name: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields the id, the colours and the exudate mask of each patch of an image that counts."""
    image = cv2.imread(str(folder / f"images/{name}.jpg"))
    mask = cv2.imread(str(folder / f"masks/{name}.png"), cv2.IMREAD_UNCHANGED) == HARD_EXUDATE
    for top in range(0, image.shape[0] - SIZE + 1, SIZE):
        for left in range(0, image.shape[1] - SIZE + 1, SIZE):
            window = np.s_[top : top + SIZE, left : left + SIZE]
            if image[window].mean() >= DARK and not 0 < mask[window].sum() < TRACE:
                yield f"{name}_{top}_{left}", image[window], mask[window]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data/idrid_seg20"))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for kind in ("images", "masks"):
        (arguments.out / kind).mkdir(parents=True, exist_ok=True)
    rows = []
    for name, split in sorted(splits(arguments.data, arguments.seed).items()):
        for patch, image, mask in patches(arguments.data, name):
            paths = {"path": f"images/{patch}.png", "mask": f"masks/{patch}.png"}
            cv2.imwrite(str(arguments.out / paths["path"]), image)
            cv2.imwrite(str(arguments.out / paths["mask"]), 255 * mask.astype(np.uint8))
            label = "exudate" if mask.any() else "none"
            rows.append({"id": patch, **paths, "label": label, "patient": name, "split": split})
    table = pd.DataFrame(rows)
    table.to_csv(arguments.out / "table.csv", index=False)
    print(table.groupby(["split", "label"]).size().unstack().to_string())


if __name__ == "__main__":
    main()
