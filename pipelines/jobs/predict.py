"""Prediction: image files in, a table of probabilities and decisions out."""

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console

from medkeras.errors import InputError
from pipelines.images.decode import find_unreadable
from pipelines.images.records import Records
from pipelines.inference.answers import Sampling
from pipelines.inference.trained_model import Trained, decisions, load_trained
from pipelines.inference.uncertainty import sureness_columns
from pipelines.io.output import check_file
from pipelines.io.run_folder import RunFolder, atomic_path
from pipelines.sources.unlabelled import open_inputs
from pipelines.training.config import TrainConfig, open_run_inputs

if TYPE_CHECKING:
    from pipelines.inference.exported_model import Artefact


def predict_run(
    run: str | os.PathLike,
    inputs: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    on_error: str = "raise",
    two_stage: str | None = None,
    uncertainty: str = "none",
    samples: int = 50,
    members: Sequence[str | os.PathLike] = (),
    seed: int = 0,
    batch_size: int = 32,
    console: Console | None = None,
) -> pd.DataFrame:
    """Predicts images and writes a CSV: `file`, one probability per class, `prediction`, and how sure it is.

    Images are brought to the model's size and channels. Probabilities are calibrated, if the run was; the prediction
    applies the run's frozen threshold. How sure it is: see `pipelines.inference.uncertainty.sureness_columns`.

    Args:
        run: A run folder.
        inputs: Image files, folders and `.npz` files, see `pipelines.sources.unlabelled.open_inputs`.
        out: The CSV to write.
        on_error: `raise` stops at the first image that cannot be read; `skip` leaves such images out and
            lists them in `rejected.csv` beside `out`.
        two_stage: A protocol of `medkeras.models.two_stage`, to look twice; see
            `pipelines.inference.trained_model.load_trained`.
        uncertainty: A way of sampling, see `pipelines.inference.answers.Sampling`; the prediction is then the mean.
        samples: Of `mc-dropout`.
        members: Of `ensemble`: the folders of the other runs.
        seed: Of the samples.
        batch_size: Images per step.
        console: Where to print; nothing is printed by default.

    Returns:
        What was written.

    Raises:
        FileNotFoundError: If the run or an input does not exist.
        ValueError: If an image cannot be read, or the model cannot look twice or be sampled; nothing is
            written then.
        OSError: If `out` cannot be written.

    Example:
        >>> predict_run("no-such-run", ["scan.png"], "out.csv")
        Traceback (most recent call last):
        ...
        FileNotFoundError: A run folder holds config.yaml; `medkeras train` makes one. Received: no-such-run
    """
    console, out = console or Console(quiet=True), check_file(out)
    _check_on_error(on_error)
    folder, sampling = RunFolder(run).open(), Sampling(uncertainty, samples, tuple(map(str, members)))
    with console.status("Loading the model"):
        trained = load_trained(folder, protocol=two_stage, sampling=sampling)
    records = open_run_inputs(TrainConfig.from_run(folder), inputs, trained.model)
    how = {"on_error": on_error, "seed": seed, "batch_size": batch_size, "console": console}
    return _predict(trained, records, out, **how)


def predict_artefact(
    artefact: "Artefact",
    inputs: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    on_error: str = "raise",
    batch_size: int = 32,
    console: Console | None = None,
) -> pd.DataFrame:
    """Predicts images with an exported model itself and writes the CSV that `predict_run` writes of the run.

    Args:
        artefact: From `pipelines.inference.exported_model.open_saved_model` or `open_file`.
        inputs: See `predict_run`.
        out: See `predict_run`.
        on_error: See `predict_run`.
        batch_size: Images per step.
        console: Where to print; nothing is printed by default.

    Returns:
        What was written.

    Raises:
        FileNotFoundError: If an input does not exist.
        ValueError: If an image cannot be read; nothing is written then.
        OSError: If `out` cannot be written.
    """
    _check_on_error(on_error)
    model, out = artefact.model, check_file(out)
    records = open_inputs(inputs, model=model, options=model.reading, preprocess=model.preprocess)
    how = {"on_error": on_error, "batch_size": batch_size, "console": console or Console(quiet=True)}
    return _predict(artefact, records, out, **how)


def _check_on_error(on_error: str) -> None:
    if on_error not in ("raise", "skip"):
        raise InputError(f"`on_error` must be raise or skip. Received: on_error={on_error!r}")


def _predict(
    trained: "Trained | Artefact", records: Records, out: pathlib.Path, *, on_error: str, console: Console, **how: int
) -> pd.DataFrame:
    if on_error == "skip":
        rejected = find_unreadable(records)
        records = records.select((~records.table["id"].isin(rejected["id"])).to_numpy().nonzero()[0])
    model, answers = trained.model, trained.answer(records, console=console, **how)
    table = pd.DataFrame(answers.probabilities, columns=[f"probability_{name}" for name in model.class_names])
    table.insert(0, "file", records.table["id"])
    table["prediction"] = decisions(trained.point, answers.probabilities, model)
    table = table.join(sureness_columns(answers, trained))
    write_table(out, table)
    console.print(f"{len(table)} predictions in {out}", highlight=False, soft_wrap=True)
    if on_error == "skip" and len(rejected):
        write_table(out.with_name("rejected.csv"), rejected)
        console.print(f"{len(rejected)} images could not be read, see {out.with_name('rejected.csv')}")
    return table


def write_table(path: pathlib.Path, table: pd.DataFrame) -> None:
    """Writes a CSV whole, or not at all."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)
