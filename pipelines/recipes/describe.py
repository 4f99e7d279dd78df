"""Recipes in words, for the command line."""

import os
import textwrap
from collections.abc import Sequence

import yaml
from rich.table import Table
from rich.text import Text

from pipelines.recipes.recipe import Recipe, load, names

WIDTH = 100
WHOLE_WORDS = {"break_on_hyphens": False, "break_long_words": False}


def overview() -> Table:
    """Returns a table of all recipes.

    Example:
        >>> overview().row_count == len(names())
        True
    """
    table = Table("recipe", "what it is", "published")
    for name in names():
        recipe = load(name)
        table.add_row(name, recipe.title, recipe.published[0])
    return table


def describe(name: str | os.PathLike) -> Text:
    """Returns all of a recipe: data, layout, commands, fields of the training, figures and what stands against them.

    Args:
        name: As for `pipelines.recipes.load`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no such recipe.

    Example:
        >>> describe("kvasir").plain.splitlines()[0]
        'HEMF, and CAME by --model came, on Kvasir'
    """
    recipe = load(name)
    parts = [
        recipe.title,
        _labelled("Source", recipe.source),
        _labelled("Data", recipe.download),
        _labelled("Licence", recipe.licence),
        _labelled("Downloaded", recipe.expects),
        _labelled("Prepared", recipe.prepares),
        _labelled("Splits", ", ".join(recipe.splits)),
        _labelled("Commands", commands(recipe)),
        _labelled(
            "Training", yaml.safe_dump(dict(recipe.train), sort_keys=False, default_flow_style=None, width=WIDTH)
        ),
        _listed("Published", recipe.published),
        _listed("Caveats", recipe.caveats),
        _listed("Here", recipe.ours),
        _labelled("Time", recipe.time),
    ]
    return Text("\n".join(parts))


def commands(recipe: Recipe) -> str:
    """Returns the commands from the download to the figures.

    Example:
        >>> commands(load("kvasir")).splitlines()[0]
        'medkeras data prepare kvasir --from DOWNLOADED --to data/kvasir'
    """
    data, run = f"data/{recipe.name}", f"runs/{recipe.name}"
    return (
        f"medkeras data prepare {recipe.name} --from DOWNLOADED --to {data}\n"
        f"medkeras train --recipe {recipe.name} --data {data} --run {run}\n"
        f"medkeras evaluate {run}"
    )


def _labelled(label: str, text: str) -> str:
    wrapped = [
        line
        for paragraph in text.rstrip().splitlines()
        for line in textwrap.wrap(paragraph, WIDTH, **WHOLE_WORDS) or [""]
    ]
    return "\n".join([f"{label}:", *(f"  {line}" for line in wrapped)])


def _listed(label: str, lines: Sequence[str]) -> str:
    bullets = {"initial_indent": "  - ", "subsequent_indent": "    "}
    wrapped = [textwrap.fill(line, WIDTH, **WHOLE_WORDS, **bullets) for line in lines]
    return "\n".join([f"{label}:", *wrapped])
