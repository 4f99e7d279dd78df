"""The configuration of a run folder: old files are read, other ones are named in one line, and nothing is written."""

import pytest
import yaml

from medkeras.errors import InputError
from paths import TESTS
from pipelines.cli.main import main
from pipelines.enhancement.upscaler_config import UpscalerConfig
from pipelines.io.run_folder import RunFolder
from pipelines.io.settings import read
from pipelines.training.config import ALWAYS, TrainConfig

OLD = TESTS / "data" / "version_0_1"


@pytest.fixture
def run(tmp_path):
    """A run folder with the configuration of version 0.1."""
    run = RunFolder(tmp_path / "run")
    run.write_text("config.yaml", (OLD / "run" / "config.yaml").read_text())
    return run


def test_the_configuration_of_an_older_version_is_read(run):
    config, written = TrainConfig.from_run(run), run.read_config()
    assert {name: config.to_dict()[name] for name in written} == written
    run.write_config({name: written[name] for name in ALWAYS})
    oldest = TrainConfig.from_run(run)
    assert (oldest.optimizer, oldest.coverage, oldest.epochs) == ("adamw", 0.9, written["epochs"])
    upscaler = yaml.safe_load((OLD / "upscaler_run" / "config.yaml").read_text())
    assert read(UpscalerConfig, upscaler, "config.yaml", run="r").to_dict() == upscaler


def test_what_is_written_is_read_again(run):
    config = TrainConfig(data="phantom", model="m", run=str(run.path), image_size=(8, 9), preprocess=("clahe",))
    run.write_config(config.to_dict())
    assert TrainConfig.from_run(run) == config


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("epochs: ", "epochs: many #", "`epochs` must be a whole number >= 1. Received: epochs='many'"),
        ("epochs: ", "epochs: 2.5 #", "`epochs` must be a whole number >= 1. Received: epochs=2.5"),
        ("epochs: ", "epochs: #", "`epochs` must be a whole number >= 1. Received: epochs=None"),
        ("epochs: ", "epoch: ", "it must have `epochs`, as every run has"),
        ("data: ", "colour_space: rgb\ndata: ", "There is no `colour_space`; there are data, "),
        ("seed: ", "acumulate: 2\nseed: ", "There is no `acumulate`; perhaps `accumulate`. Received: acumulate=2"),
        ("data: ", "run: elsewhere\ndata: ", "`run` is not of a file. Received: 'elsewhere'"),
        (
            "optimizer: ",
            "optimizer: adamm #",
            "`optimizer` must be one of adamw, sgd, adam. Received: optimizer='adamm'",
        ),
        ("image_size: ", "image_size: [24, wide] #", "`image_size[1]` must be a whole number. Received: "),
        ("on_error: ", "on_error: stop #", "`on_error` must be one of raise, skip. Received: on_error='stop'"),
        ("deterministic: ", "deterministic: maybe #", "`deterministic` must be true or false. Received: "),
        ("data: ", "data: [", "while parsing"),
        ("data: ", "- data: ", "while parsing"),
        ("data: ", "data: \x00", "unacceptable character"),
    ],
)
def test_a_configuration_that_is_none_is_named_in_one_line_and_nothing_is_written(run, capsys, old, new, said):
    run.write_text("config.yaml", (run / "config.yaml").read_text().replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        TrainConfig.from_run(run)
    assert str(caught.value).startswith(f"Cannot read {run / 'config.yaml'}: {said}")
    before = {path: path.read_bytes() for path in run.path.rglob("*")}
    assert main(["train", "--data", "phantom", "--model", "focusnet2d_tiny", "--run", str(run.path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: Cannot read {run / 'config.yaml'}: {said}") and error.count("\n") == 1
    assert {path: path.read_bytes() for path in run.path.rglob("*")} == before


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "Received: NoneType"), (b"\xff\xfe", "utf-8"), (b"- a", "Received: list"), (b"[" * 5000, "")],
)
def test_a_file_that_holds_no_table_is_named(run, content, said):
    (run / "config.yaml").write_bytes(content)
    with pytest.raises(InputError, match=f"^Cannot read .*config.yaml: .*{said}"):
        TrainConfig.from_run(run)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epochs", "0"], "`epochs` must be >= 1. Received: epochs=0"),
        (["--optimizer", "adamm"], "`optimizer` must be one of adamw, sgd, adam. Received: optimizer='adamm'"),
        (["--on-error", "stop"], "`on_error` must be one of raise, skip. Received: on_error='stop'"),
        (["--source-option", "image=60"], "; perhaps `images`. Received: image=60"),
        (["--source-option", "images=60", "--model-option", "saccade=2"], "; perhaps `saccades`. Received: saccade=2"),
    ],
)
def test_the_command_line_names_what_is_wrong(tmp_path, capsys, words, said):
    run = tmp_path / "run"
    words = ["train", "--data", "phantom", "--model", "focusnet2d_tiny", "--run", str(run), *words]
    assert main(words) == 2
    assert capsys.readouterr().err.rstrip().endswith(said) and not (run / "model.keras").exists()
