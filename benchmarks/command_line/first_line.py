"""When each command prints its first line, how long it is ever silent, and what reaches standard error.

    python benchmarks/command_line/first_line.py
    python benchmarks/command_line/first_line.py --commands predict export --root ../another/checkout

Every command runs in a process of its own on a small run of phantom images, which is trained first; its output goes to
a pipe, as to a log file. Asked: a first line within 3 seconds, and no silence of more than 10.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from rich.console import Console
from rich.table import Table

ROOT = pathlib.Path(__file__).parents[2]
TRAIN = "train --data phantom --model focusnet2d_tiny --run {run} --epochs 4 --image-size 32 --source-option images=240"
COMMANDS = {
    "train": TRAIN,
    "data": "data phantom --out {folder}/sheet.png",
    "models": "models",
    "evaluate": "evaluate {run}",
    "predict": "predict {run} {folder}/maps --out {folder}/p.csv",
    "explain": "explain {run} --samples 4 --out {folder}/maps",
    "localize": "localize {run} --samples 2",
    "report": "report {run}",
    "export": "export {run} --to {folder}/store --name a",
    "compare": "compare {run} {run}",
    "train-upscaler": "train-upscaler --data phantom --run {folder}/up --preset ldm_4x_tiny --image-size 48 "
    "--source-option images=40 --vqvae-epochs 1 --epochs 1 --crop 32",
    "enhance": "enhance {run} {folder}/maps --upscaler {folder}/up/upscaler --steps 2 --smallest 16 --max-regions 1 "
    "--out {folder}/enhanced",
}
ORDER = ("train", "data", "models", "evaluate", "explain", "predict", *list(COMMANDS)[6:])


def watch(words: list[str], root: pathlib.Path, module: str) -> tuple[int, list[float], str]:
    """Runs a command; returns its exit code, the seconds at which it printed, and its standard error."""
    variables = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    with tempfile.TemporaryFile() as errors:
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=variables | {"PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"},
        )
        times = [0.0]
        while os.read(process.stdout.fileno(), 65536):
            times.append(time.monotonic() - started)
        code = process.wait()
        times.append(time.monotonic() - started)
        errors.seek(0)
        return code, times, errors.read().decode(errors="replace")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commands", nargs="+", choices=ORDER, default=ORDER)
    parser.add_argument("--root", type=pathlib.Path, default=ROOT, help="The checkout whose commands are run.")
    parser.add_argument("--module", default="pipelines", help="pipelines.cli for version 0.1.")
    arguments = parser.parse_args()
    table = Table("command", "exit", "first line, s", "longest silence, s", "whole, s", "lines on stderr")
    with tempfile.TemporaryDirectory() as folder:
        for name in ORDER:
            words = COMMANDS[name].format(run=f"{folder}/run", folder=folder).split()
            code, times, errors = watch(words, arguments.root.resolve(), arguments.module)
            silence = max(after - before for before, after in zip(times, times[1:], strict=False))
            row = (str(code), f"{times[1]:.1f}", f"{silence:.1f}", f"{times[-1]:.1f}", str(len(errors.splitlines())))
            if name in arguments.commands:
                table.add_row(name, *row)
    Console().print(table)


if __name__ == "__main__":
    main()
