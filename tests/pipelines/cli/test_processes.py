"""Commands as a person meets them: what a process prints, when, where, and what it loads for that."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from paths import ROOT
from pipelines.cli.main import main

pytestmark = pytest.mark.process

# What TensorFlow, its compilers and the LiteRT runtime write by themselves.
FOREIGN = ("absl::", "oneDNN", "cuInit", "cudart", "cpu_feature_guard", "XNNPACK", "TensorFlow binary")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    train = ["train", "--data", "phantom", "--source-option", "images=60", "--model", "focusnet2d", "--epochs", "1"]
    assert main([*train, "--image-size", "32", "--run", str(folder / "run")]) == 0
    cv2.imwrite(str(folder / "scan.png"), np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8))
    return folder / "run"


def python(*words):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, env=environment)


def command(*words):
    return python("-m", "pipelines", *map(str, words))


def test_export_and_predict_keep_what_native_code_says_to_themselves(run, tmp_path):
    exported = command("export", run, "--to", tmp_path / "store")
    assert (exported.returncode, exported.stderr) == (0, "")
    said = exported.stdout.splitlines()
    assert said[0] == "Starting TensorFlow" and "Converting to LiteRT" in said
    (file,) = tmp_path.glob("store/run/litert/1/*.tflite")
    for words in ([run], ["--tflite", file]):
        done = command("predict", *words, run.parent / "scan.png", "--out", tmp_path / "predictions.csv")
        assert (done.returncode, done.stderr) == (0, "")
        assert not [line for line in done.stdout.splitlines() if any(word in line for word in FOREIGN)]


def test_debug_shows_what_native_code_says(run, tmp_path):
    words = ["predict", run, run.parent / "scan.png", "--out", tmp_path / "predictions.csv"]
    done = command("--debug", *words)
    assert done.returncode == 0 and any(word in done.stderr for word in FOREIGN)


def test_what_python_writes_to_standard_error_is_seen(run):
    code = (
        "import os, sys, warnings; from pipelines.cli.starting import starting\n"
        "with starting():\n"
        "    os.write(2, b'native\\n'); print('ours', file=sys.stderr); warnings.warn('a warning of ours')\n"
        "os.write(2, b'after\\n')"
    )
    lines = python("-c", code).stderr.splitlines()
    assert lines[0] == "ours" and "a warning of ours" in lines[1] and lines[-1] == "after"
    assert "native" not in lines


def test_a_crash_of_native_code_says_where():
    code = (
        "import os, signal; from pipelines.cli.starting import starting\n"
        "with starting():\n"
        "    os.kill(os.getpid(), signal.SIGSEGV)"
    )
    done = python("-c", code)
    assert done.returncode < 0 and "Segmentation fault" in done.stderr and "line 3" in done.stderr


def test_the_first_line_comes_before_keras_is_there():
    code = (
        "import sys; from pipelines.runtime.console import PlainConsole\n"
        "plain = PlainConsole.print\n"
        "def told(console, *words, **options):\n"
        "    plain(console, *words, '|', 'keras' in sys.modules, 'pandas' in sys.modules, **options)\n"
        "PlainConsole.print = told\n"
        "from pipelines.cli.main import main\n"
        "main(['{command}', *{words}])"
    )
    for name, words in (("train", ["--data", "none.csv", "--run", "none", "--model", "m"]), ("evaluate", ["none"])):
        done = python("-c", code.format(command=name, words=words))
        assert done.stdout.splitlines()[0] == "Starting TensorFlow | False False", done.stderr
        assert done.stderr.startswith("error: ")
