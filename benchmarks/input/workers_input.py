"""What the input pipeline gives with one worker and with several, each of which reads its own rows of every batch.

    python benchmarks/input/workers_input.py --data ../shared/data/busi/images --workers 1 2

Workers are processes of this host that read at the same time and train nothing: the numbers are those of their input
alone. On one host they share its cores, so that more of them cannot give more images; what each image costs in
processor time is what several hosts would pay too. Rounds of all numbers of workers alternate.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from rich.console import Console
from rich.table import Table

import pipelines
from pipelines import augment

WARM_UP = 20  # Batches that may have been prepared while the workers waited for each other.


def read(arguments: argparse.Namespace, worker: int, workers: int) -> dict[str, float]:
    """Reads the rows of one worker, and returns when it began and ended and how much processor time it took."""
    data = pipelines.load(
        arguments.data,
        image_size=arguments.size,
        batch_size=arguments.batch,
        augment=augment.choose("standard"),
        leakage="off",
    )
    share = arguments.batch // workers
    batches = iter(data.train_stream(rows=(worker * share, (worker + 1) * share)))
    next(batches)
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(WARM_UP):
        next(batches)
    began, worked = time.time(), time.process_time()
    for _ in range(arguments.steps):
        next(batches)
    return {"began": began, "ended": time.time(), "worked": time.process_time() - worked}


def measure(words: list[str], workers: int) -> list[dict[str, float]]:
    """Starts the workers, lets them begin together and returns what each measured."""
    command = [sys.executable, pathlib.Path(__file__), *words, "--workers", str(workers), "--worker"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([*command, str(i)], **pipes) for i in range(workers)]
    for process in started:
        process.stdout.readline()
    for process in started:
        print("go", file=process.stdin, flush=True)
    said = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit("A process failed; its message stands above.")
    return [json.loads(text.splitlines()[-1]) for text in said]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="phantom")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32, help="Of all workers together.")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--worker", type=int, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        print(json.dumps(read(arguments, arguments.worker, arguments.workers[0])))
        return
    words = [f"--{name}={getattr(arguments, name)}" for name in ("data", "size", "batch", "steps")]
    images = arguments.steps * arguments.batch
    rates, costs = ({count: [] for count in arguments.workers} for _ in range(2))
    for _ in range(arguments.rounds):
        for count in arguments.workers:
            found = measure(words, count)
            seconds = max(one["ended"] for one in found) - min(one["began"] for one in found)
            rates[count].append(images / seconds)
            costs[count].append(1000 * sum(one["worked"] for one in found) / images)
    table = Table("workers", "images per second", "all rounds", "processor ms per image", "all rounds")
    for count in arguments.workers:
        cells = []
        for values, form in ((rates[count], "{:.0f}"), (costs[count], "{:.2f}")):
            cells += [form.format(np.median(values)), ", ".join(map(form.format, values))]
        table.add_row(str(count), *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
