"""The command line: one command per job; what the user gave wrong is one line, anything else a traceback."""

import importlib.metadata
import pathlib
import re
import sys
import traceback
from collections.abc import Mapping
from typing import Annotated, Any

import typer
import typer.core
from rich.table import Table

from pipelines.cli import options
from pipelines.cli.enhance import enhance
from pipelines.cli.explain import explain
from pipelines.cli.export import export
from pipelines.cli.launch import launch
from pipelines.cli.localize import localize
from pipelines.cli.options import DATA
from pipelines.cli.predict import predict
from pipelines.cli.report import report
from pipelines.cli.starting import show_native, starting
from pipelines.cli.train import train
from pipelines.cli.train_upscaler import train_upscaler
from pipelines.runtime.console import PlainConsole
from pipelines.runtime.termination import Terminated

BUG, BAD_INPUT, INTERRUPTED, TERMINATED = 1, 2, 130, 143

REPORT = "This is a mistake of medkeras, not of what you gave it: please report the lines above, and the command."
PREPARE = "data prepare"


class Commands(typer.core.TyperGroup):
    """The commands; `data prepare` is one of them, beside `data SOURCE`, and not a source of that name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Finds the command that words call."""
        is_prepare = args[:2] == PREPARE.split()
        return super().resolve_command(ctx, [PREPARE, *args[2:]] if is_prepare else args)


app = typer.Typer(
    name="medkeras",
    cls=Commands,
    help="Medical images in; a trained, evaluated, explained and exported model out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    0; 2 for bad input, which is told in one line; 1 for a mistake of this program, which shows its traceback; 130 when
    interrupted, 143 when terminated.

    Args:
        arguments: The words after `medkeras`; those of the process by default.

    Example:
        >>> main(["no-such-command"])
        2
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="medkeras", standalone_mode=False) or 0
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Terminated as reason:
        print(f"terminated: {reason}; the same command goes on from there", file=sys.stderr)
        return TERMINATED
    except Exception as error:
        reason = _one_line(error)
        if reason is None or "--debug" in arguments:
            traceback.print_exc()
        print(f"error: {reason}" if reason is not None else REPORT, file=sys.stderr)
        return BUG if reason is None else BAD_INPUT
    if code == INTERRUPTED:
        print("interrupted: the same command continues a training", file=sys.stderr)
    return code


def _one_line(error: Exception) -> str | None:
    """Returns what was wrong with the input, or None if the error is not the user's."""
    if isinstance(error, options.UsageError):
        return f"{error.format_message().rstrip('.')}; see `medkeras --help`"
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {error.filename}"
    from medkeras.errors import InputError

    if isinstance(error, (InputError, OSError)) or _lacks_extra(error):
        return " ".join(str(error).split())
    # A dataset reports the error of our Python code that reads images as its own, with the traceback inside.
    inner = re.search(r"(?:InputError|\w*NotFoundError|OSError): (.*)", str(error))
    is_from_dataset = type(error).__module__.startswith("tensorflow") and inner
    return inner.group(1).strip() if is_from_dataset else None


def _lacks_extra(error: Exception) -> bool:
    """Says whether a package is missing that can be installed, not a module of ours."""
    if not isinstance(error, ModuleNotFoundError):
        return False
    name = (error.name or "").partition(".")[0]
    return name not in ("medkeras", "pipelines")


def _version(is_asked: bool) -> None:
    if is_asked:
        print(f"medkeras {importlib.metadata.version('medkeras')}")
        raise typer.Exit


@app.callback()
def _medkeras(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error, and what TensorFlow says.")
    ] = False,
) -> None:
    show_native(debug)


@app.command(epilog="Example: medkeras demo --out demo")
def demo(
    out: Annotated[pathlib.Path, typer.Option(help="Folder of everything the demo makes.")] = pathlib.Path("demo"),
    seed: options.Seed = 0,
) -> None:
    """Run the whole way once on phantom images: train, evaluate, explain, export."""
    with starting() as console:
        from pipelines.jobs.demo import demo as run_demo

        run_demo(out, seed=seed, console=console)


@app.command(epilog="Example: medkeras data phantom:multiclass --out sheet.png")
@options.takes_source_options
def data(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=options.SOURCE_HELP)],
    out: Annotated[pathlib.Path | None, typer.Option(help="Contact sheet to draw, a .png.")] = None,
    task: options.Task = None,
    preprocess: options.Preprocess = None,
    duplicates: Annotated[
        pathlib.Path | None, typer.Option(help="Look for images that look the same; the list to write, a .csv.")
    ] = None,
    source_options: Mapping[str, Any] = options.NONE_GIVEN,
    seed: options.Seed = 0,
) -> None:
    """Inspect a source: counts, shapes, class balance, splits and a contact sheet."""
    with starting() as console:
        from pipelines.jobs.data import inspect

        inspect(
            source,
            out,
            task=task,
            preprocess=preprocess or (),
            duplicates=duplicates,
            seed=seed,
            console=console,
            **source_options,
        )


