"""tf.data service: two worker processes on loopback make the batches that this process would make."""

import os
import re
import signal
import subprocess
import sys

import pytest

import pipelines
from paths import ROOT, SUPPORT
from pipelines.jobs.data_service import serve

STEPS, MOST = 12, 600


def start(*arguments):
    """Runs `medkeras data-service`."""
    command = [sys.executable, "-m", "pipelines", "data-service", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def line_of(job, word):
    """The first line with a word; others say that the process is starting."""
    return next(line for line in job.stdout if word in line)


@pytest.fixture(scope="module")
def service():
    """The address of a dispatcher with two workers, which are stopped in the end as a system would, all at once."""
    jobs = [start()]
    try:
        address = re.search(r"grpc://(\S+)", line_of(jobs[0], "grpc://")).group(1)
        jobs += [start("--dispatcher", address) for _ in range(2)]
        assert all(line_of(job, "worker") for job in jobs[1:])
        yield f"grpc://{address}"
    finally:
        for job in jobs:
            job.send_signal(signal.SIGTERM)
        for job in jobs:
            assert job.wait(timeout=60) == 0, job.stderr.read()


def load(folder, **options):
    return pipelines.load("phantom", images=80, image_size=24, batch_size=4, cache=folder / "cache", **options)


def batches(stream):
    """Each batch as bytes."""
    return ((images.tobytes(), labels.tobytes()) for images, labels in stream.as_numpy_iterator())


def test_workers_make_the_same_batches(service, tmp_path):
    """In which order is left to the workers; each batch comes once, and none is left out."""
    own = load(tmp_path, augment="strong").train_stream(start_epoch=2)
    served = load(tmp_path, augment="strong", data_service=service).train_stream(start_epoch=2)
    wanted, received = set(batches(own.take(STEPS))), []
    for batch in batches(served.take(MOST)):
        received.append(batch)
        wanted.discard(batch)
        if not wanted:
            break
    assert not wanted
    assert len(set(received)) == len(received)
    assert set(received) <= set(batches(own.take(MOST)))


def test_a_model_trains_through_the_service(service, tmp_path):
    run = tmp_path / "run"
    words = ["train", "--data", "phantom", "--source-option", "images=80", "--model", "tiny_net"]
    words += ["--run", str(run), "--epochs", "2", "--image-size", "24", "--batch-size", "8", "--augment", "light"]
    words += ["--cache", str(tmp_path / "cache"), "--data-service", service]
    command = [sys.executable, SUPPORT / "tiny_model.py", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 0, result.stderr
    assert (run / "operating_point.json").is_file()


def test_finite_epochs_are_made_here(service, tmp_path):
    data = load(tmp_path, data_service=service)
    with pytest.raises(ValueError, match="train_stream"):
        next(iter(data.train))


def test_a_service_needs_a_cache_to_share():
    with pytest.raises(ValueError, match="through `cache`. Received: data_service='grpc://localhost:1'"):
        pipelines.load("phantom", images=20, data_service="grpc://localhost:1")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"dispatcher": "localhost"}, "host:port"),
        ({"dispatcher": "grpc://:5000"}, "host:port"),
        ({"port": 70000}, "port=70000"),
        ({"port": -1}, "port=-1"),
    ],
)
def test_bad_addresses(arguments, error):
    with pytest.raises(ValueError, match=error):
        serve(**arguments)


def test_a_port_that_is_taken(service):
    port = int(service.rpartition(":")[2])
    with pytest.raises(OSError, match=f"port {port}"):
        serve(port=port)
