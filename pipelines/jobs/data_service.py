"""The processes of a tf.data service: a dispatcher that hands out steps, and workers that make their batches."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import tensorflow as tf
from rich.console import Console

from medkeras.errors import InputError
from medkeras.version import __version__
from pipelines.runtime.console import PlainConsole
from pipelines.runtime.memory import keep_freed_memory
from pipelines.runtime.ports import check_free

service = tf.data.experimental.service
STOP_SECONDS = 10


def serve(
    *, dispatcher: str | None = None, port: int = 0, host: str = "localhost", console: Console | None = None
) -> None:
    """Runs a dispatcher, or a worker of one, until it is interrupted or terminated.

    Trainings find the service by the dispatcher's address, `medkeras train --data-service`. Workers and
    trainings see the same cache folder under the same path. The service has no access control: keep its ports
    inside a network you trust.

    Args:
        dispatcher: Address of a dispatcher, `host:port`, to work for; by default this process is a dispatcher.
        port: Port to listen on; 0 takes any free one.
        host: Name under which a worker is reached by trainings and its dispatcher.
        console: Where to print the address; the standard output by default.

    Raises:
        ValueError: If the port is out of range or the dispatcher is no `host:port`.
        OSError: If the port cannot be had, or the dispatcher does not answer.

    Example:
        >>> serve(dispatcher="nowhere")
        Traceback (most recent call last):
        ...
        medkeras.InputError: `dispatcher` must be host:port. Received: dispatcher='nowhere'
    """
    console = console or PlainConsole()
    if not 0 <= port < 2**16:
        raise InputError(f"`port` must be in [0, 65535]. Received: port={port}")
    check_free(port)
    keep_freed_memory()
    with _until_stopped() as stopped:
        if dispatcher is None:
            server, address = _dispatcher(port)
            console.print(f"dispatcher of medkeras {__version__} at {address}", highlight=False)
        else:
            server = _worker(_address(dispatcher), host, port)
            console.print(f"worker of medkeras {__version__} for {dispatcher}", highlight=False)
        stopped.wait()
        _stop(server)


def _dispatcher(port: int) -> tuple[service.DispatchServer, str]:
    try:
        server = service.DispatchServer(service.DispatcherConfig(port=port))
    except tf.errors.OpError as error:
        raise OSError(f"No dispatcher can listen on port {port}: {error.message}") from error
    return server, server.target


def _worker(address: str, host: str, port: int) -> service.WorkerServer:
    config = service.WorkerConfig(
        dispatcher_address=address, worker_address=f"{host}:%port%", port=port, dispatcher_timeout_ms=10_000
    )
    try:
        return service.WorkerServer(config)
    except tf.errors.OpError as error:
        raise OSError(f"No worker can start for {address}: {error.message}") from error


def _stop(server: service.DispatchServer | service.WorkerServer) -> None:
    """Stops a server, and the process with it if TensorFlow goes on waiting, as for a training that is gone."""
    stopping = threading.Thread(target=server._stop, daemon=True)
    stopping.start()
    stopping.join(STOP_SECONDS)
    if stopping.is_alive():
        os._exit(0)  # Nothing is lost: dispatcher and workers keep no state.


def _address(text: str) -> str:
    host, colon, port = text.removeprefix("grpc://").rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise InputError(f"`dispatcher` must be host:port. Received: dispatcher={text!r}")
    return f"{host}:{port}"


@contextlib.contextmanager
def _until_stopped() -> Iterator[threading.Event]:
    """Gives an event that SIGINT and SIGTERM set."""
    stopped = threading.Event()
    before = {s: signal.signal(s, lambda *_: stopped.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
