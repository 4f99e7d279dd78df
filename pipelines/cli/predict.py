"""The command `predict`: of a run, or of an exported model itself."""

import pathlib
from typing import Annotated

import typer

from pipelines.cli import options
from pipelines.cli.starting import starting


def predict(
    context: typer.Context,
    inputs: Annotated[
        list[pathlib.Path],
        typer.Argument(
            metavar="[RUN] INPUT...",
            help="A folder that `medkeras train` made, unless an exported model is named; then image files, folders "
            "or .npz files.",
        ),
    ],
    out: Annotated[pathlib.Path, typer.Option(help="The .csv to write.")],
    saved_model: Annotated[
        pathlib.Path | None,
        typer.Option(help="Predict with this SavedModel itself, without a RUN.", metavar="FOLDER"),
    ] = None,
    tflite: Annotated[
        pathlib.Path | None, typer.Option(help="Predict with this LiteRT file itself, without a RUN.", metavar="FILE")
    ] = None,
    onnx: Annotated[
        pathlib.Path | None, typer.Option(help="Predict with this ONNX file itself, without a RUN.", metavar="FILE")
    ] = None,
    on_error: options.OnError = "raise",
    two_stage: options.TwoStage = None,
    uncertainty: options.Uncertainty = "none",
    samples: options.Samples = 50,
    members: options.Members = None,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 32,
    seed: options.Seed = 0,
) -> None:
    """Predict image files: a table of probabilities, decisions, and how sure they are."""
    common = {"on_error": on_error, "batch_size": batch_size}
    artefacts = {"--saved-model": saved_model, "--tflite": tflite, "--onnx": onnx}
    if named := {name: path for name, path in artefacts.items() if path is not None}:
        _check_alone(context, list(named))
        with starting() as console:
            from pipelines.inference.exported_model import open_file, open_saved_model
            from pipelines.jobs.predict import predict_artefact

            ((name, path),) = named.items()
            with console.status("Loading the model"):
                if name == "--saved-model":
                    found = open_saved_model(path, console=console)
                else:
                    found = open_file(path, name.replace("--", "."), console=console)
            predict_artefact(found, inputs, out, console=console, **common)
        return
    run, *images = inputs
    if not images:
        raise options.UsageError(f"A prediction needs a RUN and an INPUT, or an exported model. Received: {run} alone")
    with starting() as console:
        from pipelines.jobs.predict import predict_run

        how = {"two_stage": two_stage, "uncertainty": uncertainty, "samples": samples, "members": members or ()}
        predict_run(run, images, out, seed=seed, console=console, **how, **common)


def _check_alone(context: typer.Context, named: list[str]) -> None:
    if len(named) > 1:
        raise options.UsageError(f"One exported model predicts at a time. Received: {' and '.join(named)}")
    of_runs = {"two_stage": "--two-stage", "uncertainty": "--uncertainty", "samples": "--samples"}
    of_runs |= {"members": "--member", "seed": "--seed"}
    if wrong := [option for name, option in of_runs.items() if name in options.given(context)]:
        raise options.UsageError(f"An exported model is asked once; this is of a RUN. Received: {', '.join(wrong)}")
