"""The command `localize`."""

import pathlib
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from pipelines.cli import options
from pipelines.cli.starting import starting


@options.takes_source_options
def localize(
    run: options.Run,
    out: Annotated[
        pathlib.Path | None, typer.Option(help="Folder of the results; RUN/localization by default.")
    ] = None,
    data: options.OtherSource = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", help="attention, class_map, evidence_map (by default), a method or an explain point."),
    ] = None,
    target: options.Target = None,
    threshold: Annotated[
        float | None, typer.Option(help="Share of a map's range; chosen on the run's validation masks by default.")
    ] = None,
    mirrored: Annotated[
        bool, typer.Option("--mirrored", help="Take the mean map of all mirror images, for 4 times the cost.")
    ] = False,
    samples: options.Shown = 12,
    opacity: options.Opacity = 0.8,
    contours: options.Contours = None,
    pixel_spacing: options.PixelSpacing = None,
    source_options: Mapping[str, Any] = options.NONE_GIVEN,
    seed: options.Seed = 0,
) -> None:
    """Measure a run's maps against lesions that experts drew: IoU, Dice, pointing game, energy."""
    with starting() as console:
        from pipelines.jobs.localize import localize_run

        localize_run(
            run,
            out,
            data=data,
            maps=maps or (),
            target=target,
            threshold=threshold,
            mirrored=mirrored,
            samples=samples,
            appearance=options.appearance(opacity, contours, pixel_spacing),
            seed=seed,
            console=console,
            **source_options,
        )
