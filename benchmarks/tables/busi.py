"""Writes the table of the BUSI images for `medkeras train --data busi.csv`: honest splits, no contradictions.

    python benchmarks/tables/busi.py --data ../shared/data/busi --out busi.csv

The paths start from the data folder: open the table with the source options root=../shared/data/busi and
mask_column=mask.

Images whose near duplicate carries another label are dropped. Near duplicates count as one patient, so that no
split parts them; BUSI has no patient ids. The splits are those of the index.
"""

import argparse
import pathlib

import pandas as pd


def busi_table(folder: pathlib.Path) -> pd.DataFrame:
    """Returns one row per image: path, mask, label, patient and split."""
    index = pd.read_csv(folder / "index.csv")
    index = index[index["dup_label_conflict"] == 0]
    relative = index["class"] + "/" + index["file"]
    return pd.DataFrame(
        {
            "path": "images/" + relative,
            "mask": "masks/" + relative,
            "label": index["class"],
            "patient": "group_" + index["dup_group"].astype(str),
            "split": index["split"],
        }
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data/busi"))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    table = busi_table(arguments.data)
    table.to_csv(arguments.out, index=False)
    print(table.groupby(["split", "label"]).size().unstack().to_string())
