"""The command `export`."""

import pathlib
from typing import Annotated

import typer

from pipelines.cli import options
from pipelines.cli.starting import starting


def export(
    run: options.Run,
    to: Annotated[pathlib.Path, typer.Option(help="The model store, which TF Serving can read.")],
    name: Annotated[str | None, typer.Option(help="Name in the store; that of the run by default.")] = None,
    data: options.OtherSource = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="saved_model, litert (also -float16, -int8, -full-int8) or onnx; the first two by default.",
        ),
    ] = None,
    bounds: Annotated[
        list[str] | None,
        typer.Option(
            "--bound",
            help="What a file must hold to, e.g. litert.probabilities=1e-3 or litert-int8.agreement=0.9; also logits, "
            "map and auc_loss.",
        ),
    ] = None,
    two_stage: options.TwoStage = None,
) -> None:
    """Export a run as SavedModel, LiteRT and ONNX files, compared with Keras on real images."""
    with starting() as console:
        from pipelines.exporting.bounds import parse_bounds
        from pipelines.jobs.export import FORMATS, export_run

        chosen = {"formats": formats or FORMATS, "bounds": parse_bounds(bounds or ())}
        export_run(run, to, name=name, data=data, two_stage=two_stage, console=console, **chosen)
