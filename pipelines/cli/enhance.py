"""The command `enhance`."""

import pathlib
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from medkeras.errors import InputError
from pipelines.cli import options
from pipelines.cli.options import DATA, OUTPUT, Shown, option
from pipelines.cli.starting import starting

REGIONS, UPSCALING, STUDY = "Regions", "Upscaling", "Study"


Upscaler = Annotated[
    str,
    option(
        UPSCALING,
        "A folder in the diffusers layout, or OWNER/NAME on Hugging Face; bicubic or lanczos to compare with.",
        metavar="DIR|REPO",
    ),
]
Inputs = Annotated[
    list[pathlib.Path] | None,
    typer.Argument(metavar="[INPUT...]", help="Image files, folders or .npz files; or give --data or --split."),
]
Out = Annotated[pathlib.Path, option(OUTPUT, "Folder to write; the same command goes on with it.")]
Map = Annotated[
    str | None,
    option(
        REGIONS,
        "rollout (the default of a ViT), published, relevance, or as for localize; else attention or class_map.",
        "--map",
    ),
]
Threshold = Annotated[float | None, option(REGIONS, "Share of a map's range that a cell must reach; 0.8 by default.")]
Quantile = Annotated[float | None, option(REGIONS, "Instead: share of the cells below those chosen.")]
TopK = Annotated[int | None, option(REGIONS, "Instead: so many of the highest cells.")]
Smallest = Annotated[int, option(REGIONS, "Pixels that the edges of a region are multiples of.")]
MaxRegions = Annotated[int | None, option(REGIONS, "The strongest so many of an image alone.")]
Fraction = Annotated[float, option(REGIONS, "Share of the images that is enhanced.")]
Steps = Annotated[int, option(UPSCALING, "Steps of the diffusion; 100 is official, 25 quick.")]
Eta = Annotated[float, option(UPSCALING, "Share of fresh noise in each step, from 0 to 1.")]
Paste = Annotated[str, option(UPSCALING, "hard, or feathered borders.")]
KeepScale = Annotated[bool, option(UPSCALING, "Write images as large as their enlarged regions.", "--keep-scale")]
Consistent = Annotated[
    bool, option(UPSCALING, "Keep what a region shows, and add only what it cannot hold.", "--consistent")
]
BatchSize = Annotated[int, option(UPSCALING, "Regions at a time; 8 or so on a graphics card.")]
Data = Annotated[str | None, option(DATA, options.SOURCE_HELP, "--data", metavar="SOURCE")]
Split = Annotated[
    str | None, option(DATA, "all, train, val or test, of the run's own data or of --data.", metavar="SPLIT")
]
Experiment = Annotated[
    bool,
    option(
        STUDY, "Enhance all of the run's data, and compare trainings on the images before and after.", "--experiment"
    ),
]
Seeds = Annotated[int, option(STUDY, "Trainings of each arm.")]
Epochs = Annotated[int | None, option(STUDY, "Of each training; the run's own by default.")]
Seed = Annotated[int, option(UPSCALING, "Seed of the noise, and of the images that --fraction leaves out.")]


@options.takes_source_options
def enhance(
    run: options.Run,
    upscaler: Upscaler,
    inputs: Inputs = None,
    out: Out = pathlib.Path("enhanced"),
    map_name: Map = None,
    threshold: Threshold = None,
    quantile: Quantile = None,
    top_k: TopK = None,
    smallest: Smallest = 64,
    max_regions: MaxRegions = None,
    fraction: Fraction = 1.0,
    steps: Steps = 25,
    eta: Eta = 1.0,
    paste: Paste = "hard",
    keep_scale: KeepScale = False,
    consistent: Consistent = False,
    batch_size: BatchSize = 1,
    data: Data = None,
    split: Split = None,
    source_options: Mapping[str, Any] = options.NONE_GIVEN,
    samples: Shown = 12,
    experiment: Experiment = False,
    seeds: Seeds = 3,
    epochs: Epochs = None,
    seed: Seed = 0,
) -> None:
    """Enlarge what a run looks at by super resolution, and put it back into the images."""
    if experiment and (inputs or data or split):
        raise InputError("An experiment takes all of the run's own data. Received: other images")
    with starting() as console:
        from medkeras.super_resolution.enhancement.regions import RegionRule
        from pipelines.jobs.enhance import Enhancement, enhance_run

        rule = RegionRule(threshold=threshold, quantile=quantile, top=top_k, smallest=smallest, max_regions=max_regions)
        values = {"steps": steps, "eta": eta, "seed": seed, "paste": paste, "fraction": fraction}
        how = Enhancement(rule=rule, map=map_name, keep_scale=keep_scale, consistent=consistent, **values)
        common = {"upscaler": upscaler, "how": how, "batch_size": batch_size, "samples": samples, "console": console}
        if experiment:
            from pipelines.jobs.enhance_experiment import enhance_experiment

            enhance_experiment(run, out, seeds=seeds, epochs=epochs, **common)
        else:
            enhance_run(run, inputs or (), out, data=data, split=split, **common, **source_options)
