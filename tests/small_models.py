"""Every registered model in a form that tests can afford."""

import medkeras

SHAPES = {3: (32, 32, 1), 4: (16, 16, 16, 1)}


def small(name, **options):
    """A registered model for the smallest usual image, not deeper than that allows."""
    shape = SHAPES[len(medkeras.models.preset(name).input_shape)]
    return medkeras.models.create(name, **{"input_shape": shape, "num_classes": 3, **changed(name), **options})


def changed(name):
    """What is changed of a preset: a depth that the small image allows, and a backbone that a test can train."""
    preset = medkeras.models.preset(name)
    wanted = {"backbone": "resnet_tiny", "attention_maps": 8}
    if preset.options.get("depth", 1) > 2:
        wanted["depth"] = 3 if len(preset.input_shape) == 3 else 2
    return {name: value for name, value in wanted.items() if preset.options.get(name, value) != value}


def distinct_names():
    """The registered names, without those that only differ from another in what `small` changes."""
    seen = {}
    for name in sorted(medkeras.models.names(), key=lambda name: len(changed(name))):
        preset = medkeras.models.preset(name)
        form = sorted({**preset.options, **changed(name)}.items())
        seen.setdefault((preset.architecture, len(preset.input_shape), repr(form)), name)
    return sorted(seen.values())
