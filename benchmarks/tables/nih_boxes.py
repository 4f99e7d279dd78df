"""Writes a table of the NIH chest X-rays in which every patient whose finding was boxed by an expert is held out.

    python benchmarks/tables/nih_boxes.py --data ../shared/data/nih_cxr_1000 --out nih_boxes.csv

There are 49 boxes only, and the splits of the index leave 9 of them for the test. So one boxed patient in four goes to
validation, where thresholds are chosen, and all others to test; the other patients stay where they were. Open the table
with root=../shared/data/nih_cxr_1000/images, boxes=../shared/data/nih_cxr_1000/bboxes.csv and
box_columns=[x_256,y_256,w_256,h_256].
"""

import argparse
import pathlib

import numpy as np
import pandas as pd


def boxes_table(folder: pathlib.Path, *, seed: int = 0) -> pd.DataFrame:
    """Returns the rows of the index with their new splits."""
    table, boxes = pd.read_csv(folder / "labels.csv"), pd.read_csv(folder / "bboxes.csv")
    boxed = np.sort(table.loc[table["file"].isin(boxes["file"]), "patient_id"].unique())
    chosen = np.random.default_rng(seed).permutation(boxed)[: len(boxed) // 4]
    table.loc[table["patient_id"].isin(boxed), "split"] = "test"
    table.loc[table["patient_id"].isin(chosen), "split"] = "val"
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data/nih_cxr_1000"))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    table = boxes_table(arguments.data)
    table.to_csv(arguments.out, index=False)
    boxes = pd.read_csv(arguments.data / "bboxes.csv")
    print(
        table.assign(boxes=table["file"].isin(boxes["file"])).groupby("split")["boxes"].agg(["size", "sum"]).to_string()
    )
