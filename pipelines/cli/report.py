"""The command `report`."""

import pathlib
from typing import Annotated

import typer

from pipelines.cli.options import Seed
from pipelines.cli.starting import starting


def report(
    runs: Annotated[
        list[pathlib.Path],
        typer.Argument(metavar="RUN [RUN...]", help="The run to report; others are compared with it."),
    ],
    out: Annotated[pathlib.Path | None, typer.Option(help="Folder to write to; RUN by default.")] = None,
    pictures: Annotated[
        int, typer.Option(help="Images to show: so many right, wrong and least sure ones; 0 for none.")
    ] = 4,
    seed: Seed = 0,
) -> None:
    """Write a run's report: one HTML page, a model card and the numbers behind both."""
    with starting() as console:
        from pipelines.jobs.report import report_run

        report_run(runs[0], runs[1:], out, pictures=pictures, seed=seed, console=console)
