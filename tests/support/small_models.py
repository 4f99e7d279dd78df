"""Every registered model in a form that tests can afford."""

import medkeras
from medkeras.models.base import constructor_arguments

SHAPES = {3: (32, 32, 1), 4: (16, 16, 16, 1)}


def small(name, **options):
    """A registered model for the smallest usual image, not deeper than that allows."""
    shape = SHAPES[len(medkeras.models.preset(name).input_shape)]
    return medkeras.models.create(name, **{"input_shape": shape, "num_classes": 3, **changed(name), **options})


def changed(name):
    """What is changed of a preset: to what the small image allows, and to a size that a test can train."""
    wanted = {
        "backbone": "resnet_tiny",
        "backbones": ("efficientnet_tiny", "resnet_tiny"),
        "attention_maps": 8,
        "widths": (8, 16, 32, 64),
        "depths": (1, 1, 1, 1),
        "local_depths": (1, 1, 1, 1),
        "global_depths": (1, 1, 1, 1),
        "heads": 2,
        "head_size": 8,
        "memory": 8,
        "channels": 8,
        "units": 32,
        "hidden": 16,
        "patch": 8,
        "depth": 2,
        "saccades": 2,
        "extent": 0.5,
    }
    taken = constructor_arguments(medkeras.models.preset(name).model)
    return {name: value for name, value in wanted.items() if name in taken}


def distinct_names():
    """The registered names, without those that only differ from another in what `small` changes."""
    seen = {}
    for name in sorted(medkeras.models.names(), key=lambda name: not name.endswith("_tiny")):
        preset = medkeras.models.preset(name)
        form = sorted({**preset.options, **changed(name)}.items())
        seen.setdefault((preset.model, len(preset.input_shape), repr(form)), name)
    return sorted(seen.values())
