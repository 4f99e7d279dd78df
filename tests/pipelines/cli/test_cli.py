"""The command line: its grammar, and one clear line for every bad input."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest

from medkeras.errors import InputError
from medkeras.models import registry
from paths import ROOT
from pipelines.cli import main as cli
from pipelines.cli.main import main
from pipelines.input import cache
from tiny_model import PRESETS, tiny_models  # noqa: F401  registers its models for each test

TINY = ["--model", "tiny_net", "--image-size", "16", "--batch-size", "8", "--epochs", "1"]
RNG = np.random.default_rng(0)


def grey(height=16, width=16):
    return RNG.integers(0, 256, (height, width), dtype=np.uint8)


def class_folders(folder, images=10, size=lambda i: (16, 16), classes=("ill", "well")):
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(images):
            cv2.imwrite(str(folder / name / f"{i}.png"), grey(*size(i)))
    return folder


def npz(path, **changes):
    images = RNG.integers(0, 256, (20, 16, 16), dtype=np.uint8)
    labels = np.arange(20) % 2
    np.savez(path, **({"train_images": images, "train_labels": labels[:, None]} | changes))
    return path


def table(folder, columns, rows=20):
    for i in range(rows):
        cv2.imwrite(str(folder / f"{i}.png"), grey())
    values = {"path": [f"{i}.png" for i in range(rows)]} | {k: [v(i) for i in range(rows)] for k, v in columns.items()}
    pd.DataFrame(values).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def fails(capfd, arguments, *named):
    """Runs a command that must fail on bad input with one line that names what is wrong."""
    assert main([str(a) for a in arguments]) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    for name in named:
        assert str(name) in lines[0]


def truncated(folder):
    path = folder / "ill" / "3.png"
    path.write_bytes(path.read_bytes()[:-40])
    return path


def no_image(folder):
    path = folder / "well" / "4.png"
    path.write_text("not an image")
    return path


def test_help_needs_no_tensorflow_and_names_every_command():
    code = "import sys; from pipelines.cli.main import main; main(['--help']); print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")
    for command in ("demo", "data", "models", "recipes", "train", "evaluate", "predict", "explain", "localize"):
        assert command in done.stdout
    assert all(command in done.stdout for command in ("data prepare", "enhance", "export"))


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "data",
        "data prepare",
        "models",
        "recipes",
        "train",
        "evaluate",
        "compare",
        "predict",
        "explain",
        "localize",
        "enhance",
        "train-upscaler",
        "report",
        "export",
    ],
)
def test_every_command_has_an_example_that_parses(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    assert f"Example: medkeras {command}" in capsys.readouterr().out


def test_models_lists_sizes(capsys, monkeypatch):
    monkeypatch.setattr(registry, "_PRESETS", PRESETS)
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert "tiny_net" in printed and "16 x 16 x 1" in printed


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["paint"], "paint"),
        (["train", "--data", "phantom"], "--run"),
        (["train", "--data", "phantom", "--run", "r"], "--model"),
        (["train", "--data", "phantom", "--model", "m", "--run", "r", "--epochs", "many"], "--epochs"),
        (["train", "--data", "phantom", "--model", "m", "--run", "r", "--epochs", "0"], "epochs=0"),
        (["train", "--data", "phantom", "--model", "m", "--run", "r", "--image-size", "big"], "big"),
        (["train", "--data", "phantom", "--model", "m", "--run", "r", "--fractions", "1,2"], "1,2"),
        (["train", "--data", "phantom", "--model", "m", "--run", "r", "--loss", "hinge"], "loss='hinge'"),
        (["train", "--data", "phantom", "--model", "m", "--run", "r", "--model-option", "depth"], "depth"),
        (["train", "--data", "phantom", "--model", "m", "--run", "r", "--source-option", "seed=1"], "seed"),
        (["evaluate", "no-such-run"], "no-such-run"),
        (["predict", "no-such-run", "a.png", "--out", "a.csv"], "no-such-run"),
        (["export", "no-such-run", "--to", "store"], "no-such-run"),
    ],
)
def test_bad_arguments(arguments, named, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fails(capfd, arguments, named)
    assert not list(tmp_path.iterdir())


BAD_DATA = {
    "missing path": lambda p: (p / "none.npz", [], ["none.npz"]),
    "missing folder": lambda p: (p / "none", [], ["none"]),
    "unknown kind": lambda p: ("paper:roll", [], ["paper"]),
    "empty folder": lambda p: (p, [], [p]),
    "one class only": lambda p: (class_folders(p / "d", classes=("ill",)), [], ["ill"]),
    "mixed sizes": lambda p: (
        class_folders(p / "d", size=lambda i: (16, 16 + i)),
        ["no size"],
        ["image_size", "0.png"],
    ),
    "npz without labels": lambda p: (npz(p / "a.npz", train_labels=np.zeros(0)), [], ["a.npz"]),
    "npz with missing keys": lambda p: (npz_of(p / "a.npz", images=np.zeros((3, 16, 16))), [], ["a.npz"]),
    "csv without the column": lambda p: (
        table(p, {"finding": lambda i: "ab"[i % 2]}),
        ["--label-column", "diagnosis"],
        ["diagnosis", "finding"],
    ),
    "unknown label": lambda p: (
        table(p, {"label": lambda i: "abc"[i % 3]}),
        ["--source-option", "class_names=[a, b]"],
        ["c"],
    ),
    "unknown split": lambda p: (
        table(p, {"label": lambda i: "ab"[i % 2], "split": lambda i: "tune"}),
        ["--split-column", "split"],
        ["tune"],
    ),
    "class absent from a split": lambda p: (
        table(
            p,
            {
                "label": lambda i: "ab"[i % 2],
                "split": lambda i: ("train", "val", "test")[i % 3 if i % 2 else 0],
            },
        ),
        ["--split-column", "split"],
        ["'a'"],
    ),
    "unknown option": lambda p: ("phantom", ["--source-option", "colour=red"], ["colour"]),
    "volumes for a 2D model": lambda p: (
        "phantom:binary3d",
        ["--source-option", "images=30"],
        ["tiny_net", "2D"],
    ),
    "unknown augmentation": lambda p: ("phantom", ["--augment", "wild"], ["wild"]),
    "unknown task": lambda p: ("phantom", ["--task", "regression"], ["regression"]),
    "unknown model option": lambda p: (
        "phantom",
        ["--source-option", "images=60", "--model-option", "wings=2"],
        ["wings"],
    ),
}


def npz_of(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_is_named_and_nothing_is_written(case, tmp_path, capfd):
    (tmp_path / "data").mkdir()
    source, more, named = BAD_DATA[case](tmp_path / "data")
    tiny = [*TINY[:2], *TINY[4:]] if more == ["no size"] else TINY
    more = [] if more == ["no size"] else more
    fails(capfd, ["train", "--data", source, "--run", tmp_path / "run", *tiny, *more], *named)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damage", [truncated, no_image])
def test_a_bad_file_is_named_or_skipped_and_listed(damage, tmp_path, capfd):
    folder = class_folders(tmp_path / "d")
    bad = damage(folder)
    train = ["train", "--data", folder, "--run", tmp_path / "run", *TINY]
    fails(capfd, train, bad)
    assert not (tmp_path / "run").exists()
    assert main([str(a) for a in [*train, "--on-error", "skip"]]) == 0
    assert pd.read_csv(tmp_path / "run" / "rejected.csv")["id"].tolist() == [str(bad.relative_to(folder))]


def test_nan_in_a_float_image_is_named(tmp_path, capfd):
    folder = class_folders(tmp_path / "d")
    image = np.full((16, 16), 0.5, np.float32)
    image[3, 3] = np.nan
    cv2.imwrite(str(folder / "ill" / "sick.tiff"), image)
    fails(capfd, ["train", "--data", folder, "--run", tmp_path / "run", *TINY], "sick.tiff", "NaN")
    assert not (tmp_path / "run").exists()


def test_a_model_that_does_not_exist_is_named(tmp_path, capfd):
    train = ["train", "--data", "phantom", "--model", "focusnet2", "--run", tmp_path / "run"]
    fails(capfd, [*train, "--source-option", "images=60"], "focusnet2", "focusnet2d")
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_be_written_is_named(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    run = tmp_path / "file" / "run"
    fails(
        capfd,
        ["train", "--data", "phantom", "--source-option", "images=60", "--run", run, *TINY],
        tmp_path / "file",
    )


@pytest.mark.parametrize("error", [ZeroDivisionError("division"), ValueError("a programming error"), KeyError("name")])
def test_an_error_of_the_program_keeps_its_traceback(error, monkeypatch, capfd):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr("pipelines.jobs.evaluate.load_trained", fail)
    monkeypatch.setattr("pipelines.jobs.evaluate.RunFolder.open", lambda run: run)
    assert main(["evaluate", "some-run"]) == 1
    lines = capfd.readouterr().err.strip().splitlines()
    assert lines[0].startswith("Traceback") and any("in evaluate_run" in line for line in lines)
    assert type(error).__name__ in lines[-2] and "report" in lines[-1]


@pytest.mark.parametrize(
    ("error", "is_users"),
    [
        (PermissionError(13, "Permission denied", "runs/a"), True),
        (OSError(28, "No space left on device"), True),
        (ModuleNotFoundError("DICOM needs pydicom: pip install 'medkeras[dicom]'"), True),
        (ModuleNotFoundError("No module named 'onnx'", name="onnx"), True),
        (ModuleNotFoundError("No module named 'pipelines.jobs.paint'", name="pipelines.jobs.paint"), False),
        (InputError("`size` must be >= 1. Received: size=0"), True),
        (ValueError("could not broadcast"), False),
        (TypeError("takes no arguments"), False),
    ],
)
def test_whose_mistake_an_error_is(error, is_users):
    assert (cli._one_line(error) is not None) == is_users


def test_debug_shows_the_traceback_of_bad_input_too(capfd):
    assert main(["--debug", "evaluate", "no-such-run"]) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert "Traceback (most recent call last):" in lines and lines[-1].startswith("error: A run folder holds")


def test_an_interrupt_says_how_to_go_on(monkeypatch, capfd):
    def interrupt(text):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.options.READ, "image_size", interrupt)
    assert main(["train", "--data", "phantom", "--model", "m", "--run", "r"]) == 130
    assert "same command continues" in capfd.readouterr().err


def test_a_file_that_became_unreadable_in_training_is_named_in_one_line(tmp_path, monkeypatch, capfd):
    """The images are too many for the memory, and one is cut after all were checked: TensorFlow finds it so."""
    folder, whole, cut = class_folders(tmp_path / "images"), cache.decode_all, []

    def checked_then_cut(records, *arguments, **options):
        yield from whole(records, *arguments, **options)
        for name in [] if cut else records.table["id"]:
            cut.append(folder / name)
            cut[-1].write_bytes(cut[-1].read_bytes()[:-20])

    monkeypatch.setattr(cache, "decoded_bytes", lambda *_: 2**50)
    monkeypatch.setattr(cache, "decode_all", checked_then_cut)
    assert main(["train", "--data", str(folder), "--run", str(tmp_path / "run"), *TINY, "--leakage", "off"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert cut and any(f"Cannot read {path}: truncated PNG" in lines[-1] for path in cut)
    assert lines[-1].startswith("error: Image ") and not any("Traceback" in line for line in lines)


@pytest.mark.process
def test_the_module_runs_as_a_program_with_one_clean_line(tmp_path):
    command = [sys.executable, "-m", "pipelines", "evaluate", str(tmp_path / "none")]
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: A run folder holds config.yaml; `medkeras train` makes one. Received: {tmp_path / 'none'}"
    ]