@app.command(PREPARE, epilog="Example: medkeras data prepare isic2018 --from downloads/isic --to data/isic2018")
def data_prepare(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A name that `medkeras recipes` lists.")],
    source: Annotated[
        pathlib.Path,
        typer.Option(
            "--from", help="The download: a folder, an archive, or a folder of archives.", metavar="DOWNLOADED"
        ),
    ],
    to: Annotated[pathlib.Path, typer.Option(help="The folder to make; the same command goes on with it.")],
    split: Annotated[
        str | None,
        typer.Option(help="grouped, or published: by image, to compare with published figures (where there is one)."),
    ] = None,
) -> None:
    """Lay a downloaded data set out for a recipe: class folders and an index."""
    from pipelines.recipes.prepare import prepare

    prepare(recipe, source, to, split=split, console=PlainConsole())


@app.command(epilog="Example: medkeras recipes isic2018")
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[RECIPE]", help="Show this one whole.")] = None,
) -> None:
    """List the recipes of published systems, or show one: data, layout, figures, command."""
    from pipelines.recipes.describe import describe, overview

    PlainConsole().print(overview() if name is None else describe(name), soft_wrap=name is not None)


@app.command(epilog="Example: medkeras models")
def models() -> None:
    """List the models with their input sizes and parameters."""
    with starting() as console:
        from medkeras import models as registry

        table = Table("model", "input", "parameters", "what it is")
        with console.status("Building each model once"):
            for name in registry.names():
                preset = registry.preset(name)
                try:
                    size = f"{registry.count_params(name, num_classes=2):,}"
                except ModuleNotFoundError as error:
                    size = str(error)
                table.add_row(name, " x ".join(map(str, preset.input_shape)), size, preset.description)
        console.print(table)


app.command(epilog="Example: medkeras train --data phantom --model focusnet2d --run runs/first --epochs 10")(train)
app.command(
    epilog="Example: medkeras launch --workers 2 -- train --data phantom --model focusnet2d --run runs/first",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)(launch)


@app.command(epilog="Example: medkeras data-service --port 5050")
def data_service(
    dispatcher: Annotated[
        str | None, typer.Option(help="Work for the dispatcher at this address; else be one.", metavar="HOST:PORT")
    ] = None,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes any free one.")] = 0,
    host: Annotated[str, typer.Option(help="Name under which a worker is reached.")] = "localhost",
) -> None:
    """Run a tf.data service: one dispatcher, and any number of workers that make batches for trainings."""
    with starting() as console:
        from pipelines.jobs.data_service import serve

        serve(dispatcher=dispatcher, port=port, host=host, console=console)


@app.command(epilog="Example: medkeras evaluate runs/first --data other.csv --label-column finding")
@options.takes_source_options
def evaluate(
    run: options.Run,
    data: options.OtherSource = None,
    split: Annotated[
        str | None,
        typer.Option(help="train, val or test; by default test, and all of another source.", rich_help_panel=DATA),
    ] = None,
    two_stage: options.TwoStage = None,
    uncertainty: options.Uncertainty = "none",
    samples: options.Samples = 50,
    members: options.Members = None,
    subgroups: Annotated[
        list[str] | None,
        typer.Option("--subgroup", help="Column to measure by: sex, or age:40,60 with edges of bands; repeatable."),
    ] = None,
    source_options: Mapping[str, Any] = options.NONE_GIVEN,
    seed: options.Seed = 0,
) -> None:
    """Measure a run on images it has not seen, at the threshold frozen on validation, and how sure it may be."""
    with starting() as console:
        from pipelines.jobs.evaluate import evaluate_run

        evaluate_run(
            run,
            data=data,
            split=split,
            two_stage=two_stage,
            uncertainty=uncertainty,
            samples=samples,
            members=members or (),
            subgroups=subgroups or (),
            seed=seed,
            console=console,
            **source_options,
        )


@app.command(epilog="Example: medkeras compare runs/first runs/second")
def compare(
    first: options.Run,
    second: Annotated[pathlib.Path, typer.Argument(metavar="RUN", help="Another, evaluated on the same images.")],
    out: Annotated[
        pathlib.Path | None, typer.Option(help="Folder of the results; RUN/comparisons/<second> by default.")
    ] = None,
    seed: options.Seed = 0,
) -> None:
    """Compare two evaluated runs image by image: which is better, by how much, and whether chance would do as well."""
    with starting() as console:
        from pipelines.jobs.compare import compare_runs

        compare_runs(first, second, out=out, seed=seed, console=console)


app.command(epilog="Example: medkeras predict runs/first scans/ --out predictions.csv")(predict)


app.command(epilog="Example: medkeras explain runs/first scan.png --out maps")(explain)
app.command(epilog="Example: medkeras localize runs/first --samples 20")(localize)
app.command(epilog="Example: medkeras enhance runs/first scans/ --upscaler ldm --out enhanced")(enhance)
app.command(
    "train-upscaler", epilog="Example: medkeras train-upscaler --data scans/ --run runs/up --preset ldm_4x_small"
)(train_upscaler)
app.command(epilog="Example: medkeras report runs/first runs/second")(report)
app.command(epilog="Example: medkeras export runs/first --to saved_models")(export)
