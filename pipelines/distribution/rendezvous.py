"""Workers that wait for each other before TensorFlow does, which would wait an hour and not say for whom."""

import contextlib
import os
import socket
import time
from collections.abc import Mapping

from medkeras.errors import InputError
from pipelines.distribution.cluster import Cluster

WAIT = "MEDKERAS_WAIT"
WAIT_SECONDS = 600.0  # Pods and jobs that start together may load their images for minutes.
POLL_SECONDS = 0.2
ANSWER_SECONDS = 2.0


def waiting_seconds(environment: Mapping[str, str] | None = None) -> float:
    """Returns how long workers wait for each other at the start: MEDKERAS_WAIT, or ten minutes.

    Raises:
        ValueError: If it is no positive number.

    Example:
        >>> waiting_seconds({"MEDKERAS_WAIT": "30"})
        30.0
    """
    text = (os.environ if environment is None else environment).get(WAIT, str(WAIT_SECONDS))
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise InputError(f"{WAIT} must be seconds, more than 0. Received: {WAIT}={text!r}")


def meet(cluster: Cluster, *, seconds: float) -> None:
    """Waits until every worker of a cluster listens on its port; this one listens meanwhile.

    Who has met all others goes on, and from then on TensorFlow listens there.

    Args:
        cluster: The workers, and which one this is.
        seconds: How long to wait.

    Raises:
        TimeoutError: If workers did not start in time.
        OSError: If this worker cannot listen on its port.

    Example:
        >>> meet(Cluster(("localhost:0",), 0), seconds=1)
    """
    missing, deadline = [worker for worker in cluster.workers if worker != cluster.address], time.monotonic() + seconds
    with _listening(cluster.port, backlog=2 * len(cluster.workers) + 16):
        while missing := [worker for worker in missing if not _answers(worker)]:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"All workers must start within {seconds:g} s ({WAIT}) and reach each other. "
                    f"Received: no answer from {', '.join(missing)}"
                )
            time.sleep(POLL_SECONDS)


def _listening(port: int, *, backlog: int) -> socket.socket:
    """Returns a socket that listens to IPv6 and IPv4, or to IPv4 where there is no other."""
    with contextlib.suppress(OSError, ValueError):
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=backlog)
    return socket.create_server(("", port), backlog=backlog)


def _answers(worker: str) -> bool:
    host, _, port = worker.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except OSError:
        return False
    return True
