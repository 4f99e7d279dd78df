"""Workers wait for each other, as long as they are told, and say for whom in vain."""

import socket
import threading
import time

import pytest

from pipelines.distribution.cluster import Cluster
from pipelines.distribution.rendezvous import meet, waiting_seconds
from pipelines.runtime.ports import free_ports


@pytest.fixture
def addresses():
    return tuple(
        f"{host}:{port}" for host, port in zip(("127.0.0.1", "localhost", "localhost"), free_ports(3), strict=True)
    )


def test_all_meet_whoever_comes_last(addresses):
    ends = [None] * 3

    def come(index, delay):
        time.sleep(delay)
        meet(Cluster(addresses, index), seconds=20)
        ends[index] = time.monotonic()
        # TensorFlow listens from then on.
        with socket.create_server(("", Cluster(addresses, index).port)):
            gone.wait()

    gone, start = threading.Event(), time.monotonic()
    workers = [threading.Thread(target=come, args=(i, delay)) for i, delay in enumerate((0.5, 0, 0.2))]
    for worker in workers:
        worker.start()
    while not all(ends) and time.monotonic() < start + 20:
        time.sleep(0.01)
    gone.set()
    for worker in workers:
        worker.join()
    assert min(ends) - start >= 0.5


def test_who_does_not_come_is_named_once_the_time_is_over(addresses):
    start = time.monotonic()
    with (
        socket.create_server(("", Cluster(addresses, 1).port)),
        pytest.raises(TimeoutError, match=rf"within 0.3 s .* no answer from {addresses[2]}$"),
    ):
        meet(Cluster(addresses, 0), seconds=0.3)
    assert 0.3 <= time.monotonic() - start < 5


def test_a_host_that_has_no_name_yet_is_waited_for():
    with pytest.raises(TimeoutError, match="no answer from nowhere.invalid:1"):
        meet(Cluster((f"localhost:{free_ports(1)[0]}", "nowhere.invalid:1"), 0), seconds=0.01)


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "soon"])
def test_a_time_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=f"MEDKERAS_WAIT must be seconds.*Received: MEDKERAS_WAIT='{text}'"):
        waiting_seconds({"MEDKERAS_WAIT": text})
    assert waiting_seconds({}) == 600
