"""Measures how long a CSV of many rows takes to open, and that the time grows as the rows do.

    python benchmarks/input/table_index.py --rows 10000 100000

The table has the columns of a chest X-ray set: path, patient, split, four of metadata and 14 labels with uncertain
and blank ones. The files are hard links to one PNG, 1000 in a folder. Opening reads the CSV, checks every value and
finds every file; nothing is decoded. The best of three rounds is printed.
"""

import argparse
import os
import pathlib
import tempfile
import time

import cv2
import numpy as np
import pandas as pd

FILES_PER_FOLDER = 1000
FINDINGS = tuple(f"finding_{i}" for i in range(14))


def make_table(folder: pathlib.Path, rows: int) -> pathlib.Path:
    """Writes the files and the CSV; returns its path."""
    rng = np.random.default_rng(0)
    paths = [f"{i // FILES_PER_FOLDER:04d}/{i:06d}.png" for i in range(rows)]
    for path in paths:
        target = folder / path
        if int(path[-10:-4]) % FILES_PER_FOLDER == 0:
            target.parent.mkdir(parents=True)
            cv2.imwrite(str(target), np.zeros((8, 8), np.uint8))
        else:
            os.link(target.parent / f"{int(target.parent.name) * FILES_PER_FOLDER:06d}.png", target)
    patients = rng.integers(0, rows // 2 + 1, rows)
    columns = {
        "path": paths,
        "patient": [f"p{i}" for i in patients],
        "split": np.where(patients % 10 < 7, "train", np.where(patients % 10 < 8, "val", "test")),
        "age": rng.integers(18, 95, rows),
        "sex": rng.choice(["F", "M"], rows),
        "view": rng.choice(["AP", "PA", "lateral"], rows),
        "site": rng.choice(["a", "b", ""], rows),
    }
    findings = {name: rng.choice(["", "", "0.0", "1.0", "-1.0"], rows) for name in FINDINGS}
    pd.DataFrame(columns | findings).to_csv(folder / "images.csv", index=False)
    return folder / "images.csv"


def seconds_to_open(csv: pathlib.Path, policy: str, rounds: int = 3) -> float:
    """Returns the shortest of a few openings."""
    from pipelines.sources import open_source

    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        open_source(csv, label_columns=FINDINGS, uncertain=policy, blank=policy)
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    """Prints one row per number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    arguments = parser.parse_args()
    print("| rows | seconds | microseconds per row | seconds with `smooth` |\n|---|---|---|---|")
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            csv = make_table(pathlib.Path(folder), rows)
            seconds, smooth = (seconds_to_open(csv, policy) for policy in ("ignore", "smooth"))
        print(f"| {rows:,} | {seconds:.2f} | {seconds / rows * 1e6:.1f} | {smooth:.2f} |")


if __name__ == "__main__":
    main()
