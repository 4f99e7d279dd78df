"""Thousands of real files, damaged by chance: each is read as an image or refused by name. No crash, no hang."""

import collections
import dataclasses
import gzip
import importlib.util
import io
import json
import os
import pathlib
import queue
import select
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from paths import ROOT, SUPPORT

SECONDS = 30  # After which a case counts as a hang.
WORKERS = 2
VOLUMES = "pipelines.sources.volume.file"


@dataclasses.dataclass(frozen=True)
class Format:
    """Real files of one format.

    Attributes:
        suffix: Of the files.
        reader: Of `corruption_worker.READERS`.
        originals: From the folder of real data to the bytes of a few whole files.
        cases: How many damaged copies are tried.
        sealed: Whether the format has checksums, so that what is read must be what was written.
        seal: Makes the checksums of damaged bytes right, so that the decoder itself sees the damage.
        needs: Modules without which the format is left out.
    """

    suffix: str
    reader: str
    originals: Callable[[pathlib.Path], list[bytes]]
    cases: int
    sealed: bool = False
    seal: Callable[[bytes], bytes] | None = None
    needs: tuple[str, ...] = ()


def files(pattern, count=3):
    return lambda data: [path.read_bytes() for path in sorted(data.glob(pattern))[:count]]


def converted(suffix, *options, size=72):
    """Parts of real photographs of the eye and of X-rays, in another format."""

    def originals(data):
        eye = cv2.imread(str(data / "idrid_seg20" / "images" / "IDRiD_01.jpg"))[300 : 300 + size, 400 : 400 + size]
        chest = cv2.imread(str(sorted((data / "nih_cxr_1000" / "images").iterdir())[0]), cv2.IMREAD_GRAYSCALE)
        parts = [eye, np.ascontiguousarray(chest[60 : 60 + size, 60 : 60 + size])]
        if suffix == ".gif":
            parts = [parts[0], cv2.cvtColor(parts[1], cv2.COLOR_GRAY2BGR)]
        return [cv2.imencode(suffix, part, list(options))[1].tobytes() for part in parts]

    return originals


def npz(data):
    with np.load(data / "pneumoniamnist" / "pneumoniamnist_rebuilt.npz") as stored:
        arrays = {name: stored[name][:6] for name in stored.files}
    written = []
    for save in (np.savez, np.savez_compressed):
        save(buffer := io.BytesIO(), **arrays)
        written.append(buffer.getvalue())
    return written


def zipped_nifti(data):
    return [gzip.compress((data / "volumes" / "nibabel" / "anatomical.nii").read_bytes(), mtime=0)]


def sealed_png(data):
    """The same bytes with right checksums as far as the chunks can be followed."""
    data, at = bytearray(data), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(data)


FORMATS = {
    "png": Format(".png", "images", files("busi/images/normal/*.png"), 300, sealed=True),
    "png with right checksums": Format(".png", "images", files("nih_cxr_1000/images/*.png"), 300, seal=sealed_png),
    "png masks": Format(".png", "images", files("idrid_seg20/masks/*.png", 1), 100, sealed=True),
    "jpeg": Format(".jpg", "images", converted(".jpg"), 300),
    "jpeg progressive": Format(".jpg", "images", converted(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1), 200),
    "jpeg with restarts": Format(".jpg", "images", converted(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 3), 100),
    "whole jpeg": Format(".jpg", "images", files("idrid_seg20/images/*.jpg", 1), 40),
    "tiff": Format(".tif", "images", converted(".tif", cv2.IMWRITE_TIFF_COMPRESSION, 1), 200),
    "tiff lzw": Format(".tif", "images", converted(".tif", cv2.IMWRITE_TIFF_COMPRESSION, 5), 200),
    "bmp": Format(".bmp", "images", converted(".bmp"), 200),
    "gif": Format(".gif", "images", converted(".gif"), 200),
    "webp": Format(".webp", "images", converted(".webp"), 200),
    "npz": Format(".npz", "records", npz, 200, sealed=True),
    "dicom": Format(".dcm", "dicom", files("dicom/pydicom/[CMS]*.dcm", 7), 280, needs=("pydicom",)),
    "dicom colour": Format(".dcm", "dicom", files("dicom/pydicom/examples_[pr]*.dcm", 2), 40, needs=("pydicom",)),
    "nifti": Format(".nii", "volume", files("volumes/nibabel/*.nii"), 200, needs=("nibabel", VOLUMES)),
    "nifti gz": Format(".nii.gz", "volume", zipped_nifti, 100, sealed=True, needs=("nibabel", VOLUMES)),
    "nrrd": Format(".nrrd", "volume", files("volumes/pyradiomics/*label.nrrd", 4), 200, needs=("nrrd", VOLUMES)),
}


