"""The command `enhance`."""

import pathlib
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from pipelines.cli import options
from pipelines.cli.options import DATA, OUTPUT, Shown, option
from pipelines.cli.starting import starting

REGIONS, UPSCALING, STUDY = "Regions", "Upscaling", "Study"


@options.takes_source_options
def enhance(
    run: options.Run,
    upscaler: Annotated[
        str,
        option(
            UPSCALING,
            "A folder in the diffusers layout, or OWNER/NAME on Hugging Face; bicubic or lanczos to compare with.",
            metavar="DIR|REPO",
        ),
    ],
    inputs: Annotated[
        list[pathlib.Path] | None,
        typer.Argument(metavar="[INPUT...]", help="Image files, folders or .npz files; or give --data or --split."),
    ] = None,
    out: Annotated[pathlib.Path, option(OUTPUT, "Folder to write; the same command goes on with it.")] = pathlib.Path(
        "enhanced"
    ),
    map_name: Annotated[
        str | None,
        option(
            REGIONS,
            "rollout (the default of a ViT), published, relevance, or as for localize; else attention or class_map.",
            "--map",
        ),
    ] = None,
    threshold: Annotated[
        float | None, option(REGIONS, "Share of a map's range that a cell must reach; 0.8 by default.")
    ] = None,
    quantile: Annotated[float | None, option(REGIONS, "Instead: share of the cells below those chosen.")] = None,
    top_k: Annotated[int | None, option(REGIONS, "Instead: so many of the highest cells.")] = None,
    smallest: Annotated[int, option(REGIONS, "Pixels that the edges of a region are multiples of.")] = 64,
    max_regions: Annotated[int | None, option(REGIONS, "The strongest so many of an image alone.")] = None,
    fraction: Annotated[float, option(REGIONS, "Share of the images that is enhanced.")] = 1.0,
    steps: Annotated[int, option(UPSCALING, "Steps of the diffusion; 100 is official, 25 quick.")] = 25,
    eta: Annotated[float, option(UPSCALING, "Share of fresh noise in each step, from 0 to 1.")] = 1.0,
    paste: Annotated[str, option(UPSCALING, "hard, or feathered borders.")] = "hard",
    keep_scale: Annotated[
        bool, option(UPSCALING, "Write images as large as their enlarged regions.", "--keep-scale")
    ] = False,
    consistent: Annotated[
        bool, option(UPSCALING, "Keep what a region shows, and add only what it cannot hold.", "--consistent")
    ] = False,
    batch_size: Annotated[int, option(UPSCALING, "Regions at a time; 8 or so on a graphics card.")] = 1,
    data: Annotated[str | None, option(DATA, options.SOURCE_HELP, "--data", metavar="SOURCE")] = None,
    split: Annotated[
        str | None, option(DATA, "all, train, val or test, of the run's own data or of --data.", metavar="SPLIT")
    ] = None,
    source_options: Mapping[str, Any] = options.NONE_GIVEN,
    samples: Shown = 12,
    experiment: Annotated[
        bool,
        option(
            STUDY,
            "Enhance all of the run's data, and compare trainings on the images before and after.",
            "--experiment",
        ),
    ] = False,
    seeds: Annotated[int, option(STUDY, "Trainings of each arm.")] = 3,
    epochs: Annotated[int | None, option(STUDY, "Of each training; the run's own by default.")] = None,
    seed: Annotated[int, option(UPSCALING, "Seed of the noise, and of the images that --fraction leaves out.")] = 0,
) -> None:
    """Enlarge what a run looks at by super resolution, and put it back into the images."""
    with starting() as console:
        from medkeras.super_resolution.enhancement.regions import RegionRule
        from pipelines.jobs.enhance import Enhancement, enhance_run

        rule = RegionRule(threshold=threshold, quantile=quantile, top=top_k, smallest=smallest, max_regions=max_regions)
        how = Enhancement(
            rule=rule,
            map=map_name,
            steps=steps,
            eta=eta,
            seed=seed,
            paste=paste,
            keep_scale=keep_scale,
            consistent=consistent,
            fraction=fraction,
        )
        if experiment:
            if inputs or data or split:
                raise options.UsageError("An experiment takes all of the run's own data. Received: other images")
            from pipelines.jobs.enhance_experiment import enhance_experiment

            enhance_experiment(
                run,
                out,
                upscaler=upscaler,
                how=how,
                seeds=seeds,
                epochs=epochs,
                batch_size=batch_size,
                samples=samples,
                console=console,
            )
            return
        enhance_run(
            run,
            inputs or (),
            out,
            upscaler=upscaler,
            how=how,
            data=data,
            split=split,
            batch_size=batch_size,
            samples=samples,
            console=console,
            **source_options,
        )
