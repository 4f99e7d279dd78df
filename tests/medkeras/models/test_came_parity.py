"""CAME against the published answers, and against a numpy twin at another seed, with both layouts of the tokens."""

import numpy as np
import pytest

import medkeras
from came_twin import came
from fusion_parts import answers, assert_parity, golden, official_weights, scaled_weights

RNG = np.random.default_rng(0)


def create(name, edge, **options):
    return medkeras.models.create(name, input_shape=(edge, edge, 3), num_classes=7, normalization="none", **options)


def test_the_published_network_gives_the_reference_answers():
    images, reference = golden("came")
    model, weights = create("came", 224, as_published=True), official_weights("came", 1)
    # 2,383,104 published weights are never used, and not built here.
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 226_906_153 - 2_383_104
    medkeras.checkpoints.load(model, weights)
    assert_parity(answers(model, images, "came"), reference)
    assert_parity(came(images, weights), reference)  # so the twin is one


@pytest.mark.parametrize("as_published", [True, False])
def test_a_narrow_network_equals_the_twin_with_either_layout_of_the_tokens(as_published):
    model = create("came_tiny", 224, as_published=as_published, depths=(2, 2, 1, 2), memory=6)
    weights, images = scaled_weights(model, 2), RNG.normal(size=(1, 3, 224, 224)).astype("float32")
    medkeras.checkpoints.load(model, weights)
    assert_parity(answers(model, images, "came"), came(images, weights, as_published=as_published))
