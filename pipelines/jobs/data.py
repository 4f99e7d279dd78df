"""The work of `medkeras data`: what is in a source, before anything is trained on it."""

import collections
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from medkeras.errors import InputError
from medkeras.tasks import is_multilabel
from pipelines.images.contact_sheet import contact_sheet
from pipelines.images.decode import find_unreadable, stored_shapes
from pipelines.images.records import SPLITS, Records
from pipelines.io.figure_files import save_figure
from pipelines.io.run_folder import atomic_path
from pipelines.load import open_records
from pipelines.runtime.console import PlainConsole
from pipelines.splits.by_patient import split_records
from pipelines.splits.duplicates import find_duplicates
from pipelines.splits.leakage import described, find_leaks, summary

SHOWN = 3


def inspect(
    source: str | Records,
    out: str | os.PathLike | None = None,
    *,
    task: str | None = None,
    seed: int = 0,
    per_class: int = 6,
    preprocess: Sequence[str] = (),
    duplicates: str | os.PathLike | None = None,
    console: Console | None = None,
    **source_options: Any,
) -> Records:
    """Prints what a source holds and draws a contact sheet; every image is read once.

    Args:
        source: As for `pipelines.load`.
        out: Where to write the contact sheet, a PNG; none is drawn by default.
        task: Overrides the source's task.
        seed: Chooses the splits that are shown and the images of the contact sheet.
        per_class: Images per class on the contact sheet, at least 1.
        preprocess: Steps on the stored images, see `pipelines.preprocess`; the contact sheet shows their result.
        duplicates: Where to write a CSV of all images that look the same, also within a split; they are looked
            for only then.
        console: Where to print; the standard output by default.
        **source_options: Options of the source.

    Returns:
        The records that can be read.

    Raises:
        ValueError: If an argument breaks its rule, the source is not sound, or no image can be read.
        FileNotFoundError: If the source does not exist.
        OSError: If `out` cannot be written.

    Example:
        >>> records = inspect("phantom", images=30, console=Console(quiet=True))
        >>> len(records)
        30
    """
    console = console or PlainConsole()
    if out is not None and not str(out).lower().endswith(".png"):
        raise InputError(f"`out` must be a PNG file. Received: out={out}")
    records = open_records(source, task=task, preprocess=preprocess, on_error="skip", **source_options)
    unreadable = find_unreadable(records)
    if len(unreadable) == len(records):
        raise InputError(f"No image of {records.name} can be read. Received: {unreadable['reason'].iloc[0]}")
    readable = records.select(np.flatnonzero(~records.table["id"].isin(unreadable["id"])))
    console.print(_overview(readable, len(unreadable)))
    try:
        splits, reason = split_records(readable, seed=seed), None
    except ValueError as error:
        splits, reason = {}, str(error)
    console.print(_classes(readable, splits))
    for row in unreadable.head(SHOWN).itertuples():
        console.print(f"unreadable: {row.id}: {row.reason}", style="yellow", markup=False, soft_wrap=True)
    if reason:
        console.print(f"cannot be split: {reason}", style="yellow", markup=False, soft_wrap=True)
    if duplicates is not None:
        _look_for_duplicates(readable, splits or {"": readable}, duplicates, console)
    if out is not None:
        with console.status("Drawing the contact sheet"):
            save_figure(contact_sheet(readable, per_class=per_class, seed=seed), out, dpi=150)
        console.print(f"contact sheet: {out}", markup=False, soft_wrap=True)
    return readable


def _look_for_duplicates(
    records: Records, splits: Mapping[str, Records], path: str | os.PathLike, console: Console
) -> None:
    """Writes all pairs of images that look the same; says which contradict each other and which cross splits."""
    pairs = find_duplicates(records)
    table, leaks = described(splits, pairs), find_leaks(splits, pairs)
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)
    apart = table[table["label_a"] != table["label_b"]]
    console.print(f"{len(table)} pairs of images that look the same: {path}", markup=False, soft_wrap=True)
    style = {"style": "yellow", "markup": False, "soft_wrap": True}
    if len(apart):
        images = len(set(apart["id_a"]) | set(apart["id_b"]))
        console.print(f"contradictory labels: {len(apart)} pairs, {images} images", **style)
        for row in apart.head(SHOWN).itertuples():
            console.print(f"  {row.id_a} is {row.label_a}, {row.id_b} is {row.label_b}", **style)
    if len(leaks):
        console.print(summary(leaks), **style)


def _overview(records: Records, unreadable: int) -> Table:
    table = Table(title=records.name, show_header=False, title_justify="left")
    table.add_row("task", records.task)
    table.add_row("images", str(len(records)))
    table.add_row("patients", str(records.table["patient"].nunique()))
    table.add_row("shapes", _shapes(records))
    table.add_row("lesion masks", "yes" if records.read_mask else "no")
    table.add_row("unreadable", str(unreadable), style="yellow" if unreadable else None)
    return table


def _shapes(records: Records) -> str:
    shapes = collections.Counter(stored_shapes(records)).most_common()
    if len(shapes) == 1:
        return "x".join(map(str, shapes[0][0]))
    lines = [f"{'x'.join(map(str, shape))} ({count} images)" for shape, count in shapes[:SHOWN]]
    rest = len(shapes) - SHOWN
    return "\n".join(lines + ([f"and {rest} more"] if rest > 0 else []))


def _classes(records: Records, splits: dict[str, Records]) -> Table:
    """Images per class and split; a split that the source gives is shown as given."""
    multilabel = is_multilabel(records.task)
    columns = {name: splits[name] for name in SPLITS if splits} | {"all": records}
    table = Table("label" if multilabel else "class", title_justify="left")
    for name in columns:
        table.add_column(name, justify="right")
    table.add_column("share", justify="right")
    if multilabel:
        table.add_column("unknown", justify="right")
    counts = np.stack([part.class_counts() for part in columns.values()], axis=1)
    for i, name in enumerate(records.class_names):
        cells = [str(count) for count in counts[i]] + [f"{counts[i, -1] / len(records):.1%}"]
        if multilabel:
            cells.append(f"{np.isnan(records.labels[:, i]).mean():.1%}")
        table.add_row(name, *cells)
    table.add_section()
    table.add_row("images", *(str(len(part)) for part in columns.values()))
    table.add_row("patients", *(str(part.table["patient"].nunique()) for part in columns.values()))
    return table
