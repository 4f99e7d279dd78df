"""Recipes of published systems: what they were trained on, how, and what was reported.

Each is a YAML file here: where the data come from, how `medkeras data prepare` lays them out, and the fields of a
`pipelines.training.config.TrainConfig`. A YAML file of your own works by its path.
"""

from pipelines.recipes.recipe import Recipe, load, names

__all__ = ["Recipe", "load", "names"]
