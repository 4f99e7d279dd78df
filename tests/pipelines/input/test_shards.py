"""The cache on disk: decoded once, checked, continued after a kill, shared between jobs."""

import dataclasses
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from pipelines.images.records import Records
from pipelines.input import shards
from pipelines.input.cache import images_from_memory
from pipelines.input.shards import images_from_shards
from pipelines.sources import open_source

SHAPE = (6, 5, 1)


def make(n=10, dtype=np.uint8, seed=0):
    """Records that count how often each was read."""
    rng = np.random.default_rng(seed)
    images = rng.random((n, 6, 5)).astype(dtype) if dtype == np.float32 else rng.integers(0, 256, (n, 6, 5), dtype)
    reads = []

    def read(i):
        reads.append(i)
        return images[i]

    ids = [f"r{i}" for i in range(n)]
    records = Records(
        name="numbers",
        task="binary",
        class_names=("a", "b"),
        table=pd.DataFrame({"id": ids, "patient": ids, "split": ""}),
        labels=np.arange(n) % 2,
        read=read,
        fingerprint=lambda i: f"{images[i].sum()}",
    )
    return records, reads


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 90)  # Three uint8 images.


def all_of(images, n=10):
    return images(tf.range(n, dtype=tf.int64)).numpy()


def array_file(folder):
    return next(pathlib.Path(folder).rglob("images.bin"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_cached_images_are_those_in_memory_to_the_bit(tmp_path, dtype):
    records, _ = make(dtype=dtype)
    cached = images_from_shards(records, SHAPE, tmp_path)
    np.testing.assert_array_equal(all_of(cached), all_of(images_from_memory(records, SHAPE)))
    np.testing.assert_array_equal(cached(tf.constant([7, 0, 7], tf.int64)), all_of(cached)[[7, 0, 7]])


def test_images_of_several_types_are_kept_as_floats(tmp_path):
    (eight, _), (sixteen, _) = make(5), make(5, np.uint16)
    records = dataclasses.replace(make()[0], read=lambda i: eight.read(i) if i < 5 else sixteen.read(i - 5))
    cached = images_from_shards(records, SHAPE, tmp_path)
    np.testing.assert_array_equal(all_of(cached), all_of(images_from_memory(records, SHAPE)))


def test_nothing_is_decoded_twice(tmp_path):
    records, _ = make()
    images_from_shards(records, SHAPE, tmp_path)
    again, reads = make()
    images_from_shards(again, SHAPE, tmp_path)
    assert set(reads) <= {0}  # The first image tells the type.


def test_changed_images_and_other_shapes_have_a_cache_of_their_own(tmp_path):
    first = all_of(images_from_shards(make()[0], SHAPE, tmp_path))
    changed = all_of(images_from_shards(make(seed=1)[0], SHAPE, tmp_path))
    assert not np.array_equal(first, changed)
    images_from_shards(make()[0], (3, 5, 1), tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("harm", ["flip", "cut", "checksum"])
def test_a_damaged_shard_is_made_again_and_only_that(tmp_path, harm):
    whole = all_of(images_from_shards(make()[0], SHAPE, tmp_path))
    path = array_file(tmp_path)
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[100] ^= 1  # Image 3, in the second shard.
        path.write_bytes(data)
    elif harm == "cut":
        path.write_bytes(data[:-1])
    else:
        (path.parent / "00001.sha256").unlink()
    records, reads = make()
    np.testing.assert_array_equal(all_of(images_from_shards(records, SHAPE, tmp_path)), whole)
    assert set(reads) <= ({0, 9} if harm == "cut" else {0, 3, 4, 5})


def test_an_unreadable_image_is_named_and_what_was_done_stays(tmp_path):
    records, _ = make()
    good = records.read

    def read(i):
        if i == 4:
            raise ValueError("Cannot read r4.png: truncated PNG")
        return good(i)

    with pytest.raises(ValueError, match="Image r4 cannot be used: Cannot read r4.png"):
        images_from_shards(dataclasses.replace(records, read=read), SHAPE, tmp_path)
    images_from_shards(records, SHAPE, tmp_path)


def test_a_source_that_cannot_tell_of_changes_is_refused(tmp_path):
    records = dataclasses.replace(make()[0], fingerprint=None)
    with pytest.raises(ValueError, match="Received: numbers"):
        images_from_shards(records, SHAPE, tmp_path)


SLOW_JOB = """
import sys, time
import numpy as np
from pipelines.input import shards
from pipelines.sources import open_source
import dataclasses
shards.SHARD_BYTES = 32 * 32 * 4
records = open_source("phantom", images=40, size=32)
read = records.read
def slow(i):
    time.sleep(0.03)
    return read(i)
print("ready", flush=True)
shards.images_from_shards(dataclasses.replace(records, read=slow), (32, 32, 1), sys.argv[1])
print("done", flush=True)
"""


def start(folder):
    job = subprocess.Popen([sys.executable, "-c", SLOW_JOB, str(folder)], stdout=subprocess.PIPE, text=True)
    assert job.stdout.readline() == "ready\n"
    return job


def test_killed_and_concurrent_jobs_make_one_sound_cache(tmp_path):
    killed = start(tmp_path)
    while not list(tmp_path.rglob("0*.sha256")) and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = {path.name for path in tmp_path.rglob("0*.sha256")}
    assert 0 < len(done) < 10
    jobs = [start(tmp_path), start(tmp_path)]
    assert [job.communicate(timeout=120)[0] for job in jobs] == ["done\n"] * 2
    shards.SHARD_BYTES = 32 * 32 * 4
    records = open_source("phantom", images=40, size=32)
    cached = images_from_shards(records, (32, 32, 1), tmp_path)
    np.testing.assert_array_equal(all_of(cached, 40), all_of(images_from_memory(records, (32, 32, 1)), 40))
    assert len(list(tmp_path.iterdir())) == 1
