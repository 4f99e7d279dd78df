"""Kills trainings at random moments, long: every restart goes on, and the end is that of a training left in peace.

    python benchmarks/training/kills.py --kills 30
    python benchmarks/training/kills.py --kills 10 --runs 2 --workers 2

Real processes are ended by SIGKILL: while they start, in the steps of an epoch and while a state is written. After
each kill every saved state, the best model and the history are read. Of several workers that train together, one that
is drawn is killed; the others shall notice, or are ended as `medkeras launch` ends them. The moments follow from a
seed, which is printed; `--seed` repeats them.
"""

import argparse
import collections
import os
import pathlib
import random
import signal
import sys
import tempfile
import time

import keras
import numpy as np
import pandas as pd
from rich.console import Console

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import tiny_model  # noqa: E402, F401  registers its layers for reading
from interrupted import Moment, Trainings, is_running, start_together  # noqa: E402
from pipelines.io.checksums import what_is_wrong  # noqa: E402
from pipelines.io.run_folder import RunFolder  # noqa: E402
from pipelines.training.checkpointing import Checkpoints  # noqa: E402

KINDS = ("step", "step", "save", "save", "start")
NOTICED = 2  # Exit code of a worker that says that another one is gone.
GRACE_SECONDS = 60  # For the others to notice that a worker is gone.
SAME = ("history.csv", "operating_point.json", "calibration.json", "splits.csv", "leakage.csv")


def words(run: pathlib.Path, epochs: int) -> list[str]:
    line = f"train --data phantom --model tiny_net --run {run} --epochs {epochs} --save-steps 2 --ema 0.9"
    return [*line.split(), *"--image-size 16 --batch-size 8 --source-option images=60 --source-option size=16".split()]


def train_to_the_end(workers: list[Trainings], line: list[str]) -> None:
    start_together(workers, line)
    if any([worker.wait() for worker in workers]):
        raise SystemExit("\n".join(worker.errors.read_text() for worker in workers))


def kill_one(workers: list[Trainings], line: list[str], run: pathlib.Path, moment: Moment, victim: int) -> list[int]:
    """Kills a worker of a training at a moment, waits for the others, and returns their exit codes."""
    processes = start_together(workers, line)
    moment.wait_for(run, lambda: is_running(processes[victim]))
    os.kill(processes[victim], signal.SIGKILL)
    code, deadline = workers[victim].wait(), time.monotonic() + GRACE_SECONDS
    if code != -signal.SIGKILL:
        raise SystemExit(f"ended by {code} before it was killed: {workers[victim].errors.read_text()}")
    others = [i for i in range(len(workers)) if i != victim]
    for i in others:
        while is_running(processes[i]) and time.monotonic() < deadline:
            time.sleep(0.05)
        if is_running(processes[i]):
            os.kill(processes[i], signal.SIGKILL)
    return [workers[i].wait() for i in others]


def read_everything(run: pathlib.Path) -> int:
    """Reads all that the run folder holds and returns how many states it has."""
    states = [path for path in (run / "checkpoints").glob("[0-9]*")]
    broken = [f"{path}: {wrong}" for path in states if (wrong := what_is_wrong(path))]
    if broken:
        raise SystemExit(f"corrupt: {broken}")
    if (run / "model.keras").exists():
        keras.models.load_model(run / "model.keras", compile=False)
        pd.read_csv(run / "history.csv")
    return len(states)


def differences(run: pathlib.Path, whole: pathlib.Path, epochs: int, *, is_shared: bool) -> list[str]:
    """Returns what differs between two ends: in any bit, but in the history of several workers by more than roundings.

    Each worker has a part of the measures of an epoch. They are saved as one sum, which is shared out again, so that
    the mean of an epoch that was continued is added up in another order.
    """
    names = [name for name in SAME if not (is_shared and name == "history.csv")]
    found = [name for name in names if (run / name).read_bytes() != (whole / name).read_bytes()]
    histories = [pd.read_csv(folder / "history.csv").to_numpy() for folder in (run, whole)]
    if not np.allclose(*histories, rtol=1e-6, atol=0, equal_nan=True):
        found.append("history.csv")
    for mine, other in zip(*(end_weights(folder, epochs) for folder in (run, whole)), strict=True):
        if not np.array_equal(mine, other):
            found.append("weights")
    return sorted(set(found))


def end_weights(run: pathlib.Path, epochs: int) -> list[np.ndarray]:
    best = keras.models.load_model(run / "model.keras", compile=False).get_weights()
    return [*best, *np.load(run / f"checkpoints/{epochs:05d}/variables.npz").values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--runs", type=int, default=3, help="Trainings among which the kills are shared.")
    parser.add_argument("--workers", type=int, default=1, help="Processes that train together.")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = int.from_bytes(os.urandom(4), "big") if arguments.seed is None else arguments.seed
    console, chance, started = Console(), random.Random(seed), time.monotonic()
    console.print(f"--seed {seed}")
    kills = -(-arguments.kills // arguments.runs)
    epochs = 3 * kills  # A start saves at most six states before it is killed, three an epoch.
    seen = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        workers, whole = [Trainings(folder / f"errors{i}.txt") for i in range(arguments.workers)], folder / "whole"
        train_to_the_end(workers, words(whole, epochs))
        for number in range(arguments.runs):
            run = folder / f"run{number}"
            for kill in range(kills):
                kind, victim = chance.choice(KINDS), chance.randrange(len(workers))
                others = kill_one(workers, words(run, epochs), run, Moment(kind, chance.random()), victim)
                seen[kind] += 1
                seen["another noticed"] += others.count(NOTICED)
                seen["left half a state"] += any((run / "checkpoints").glob(".*"))
                newest = Checkpoints(RunFolder(run)).newest()
                seen["in the middle of an epoch"] += bool(newest and "-" in newest.name)
                states = read_everything(run)
                stands = newest.name if newest else "nothing saved"
                who = f"worker {victim}, the others {others}, " if others else ""
                console.print(f"training {number + 1}, kill {kill + 1}: {who}{kind}, {stands}, {states} states whole")
            train_to_the_end(workers, words(run, epochs))
            read_everything(run)
            if found := differences(run, whole, epochs, is_shared=len(workers) > 1):
                raise SystemExit(f"training {number + 1} ended otherwise than the uninterrupted one: {found}")
            console.print(f"training {number + 1}: equal, in weights to the bit")
        for worker in workers:
            worker.close()
    total = sum(seen[kind] for kind in set(KINDS))
    console.print(f"{total} kills in {arguments.runs} trainings of {epochs} epochs: {dict(seen)}", soft_wrap=True)
    console.print(f"every end equal, nothing corrupt; {time.monotonic() - started:.0f} s", soft_wrap=True)


if __name__ == "__main__":
    main()
