"""FocusNet 3D on real volumes: tumour or not, in cubes cut from MR images, every subject held out in turn.

    python benchmarks/accuracy/volume_cubes.py --data ../shared/data --seeds 3

From each of three subjects (two brains, one breast) 60 cubes of 28 mm with a tumour in the middle and 60
without any are cut and resampled to 28 voxels. Each subject is tested with a model trained on the other two,
with a fixed schedule and no selection, so nothing of the tested subject is seen. Needs pynrrd (the extra
`[volume]`).
"""

import argparse
import json
import pathlib

import numpy as np
import pandas as pd

EDGE = 28  # millimetres, and voxels of a cube
SUBJECTS = ("brain1", "brain2", "breast1")
PER_CLASS = 60


def read_subject(folder, name):
    """Returns image in [0, 1], tumour mask and voxel size in mm, axes reordered to depth, height, width."""
    from pipelines.sources.volume.file import read_volume

    image = read_volume(folder / f"{name}_image.nrrd")
    mask = read_volume(folder / f"{name}_label.nrrd").array > 0
    low, high = np.percentile(image.array, [0.5, 99.5])
    scaled = np.clip((image.array.astype(np.float32) - low) / (high - low), 0, 1)
    return scaled.transpose(2, 1, 0), mask.transpose(2, 1, 0), image.grid.spacing[::-1]


def cut(volume, centre, spacing):
    """Returns the cube of EDGE mm around a voxel, one sample per mm, by linear interpolation; zeros outside."""
    from keras import ops

    from medkeras.layers import sample_axes

    steps = np.arange(EDGE) - (EDGE - 1) / 2
    positions = [(c + steps / s)[None].astype("float32") for c, s in zip(centre, spacing, strict=True)]
    cube = sample_axes(ops.convert_to_tensor(volume[None, ..., None], "float32"), positions)
    return np.asarray(cube)[0, ..., 0]


def cubes_of(volume, mask, spacing, rng):
    """Returns cubes and labels of one subject, as many with a tumour as without."""
    cubes, labels = [], []
    for index in rng.choice(np.argwhere(mask), PER_CLASS, replace=PER_CLASS > mask.sum()):
        cubes.append(cut(volume, index, spacing))
        labels.append(1)
    tissue = np.argwhere(volume > 0.1)
    while len(labels) < 2 * PER_CLASS:
        index = tissue[rng.integers(len(tissue))]
        cube = cut(volume, index, spacing)
        if cut(mask.astype(np.float32), index, spacing).max() == 0 and cube.mean() > 0.05:
            cubes.append(cube)
            labels.append(0)
    return np.stack(cubes), np.array(labels, np.int32)


def records_of(cubes, labels, subjects):
    """Returns the cubes as records, with the subject as patient."""
    from pipelines.images.records import Records

    table = pd.DataFrame({"id": [f"{s}_{i}" for i, s in enumerate(subjects)], "patient": subjects, "split": ""})
    return Records(
        name="cubes",
        task="binary",
        class_names=("tissue", "tumour"),
        table=table,
        labels=labels,
        read=lambda i: cubes[i],
        rank=3,
    )


def train_and_test(model_name, records, train, test, *, epochs, seed):
    """Trains on some records and returns AUC and accuracy on others."""
    import keras

    import medkeras
    from medkeras.evaluation import evaluate
    from pipelines.augment import choose
    from pipelines.input.dataset import InputPipeline

    keras.utils.set_random_seed(seed)
    shape = (EDGE, EDGE, EDGE, 1)
    data = InputPipeline(
        records.select(train), image_shape=shape, batch_size=16, seed=seed, augmentations=choose("standard")
    )
    model = medkeras.models.create(model_name, input_shape=shape, num_classes=2)
    steps = epochs * data.steps_per_epoch
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=1e-3, warmup_steps=steps // 20)
    model.compile(keras.optimizers.AdamW(rate), medkeras.tasks.default_loss(model.task))
    model.fit(data.stream(), steps_per_epoch=data.steps_per_epoch, epochs=epochs, verbose=0)
    images = np.stack([records.read(i) for i in test])[..., None]
    probabilities = np.asarray(medkeras.tasks.to_probabilities(model.predict(images, verbose=0), model.task))
    measured = evaluate(records.labels[test], probabilities, task="binary", class_names=records.class_names)
    return measured["macro"]["auc"], measured["accuracy"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data"))
    parser.add_argument("--model", default="focusnet3d")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    parts = [cubes_of(*read_subject(arguments.data / "volumes" / "pyradiomics", name), rng) for name in SUBJECTS]
    subjects = np.repeat(SUBJECTS, [len(labels) for _, labels in parts])
    records = records_of(np.concatenate([c for c, _ in parts]), np.concatenate([y for _, y in parts]), subjects)
    rows = []
    for held_out in SUBJECTS:
        train, test = np.flatnonzero(subjects != held_out), np.flatnonzero(subjects == held_out)
        for seed in range(arguments.seeds):
            auc, accuracy = train_and_test(arguments.model, records, train, test, epochs=arguments.epochs, seed=seed)
            rows.append({"tested": held_out, "seed": seed, "auc": auc, "accuracy": accuracy})
            print(json.dumps(rows[-1]), flush=True)
    frame = pd.DataFrame(rows).groupby("tested", sort=False)[["auc", "accuracy"]].agg(["mean", "min", "max"])
    print(frame.round(3).to_string())


if __name__ == "__main__":
    main()
