"""The command `launch`."""

from typing import Annotated

import typer

from pipelines.runtime.console import PlainConsole


def launch(
    words: Annotated[list[str], typer.Argument(metavar="train ...", help="The command, as it runs alone.")],
    workers: Annotated[int, typer.Option(help="How many processes.")] = 2,
    port: Annotated[int | None, typer.Option(help="Port of the first; the others take the next ones.")] = None,
    gpus_per_worker: Annotated[int | None, typer.Option(help="GPUs for each; by default all see all.")] = None,
) -> None:
    """Train in several processes of this host, which share each step as those of several hosts do."""
    from pipelines.jobs.launch import launch as run_workers

    console = PlainConsole(stderr=True)
    code = run_workers(words, workers=workers, port=port, gpus_per_worker=gpus_per_worker, console=console)
    raise typer.Exit(code)
