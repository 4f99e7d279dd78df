"""The command `explain`."""

import pathlib
from typing import Annotated

import typer

from pipelines.cli import options
from pipelines.cli.starting import starting


def explain(
    run: options.Run,
    inputs: Annotated[
        list[pathlib.Path] | None,
        typer.Argument(metavar="[INPUT...]", help="Image files, folders or .npz files; test images by default."),
    ] = None,
    out: Annotated[pathlib.Path | None, typer.Option(help="Folder of the pictures; RUN/explain by default.")] = None,
    data: options.OtherSource = None,
    samples: Annotated[int, options.option(options.OUTPUT, "Images to draw where no INPUT is given.")] = 12,
    opacity: options.Opacity = 0.8,
    contours: options.Contours = None,
    pixel_spacing: options.PixelSpacing = None,
    seed: options.Seed = 0,
    method: Annotated[
        str | None, typer.Option(help="Draw the map of one method: grad_cam, occlusion, ... (docs/explanation.md).")
    ] = None,
    target: options.Target = None,
    faithfulness: Annotated[
        bool, typer.Option(help="Measure the method's maps: deletion, insertion, shuffled weights.")
    ] = False,
) -> None:
    """Show where a run looked, and what its pathways see; or the maps of one method."""
    with starting() as console:
        from pipelines.jobs.explain import explain_run

        explain_run(
            run,
            inputs or (),
            out,
            data=data,
            samples=samples,
            seed=seed,
            method=method,
            target=target,
            faithfulness=faithfulness,
            appearance=options.appearance(opacity, contours, pixel_spacing),
            console=console,
        )
