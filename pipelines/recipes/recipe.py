"""A recipe: one YAML file, read and checked."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NotRequired

from typing_extensions import TypedDict

from medkeras.errors import InputError
from pipelines.io.run_folder import RunFolder
from pipelines.io.settings import read, settings
from pipelines.io.yaml_file import read_yaml
from pipelines.recipes.layouts import check_layout

FOLDER = pathlib.Path(__file__).parent
INDEX, STATE = "index.csv", "prepared.json"
GROUPED, PUBLISHED = "grouped", "published"
ELSEWHERE = ("data", "run", "recipe", "cache", "data_service")  # What a recipe cannot know.


class PreparedJson(TypedDict):
    """What `prepared.json` says of the data in a folder."""

    recipe: NotRequired[str]
    split: NotRequired[str]
    complete: NotRequired[bool]


@settings
class Recipe:
    """How a published system was trained, with what is known of its data and results.

    Attributes:
        name: The name of its file.
        title: One line.
        source: The publication.
        download: Where the data are to be had.
        licence: What is known of their licence.
        expects: The layout of the downloaded data.
        prepares: What `medkeras data prepare` makes of it.
        published: The reported figures, as quoted.
        caveats: What stands against them.
        ours: What is done in another way here, and why.
        time: How long a training takes, if it was measured.
        layout: How the files are found, see `pipelines.recipes.layouts`.
        splits: What `--split` of `medkeras data prepare` may be; the first is the default.
        published_shares: `train` and `test` of the published split, see `pipelines.recipes.published_split`; without
            it, the published split is the one that the download gives.
        train: Fields of `pipelines.training.config.TrainConfig`.
        train_published: Fields that differ for data prepared with the published split.
    """

    name: str
    title: str
    source: str
    download: str
    licence: str
    expects: str
    prepares: str
    published: tuple[str, ...]
    caveats: tuple[str, ...]
    ours: tuple[str, ...]
    time: str
    layout: Mapping[str, Any]
    splits: tuple[str, ...] = (GROUPED,)
    published_shares: Mapping[str, float] = dataclasses.field(default_factory=dict)
    train: Mapping[str, Any]
    train_published: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def training(self, data: str | os.PathLike) -> dict[str, Any]:
        """Returns the fields of a training on prepared data.

        Args:
            data: A folder that `medkeras data prepare` made by this recipe.

        Raises:
            FileNotFoundError: If there is no such folder, or nothing was prepared in it.
            ValueError: If it was prepared by another recipe, or is not complete.

        Example:
            >>> load("kvasir").training("no-such-folder")
            Traceback (most recent call last):
            ...
            FileNotFoundError: No such folder: no-such-folder
        """
        folder = pathlib.Path(data)
        if not folder.is_dir():
            raise FileNotFoundError(f"No such folder: {folder}")
        state = read_state(folder)
        command = f"`medkeras data prepare {self.name} --from DOWNLOADED --to {folder}`"
        if state is None:
            raise FileNotFoundError(f"A recipe trains on what {command} makes. Received: {folder} without {STATE}")
        if state.get("recipe") != self.name:
            raise InputError(f"The data must be prepared by {command}. Received: those of {state.get('recipe')}")
        if not state.get("complete") or not (folder / INDEX).is_file():
            raise InputError(f"The data are not complete; {command} goes on. Received: {folder}")
        changes = self.train_published if state.get("split") == PUBLISHED else {}
        self.check_training()
        return dict(self.train) | dict(changes) | {"data": str(folder / INDEX), "recipe": self.name}

    def check_training(self) -> None:
        """Checks `train` and `train_published`, which takes the imports of a training.

        Raises:
            ValueError: If one holds what is no field of a `TrainConfig`, or a value that it cannot have.

        Example:
            >>> load("kvasir").check_training()
        """
        _check_training(self.train, f"train of {self.name}")
        _check_training(dict(self.train) | dict(self.train_published), f"train_published of {self.name}")


def names() -> list[str]:
    """Returns the names of all recipes, sorted.

    Example:
        >>> "isic2018" in names()
        True
    """
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str | os.PathLike) -> Recipe:
    """Reads a recipe.

    Args:
        name: One of `names()`, or the path of a `.yaml` file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no recipe of this name, or the file does not hold one; what is wrong is named.

    Example:
        >>> load("hemf")
        Traceback (most recent call last):
        ...
        medkeras.InputError: A recipe is one of aptos2019, ... or a .yaml file. Received: hemf
    """
    path = pathlib.Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise FileNotFoundError(f"No such recipe: {path}")
    elif str(name) in names():
        path = FOLDER / f"{name}.yaml"
    else:
        raise InputError(f"A recipe is one of {', '.join(names())} or a .yaml file. Received: {name}")
    recipe = read(Recipe, read_yaml(path), path, name=path.stem)
    if not recipe.splits or not set(recipe.splits) <= {GROUPED, PUBLISHED}:
        raise InputError(f"`splits` are of {GROUPED}, {PUBLISHED}. Received: {list(recipe.splits)} in {path}")
    if "model" not in recipe.train:
        raise InputError(f"A recipe trains a model. Received: {path} without train: model")
    check_layout(recipe.layout, path)
    return recipe


def read_state(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns what a folder was prepared for, or None where nothing was prepared.

    Raises:
        ValueError: If the file is damaged.

    Example:
        >>> read_state(pathlib.Path("no-such-folder")) is None
        True
    """
    if not (folder / STATE).is_file():
        return None
    return RunFolder(folder).read_json(STATE, PreparedJson)


def _check_training(values: Mapping[str, Any], place: str) -> None:
    from pipelines.training.config import TrainConfig

    if unknowable := sorted(set(values) & set(ELSEWHERE)):
        raise InputError(f"Cannot read {place}: a recipe cannot know `{unknowable[0]}`")
    read(TrainConfig, {"model": ""} | dict(values), place, data="", run="")
