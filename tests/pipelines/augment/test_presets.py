"""The augmentations that go by a name."""

import numpy as np
import pytest
import tensorflow as tf

from pipelines.augment import AUGMENTATIONS, Augmenter, Flip, choose


def images_of(shape, batch=6):
    return tf.constant(np.random.default_rng(0).random((batch, *shape)), tf.float32)


@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, (16, 12, 1 + 2 * (i % 2))) for i, name in enumerate(AUGMENTATIONS) if name != "none"]
    + [(name, (10, 12, 14, 1)) for name in ("mri", "ct")],
)
def test_presets_change_images_and_volumes(name, shape):
    augment, images = Augmenter(choose(name), image_shape=shape, seed=1), images_of(shape, 3)
    changed = augment(images, 2, tf.range(3))
    assert changed.shape == images.shape and np.abs(changed - images).max() > 0.05
    assert np.all(np.isfinite(changed)) and tf.reduce_min(changed) >= 0 and tf.reduce_max(changed) <= 1


def test_a_chest_is_never_mirrored_and_an_ultrasound_never_upside_down():
    for name in ("xray", "ct", "mri"):
        assert not any(isinstance(a, Flip) or getattr(a, "flip", ()) for a in AUGMENTATIONS[name])
    assert AUGMENTATIONS["ultrasound"][0].flip == ("width",)
    # A tilt keeps the left on the left: the determinant of the map and its diagonal stay positive.
    matrices = Augmenter(AUGMENTATIONS["xray"], image_shape=(8, 8, 1)).draw(0, tf.range(200))[0]["matrix"].numpy()
    assert np.all(np.diagonal(matrices[..., :2], axis1=1, axis2=2) > 0.8)
