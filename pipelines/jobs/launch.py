"""Several workers of one training on one host: started together, watched, and stopped together."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO

from rich.console import Console

from medkeras.errors import InputError
from pipelines.distribution.cluster import Cluster
from pipelines.runtime.ports import check_free, free_ports

GRACE_SECONDS = 15  # For workers to notice that another one is gone and to say so.
POLL_SECONDS = 0.1
SHELL_SIGNAL = 128  # What a shell adds to the number of the signal that ended a process.


def launch(
    words: Sequence[str],
    *,
    workers: int,
    port: int | None = None,
    gpus_per_worker: int | None = None,
    program: Sequence[str] | None = None,
    console: Console | None = None,
) -> int:
    """Runs the same `medkeras train` in several processes of this host, which share each step, and waits for them.

    The first one is the chief: what it prints is seen, and it alone writes the run folder. When one ends with an error,
    the others are stopped, and the same call continues the training after its last checkpoint.

    Args:
        words: The words of the command, from `train` on.
        workers: How many processes, >= 1.
        port: The port of the first worker, the others take the next ones; any free ones by default.
        gpus_per_worker: GPUs for each worker, one after the other; by default all see what this process sees.
        program: What runs the command line; by default as this process was started.
        console: Where to print; nothing is printed by default.

    Returns:
        0, or the exit code of the worker that failed first; 128 and the signal if one ended it.

    Raises:
        ValueError: If there are no workers, the words are no training, or there are fewer GPUs than asked for.
        OSError: If a port is in use.

    Example:
        >>> launch(["evaluate", "runs/a"], workers=2)
        Traceback (most recent call last):
        ...
        medkeras.InputError: Workers share the steps of `train`. Received: evaluate
    """
    if not words or words[0] != "train":
        raise InputError(f"Workers share the steps of `train`. Received: {words[0] if words else 'nothing'}")
    if workers < 1:
        raise InputError(f"`workers` must be >= 1. Received: workers={workers}")
    addresses = tuple(f"localhost:{number}" for number in _ports(workers, port))
    shares = _gpu_shares(workers, gpus_per_worker)
    program = list(program or sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1])
    with contextlib.ExitStack() as stack:
        errors = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(workers - 1)]
        started = []
        stack.callback(_stop, started)
        for i in range(workers):
            variables = {"TF_CONFIG": Cluster(addresses, i).to_tf_config()} | shares[i]
            # The chief speaks for all; of the others, only what went wrong is shown.
            output = {"stdout": subprocess.DEVNULL, "stderr": errors[i - 1]} if i else {}
            started.append(subprocess.Popen([*program, *words], env=os.environ | variables, **output))
        with _passing_on(started):
            failed = _watch(started)
        if failed is None:
            return 0
        return _report(failed, started[failed].returncode, errors, console or Console(quiet=True))


def _ports(workers: int, first: int | None) -> list[int]:
    if first is None:
        return free_ports(workers)
    if not 0 < first <= 2**16 - workers:
        raise InputError(f"`port` must be in [1, {2**16 - workers}]. Received: port={first}")
    ports = list(range(first, first + workers))
    for port in ports:
        check_free(port)
    return ports


def _gpu_shares(workers: int, each: int | None) -> list[dict[str, str]]:
    """Returns the variables that give each worker its GPUs."""
    if each is None:
        return [{}] * workers
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(i) for i in range(workers * each)] if visible is None else [n for n in visible.split(",") if n]
    if each < 0 or len(names) < workers * each:
        raise InputError(
            f"{workers} workers must have the GPUs that they take, in CUDA_VISIBLE_DEVICES={visible!r}. "
            f"Received: gpus_per_worker={each}"
        )
    return [{"CUDA_VISIBLE_DEVICES": ",".join(names[i * each : (i + 1) * each])} for i in range(workers)]


def _watch(started: Sequence[subprocess.Popen]) -> int | None:
    """Waits until all have ended well, or one has failed and the others have had time to notice; returns that one."""
    failed, deadline = None, float("inf")
    while any(process.poll() is None for process in started) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        if failed is None:
            failed = _failed(started)
            deadline = deadline if failed is None else time.monotonic() + GRACE_SECONDS
    return _failed(started) if failed is None else failed


def _failed(started: Sequence[subprocess.Popen]) -> int | None:
    """Returns a worker that failed; one that was killed before others, which then fail for its sake."""
    ended = [(process.poll() > 0, i) for i, process in enumerate(started) if process.poll()]
    return min(ended)[1] if ended else None


def _stop(started: Sequence[subprocess.Popen]) -> None:
    """Stops what still runs: a worker that waits for others does not hear SIGTERM, and loses nothing by SIGKILL."""
    for process in started:
        if process.poll() is None:
            process.kill()
    for process in started:
        process.wait()


def _report(failed: int, code: int, errors: Sequence[IO[str]], console: Console) -> int:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    if failed:
        errors[failed - 1].seek(0)
        said = [line for line in errors[failed - 1] if line.startswith("error: ")]
        how += f", {said[-1].strip()}" if said else ""
    console.print(
        f"Worker {failed} {how}; all workers have stopped. The same command continues after the last checkpoint.",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    return SHELL_SIGNAL - code if code < 0 else code


@contextlib.contextmanager
def _passing_on(started: Sequence[subprocess.Popen]) -> Iterator[None]:
    """Passes SIGTERM on to all workers; SIGINT of a terminal reaches them by itself."""

    def pass_on(number: int, _: object) -> None:
        for process in started:
            process.send_signal(number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
