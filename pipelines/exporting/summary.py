"""What an export found, as tables."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from medkeras.export.bounds import PLAIN_BOUNDS, QUANTIZED_BOUNDS


def show_export(console: Console, written: Mapping[str, pathlib.Path], parity: Mapping[str, Any]) -> None:
    """Prints how far each format is from Keras, and where it lies.

    Args:
        console: Where to print.
        written: The path of each format.
        parity: See `pipelines.jobs.export.export_run`.
    """
    if plain := [form for form in written if form in PLAIN_BOUNDS]:
        console.print(_plain_table(plain, parity))
        if "rounding" in parity:
            moves = parity["rounding"]["probabilities"]["max"]
            console.print(
                "Farther from Keras than usual; with each pixel moved to the next float32 number, Keras itself changes "
                f"its probabilities by up to {moves:.1e}.",
                style="yellow",
            )
    if quantized := [form for form in written if form in QUANTIZED_BOUNDS]:
        console.print(_quantized_table(quantized, parity["quantized"]))
    for form, path in written.items():
        console.print(f"{form}: {path}", soft_wrap=True, highlight=False)


def _plain_table(forms: Sequence[str], parity: Mapping[str, Any]) -> Table:
    title = f"Largest difference from Keras on {parity['samples']} images"
    table = _table(title, "format", "probabilities", "logits", "map", "bound", "same decision")
    for form in forms:
        row = parity[form]
        differences = (_largest(row, part) for part in ("probabilities", "logits", "map"))
        table.add_row(form, *differences, f"{row['bounds']['probabilities']:.0e}", f"{row['agreement']:.1%}")
    return table


def _quantized_table(forms: Sequence[str], parity: Mapping[str, Any]) -> Table:
    title = f"Quantised, on {parity['samples']} images"
    table = _table(title, "format", "logits", "map", "same decision", "AUC", "AUC lost")
    for form in forms:
        row = parity[form]
        differences = (_largest(row, part) for part in ("logits", "map"))
        ranks = ("-" if row[part] is None else f"{row[part]:.3f}" for part in ("auc", "auc_loss"))
        table.add_row(form, *differences, f"{row['agreement']:.1%}", *ranks)
    return table


def _largest(row: Mapping[str, Any], part: str) -> str:
    return f"{row[part]['max']:.1e}" if part in row else "-"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column == "format" else "right")
    return table