def damaged(data, rng):
    """Returns a damaged copy: bits or bytes changed, mostly near the start, a piece lost, zeroed or made noise."""
    data = bytearray(data)
    near = int(rng.integers(0, min(len(data), 200 if rng.random() < 0.5 else len(data))))
    length = int(2 ** rng.uniform(0, 10))
    kind = rng.choice(["bit", "bytes", "noise", "zeros", "lost", "doubled", "cut"])
    if kind == "bit":
        data[near] ^= 1 << int(rng.integers(8))
    elif kind == "bytes":
        for at in rng.integers(0, len(data), int(rng.integers(1, 16))):
            data[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)]))
    elif kind == "cut":
        del data[int(rng.integers(len(data))) :]
    else:
        piece = data[near : near + length]
        new = {"noise": rng.bytes(len(piece)), "zeros": bytes(len(piece)), "lost": b"", "doubled": piece + piece}
        data[near : near + length] = new[str(kind)]
    return bytes(data)


class Worker:
    """A process that reads files, started again after each that it did not survive."""

    def __init__(self, *command):
        self.command = command or (str(SUPPORT / "corruption_worker.py"),)
        self.process = None

    def ask(self, reader, path):
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, *self.command],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "numpy"},  # Light to import.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # libjpeg writes its warnings there.
                text=True,
            )
            self._answer(["images", str(ROOT / "setup.cfg")], seconds=300)  # The imports have no part in the limit.
        return self._answer([reader, path], seconds=SECONDS)

    def _answer(self, question, seconds):
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            if not select.select([self.process.stdout], [], [], seconds)[0]:
                self.close()
                return "failed", f"hang of more than {seconds} s"
            return tuple(json.loads(self.process.stdout.readline()))
        except (BrokenPipeError, json.JSONDecodeError):
            code = self.process.wait()
            self.process = None
            return "failed", f"crash, return code {code}"

    def close(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


def ask_all(questions):
    """Returns the answer to every question, in their order."""
    waiting, answers = queue.SimpleQueue(), {}
    for number, question in enumerate(questions):
        waiting.put((number, question))

    def work():
        worker = Worker()
        try:
            while True:
                number, question = waiting.get_nowait()
                answers[number] = worker.ask(*question)
        except queue.Empty:
            worker.close()

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers.get(number) for number in range(len(questions))]


@pytest.fixture(scope="module")
def answers(real_data, tmp_path_factory):
    """By format: the answers for the whole files, and those for the damaged ones."""
    folder = tmp_path_factory.mktemp("damaged")
    questions, places = [], []
    for name, kind in FORMATS.items():
        if not all(importlib.util.find_spec(module) for module in kind.needs):
            continue
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        whole = kind.originals(real_data)
        copies = [damaged(whole[i % len(whole)], rng) for i in range(kind.cases)]
        for i, data in enumerate(whole + [kind.seal(copy) if kind.seal else copy for copy in copies]):
            path = folder / f"{len(questions)}{kind.suffix}"
            path.write_bytes(data)
            questions.append((kind.reader, str(path)))
            places.append((name, "whole" if i < len(whole) else "damaged", i % len(whole)))
    found = collections.defaultdict(lambda: {"whole": [], "damaged": []})
    for (name, state, original), question, answer in zip(places, questions, ask_all(questions), strict=True):
        found[name][state].append((original, question[1], answer))
    return found


@pytest.mark.process
def test_there_are_enough_cases_and_none_is_lost(answers):
    damaged_files = [case for found in answers.values() for case in found["damaged"]]
    assert len(damaged_files) >= 2000
    assert all(answer is not None for _, _, answer in damaged_files)


@pytest.mark.process
@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_read_or_refused_by_name(answers, name):
    if name not in answers:
        pytest.skip(f"needs {', '.join(FORMATS[name].needs)}")
    whole, cases = answers[name]["whole"], answers[name]["damaged"]
    assert [answer[0] for _, _, answer in whole] == ["read"] * len(whole)
    assert [case for case in cases if case[2][0] not in ("read", "refused")] == []
    assert any(answer[0] == "refused" for _, _, answer in cases)
    if FORMATS[name].sealed:
        digests = {original: answer[1] for original, _, answer in whole}
        wrong = [c for c in cases if c[2][0] == "read" and c[2][1] != digests[c[0]]]
        assert wrong == []


FRAGILE = """
import os, sys, time
for line in sys.stdin:
    if "crash" in line:
        os.abort()
    if "hang" in line:
        time.sleep(600)
    print('["read", "1234"]', flush=True)
"""


@pytest.mark.process
def test_the_watchdog_sees_a_crash_and_a_hang_and_goes_on(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SECONDS", 2)
    worker = Worker("-c", FRAGILE)
    answers = [worker.ask("images", path) for path in ("a.png", "crash.png", "b.png", "hang.png", "c.png")]
    worker.close()
    read = ("read", "1234")
    assert answers == [read, ("failed", "crash, return code -6"), read, ("failed", "hang of more than 2 s"), read]
