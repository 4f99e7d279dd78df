"""Settings: what is refused, how it is named, and that the command line follows from the fields."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, Literal

import pytest

from fresh_process import run
from medkeras.errors import InputError, perhaps
from pipelines.cli import options
from pipelines.io.settings import fields_of, option, read, settings, words_of
from pipelines.training.config import ALWAYS, TrainConfig


@settings
class Base:
    """A group."""

    epochs: int = option(20, "Passes.", panel="Training", ge=1)
    size: int | tuple[int, ...] | None = option(None, "Pixels.")


@settings
class Whole(Base):
    """All groups."""

    data: str = option(help="Source.")
    loss: Literal["a", "b"] = option("a", "Which.")
    rate: float = option(0.5, "Share.", gt=0, lt=1)
    steps: tuple[str, ...] = option((), "Steps.", strict=False)
    options: Mapping[str, Any] = option(dict, "More.")
    fast: bool = option(False, "Or not.")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epochs": 0}, "`epochs` must be >= 1. Received: epochs=0"),
        ({"epochs": "3"}, "`epochs` must be a whole number >= 1. Received: epochs='3'"),
        ({"epochs": True}, "`epochs` must be a whole number >= 1. Received: epochs=True"),
        ({"rate": 1.0}, "`rate` must be > 0 and < 1. Received: rate=1.0"),
        ({"rate": float("nan")}, "`rate` must be > 0 and < 1. Received: rate=nan"),
        ({"loss": "c"}, "`loss` must be one of a, b. Received: loss='c'"),
        ({"size": "x"}, "`size` must be a whole number or a list. Received: size='x'"),
        ({"steps": (1,)}, "`steps[0]` must be text. Received: steps[0]=1"),
        ({"options": 3}, "`options` must be a table. Received: options=3"),
        ({"fast": 1}, "`fast` must be true or false. Received: fast=1"),
        ({"data": 3}, "`data` must be text. Received: data=3"),
        ({"epoch": 3}, "There is no `epoch`; perhaps `epochs`. Received: epoch=3"),
        ({"colour": 3}, "There is no `colour`; there are epochs, size, data, loss, rate, steps, options, fast. "),
    ],
)
def test_what_is_refused(values, said):
    with pytest.raises(InputError) as caught:
        Whole(**{"data": "x"} | values)
    assert str(caught.value).startswith(said)
    with pytest.raises(InputError) as caught:
        read(Whole, {"data": "x"} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}, "a.yaml")
    assert str(caught.value).startswith(f"Cannot read a.yaml: {said}")


def test_what_is_missing_or_no_table_is_named():
    with pytest.raises(InputError, match="^it must have `data`$"):
        Whole()
    with pytest.raises(InputError, match="^Cannot read a.yaml: it must hold settings. Received: list$"):
        read(Whole, [1], "a.yaml")
    with pytest.raises(InputError, match="^Cannot read a.yaml: `data` is not of a file. Received: 'y'$"):
        read(Whole, {"data": "y"}, "a.yaml", data="x")


def test_values_are_kept_and_replaced_with_the_same_checks():
    made = read(Whole, {"size": [3, 4], "steps": ["a"], "rate": 0.25}, "a.yaml", data="x")
    assert (made.size, made.steps, made.rate, made.epochs) == ((3, 4), ("a",), 0.25, 20)
    assert dataclasses.replace(made, epochs=3).epochs == 3
    with pytest.raises(InputError, match="epochs=0"):
        dataclasses.replace(made, epochs=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.epochs = 3


def test_suggestions():
    assert perhaps("batchsize", fields_of(TrainConfig)) == "; perhaps `batch_size`"


def test_every_field_of_a_training_has_help_and_an_option_or_several():
    from pipelines.cli.train import train

    taken = list(inspect.signature(train).parameters)
    for name, field in fields_of(TrainConfig).items():
        assert field.description, name
        parts = options.PARTS.get(name, (name,))
        assert set(parts) <= set(taken), name
        assert words_of(field).panel is None or isinstance(words_of(field).panel, str)
    assert set(ALWAYS) <= set(fields_of(TrainConfig))


@pytest.mark.process
def test_the_command_line_and_a_configuration_need_no_keras():
    code = (
        "import sys; from pipelines.cli.main import main; main(['train', '--help']); "
        "from pipelines.training.config import TrainConfig; TrainConfig(data='phantom', model='m', run='r'); "
        "print([m for m in ('keras', 'tensorflow', 'pandas', 'cv2', 'matplotlib') if m in sys.modules])"
    )
    assert run(code).splitlines()[-1] == "[]"
