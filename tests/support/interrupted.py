"""Trainings as processes of their own, to be killed at chosen moments.

As a program, this file imports everything and then forks one process per command line that it reads: real processes,
which need no seconds to start.
"""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from paths import ROOT, SUPPORT

PATIENCE = 300  # Seconds until a test gives up.


class Trainings:
    """Starts command lines, one at a time.

    Args:
        errors: File for what they write to standard error.
    """

    def __init__(self, errors):
        self.errors = errors
        self.server = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors.open("a"),
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def start(self, words, **variables):
        """Starts `medkeras` with these words and variables and returns the number of the process."""
        self.errors.write_text("")
        print(json.dumps([[str(word) for word in words], variables]), file=self.server.stdin, flush=True)
        return int(self.server.stdout.readline())

    def wait(self):
        """Waits for the end of the process and returns its exit code, negative for a signal."""
        return int(self.server.stdout.readline())

    def close(self):
        self.server.stdin.close()
        self.server.stdout.close()
        self.server.wait(PATIENCE)


class Moment:
    """A random moment of a training, that of its end or before.

    Args:
        kind: `start`, from the first second on; `step`, when a random number of states was saved; `save`, while a
            state is written.
        seed: Of the choice.
    """

    def __init__(self, kind, seed):
        self.kind, self.random = kind, random.Random(seed)
        self.saves, self.share = self.random.randint(1, 6), self.random.random()

    def wait_for(self, run, is_running):
        """Waits for the moment in a run folder, or for the end of the process."""
        folder, deadline = pathlib.Path(run) / "checkpoints", time.monotonic() + PATIENCE
        if self.kind == "start":
            self._until(lambda: (folder.parent / "config.yaml").exists(), is_running, deadline)
            return time.sleep(3 * self.share)
        times, seen = [], names(folder)
        while is_running() and time.monotonic() < deadline and len(times) < self.saves:
            if names(folder) - seen:
                seen |= names(folder)
                times.append(time.monotonic())
            time.sleep(0.001)
        if self.kind == "save":
            self._until(lambda: any(folder.glob(".*")), is_running, deadline)
        else:
            # Somewhere in the steps until the next state is saved.
            time.sleep(self.share * (times[-1] - times[-2] if len(times) > 1 else 0.02))

    def _until(self, holds, is_running, deadline):
        while not holds() and is_running() and time.monotonic() < deadline:
            time.sleep(0.0005)


def names(folder):
    return {path.name for path in folder.glob("[0-9]*")}


def is_running(pid):
    """Says whether a process has not ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def end_at(moment, trainings, words, run, by=signal.SIGKILL):
    """Starts a training, ends it at a moment and returns its exit code."""
    pid = trainings.start(words)
    moment.wait_for(run, lambda: is_running(pid))
    os.kill(pid, by)
    return trainings.wait()


def start_together(workers, words):
    """Starts a command line as the workers of one training and returns the numbers of the processes."""
    from pipelines.distribution.cluster import Cluster
    from pipelines.runtime.ports import free_ports

    if len(workers) == 1:
        return [workers[0].start(words)]
    addresses = tuple(f"localhost:{port}" for port in free_ports(len(workers)))
    clusters = [Cluster(addresses, i).to_tf_config() for i in range(len(workers))]
    return [worker.start(words, TF_CONFIG=cluster) for worker, cluster in zip(workers, clusters, strict=True)]


def serve():
    """Forks one process per line of standard input."""
    sys.path.insert(0, str(SUPPORT))
    import cv2  # noqa: F401
    import sklearn.metrics  # noqa: F401

    import pipelines.jobs.train  # noqa: F401
    import tiny_model
    from medkeras.models import registry
    from pipelines.cli.main import main

    registry.register(tiny_model.PRESETS)
    for line in sys.stdin:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            words, variables = json.loads(line)
            os.environ.update(variables)
            code = main(words)
            sys.stderr.flush()
            os._exit(code)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
