"""Ports to listen on."""

import socket


def check_free(port: int) -> None:
    """Checks that nobody listens on a port: TensorFlow's services would share it, and others reach either.

    Raises:
        OSError: If somebody does, or the port is not for this user; port 0, which is any free one, always passes.

    Example:
        >>> check_free(0)
    """
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError as error:
            raise OSError(f"Nothing can listen on port {port}: {error.strerror}") from error


def free_ports(count: int) -> list[int]:
    """Returns different ports on which nobody listens now.

    Example:
        >>> len(set(free_ports(3)))
        3
    """
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
