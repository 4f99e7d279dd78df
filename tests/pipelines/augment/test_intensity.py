"""Changes of values: numpy and scipy twins, ranges, and the same numbers in every form."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from pipelines.augment import Augmenter, BiasField, Blur, CoarseDropout, ColorJitter, Intensity, Noise
from pipelines.augment.random_numbers import fold_in

SHAPES = [(20, 24, 1), (20, 24, 3), (12, 14, 10, 1)]
ALL = [
    Intensity(),
    Noise(0.1),
    Blur(1.5),
    BiasField(),
    CoarseDropout(),
    CoarseDropout(fill="zero"),
    ColorJitter(0.5, hue=90.0),
]


def images_of(shape, batch=6):
    return tf.constant(np.random.default_rng(0).random((batch, *shape)), tf.float32)


def draw(augmentation, shape, count):
    if count > 20:
        return Augmenter([augmentation], image_shape=shape).draw(0, tf.range(count))[0]
    keys = fold_in(tf.constant([1, 0], tf.int64), tf.range(count))
    return tf.nest.map_structure(lambda *rows: tf.stack(rows), *(augmentation.draw(key, shape) for key in keys))


@pytest.mark.parametrize("augmentation", ALL, ids=repr)
@pytest.mark.parametrize("shape", SHAPES)
def test_eager_graph_and_xla_agree_and_stay_in_range(augmentation, shape):
    images, parameters = images_of(shape), draw(augmentation, shape, 6)
    eager = augmentation.apply(images, parameters)
    assert eager.shape == images.shape and eager.dtype == tf.float32
    assert tf.reduce_min(eager) >= 0 and tf.reduce_max(eager) <= 1
    for compiled in (False, True):
        other = tf.function(augmentation.apply, jit_compile=compiled)(images, parameters)
        np.testing.assert_allclose(other, eager, atol=1e-4)
    if not (isinstance(augmentation, ColorJitter) and shape[-1] == 1):
        assert np.abs(eager - images).max() > 0.05


def test_intensity_is_gamma_contrast_brightness():
    images = images_of((6, 8, 1), 2)
    shift, contrast, gamma = np.array([0.05, -0.1]), np.array([1.2, 0.8]), np.array([0.9, 1.1])
    parameters = tuple(tf.constant(p, tf.float32) for p in (shift, contrast, gamma))
    for i, got in enumerate(Intensity().apply(images, parameters).numpy()):
        raised = images[i].numpy() ** gamma[i]
        wanted = (raised - raised.mean()) * contrast[i] + raised.mean() + shift[i]
        np.testing.assert_allclose(got, np.clip(wanted, 0, 1), atol=1e-6)


def test_intensity_draws_within_its_ranges():
    shift, contrast, gamma = (p.numpy() for p in draw(Intensity(0.1, 0.2, 0.5), (8, 8, 1), 300))
    assert 0.09 < np.abs(shift).max() <= 0.1 and 0.19 < np.abs(contrast - 1).max() <= 0.2001
    assert 1.45 < gamma.max() <= 1.5001 and 1 / 1.5001 <= gamma.min() < 1 / 1.45


def test_noise_has_the_strength_it_says_and_differs_between_records():
    noise, grey = Noise(0.1), tf.fill((100, 32, 32, 1), 0.5)
    strengths, keys = draw(noise, (32, 32, 1), 100)
    added = noise.apply(grey, (strengths, keys)).numpy() - 0.5
    np.testing.assert_allclose(added.std(axis=(1, 2, 3)), strengths, rtol=0.1)
    assert strengths.numpy().max() < 0.1 and abs(strengths.numpy().mean() - 0.05) < 0.012
    correlation = np.corrcoef(added.reshape(100, -1)) - np.eye(100)
    assert np.abs(correlation).max() < 0.16


@pytest.mark.parametrize("shape", SHAPES)
def test_blur_is_that_of_scipy(shape):
    blur, images = Blur(1.5), images_of(shape, 3)
    sigmas = np.array([0.0, 0.7, 1.5], "float32")
    blurred = blur.apply(images, tf.constant(sigmas)).numpy()
    np.testing.assert_array_equal(blurred[0], images[0])
    for image, sigma, got in zip(images.numpy()[1:], sigmas[1:], blurred[1:], strict=True):
        wanted = image
        for axis in range(len(shape) - 1):
            wanted = ndimage.gaussian_filter1d(wanted, sigma, axis, radius=blur.radius)
        np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("shape", [(40, 30, 1), (16, 20, 18, 1)])
def test_a_bias_field_is_the_exponential_of_a_polynomial_of_the_strength_it_says(shape):
    field, rank = BiasField(strength=0.3, order=3), len(shape) - 1
    parameters = draw(field, shape, 8)
    logs = np.log(field.apply(tf.fill((8, *shape), 0.2), parameters).numpy()[..., 0] / 0.2)
    lengths = np.sqrt((parameters.numpy() ** 2).sum(axis=tuple(range(1, rank + 1))))
    np.testing.assert_allclose(logs.reshape(8, -1).std(axis=1), lengths, rtol=0.05)
    assert lengths.max() <= 0.3 and len(np.unique(lengths)) == 8
    at = np.stack([g.ravel() for g in np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[:-1]), indexing="ij")])
    powers = [p for p in np.ndindex((4,) * rank) if sum(p) <= 3]
    terms = np.stack([np.prod([a**q for a, q in zip(at, p, strict=True)], axis=0) for p in powers], axis=1)
    _, residuals, _, _ = np.linalg.lstsq(terms, logs.reshape(8, -1).T, rcond=None)
    np.testing.assert_allclose(residuals, 0, atol=1e-6)


@pytest.mark.parametrize("fill", ["zero", "mean"])
@pytest.mark.parametrize("shape", SHAPES)
def test_dropout_covers_whole_boxes(shape, fill):
    dropout, sizes = CoarseDropout(3, (0.1, 0.4), fill), np.array(shape[:-1])
    images, boxes = images_of(shape), draw(dropout, shape, 6).numpy()
    for image, own, got in zip(images.numpy(), boxes, dropout.apply(images, tf.constant(boxes)).numpy(), strict=True):
        wanted = image.copy()
        for box in own:
            spans = [(np.arange(n) + 0.5) / n for n in sizes]
            inside = [np.flatnonzero((s >= lo) & (s < hi)) for s, (lo, hi) in zip(spans, box, strict=True)]
            wanted[np.ix_(*inside)] = 0 if fill == "zero" else image.mean(axis=tuple(range(len(sizes))))
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_dropout_draws_its_count_and_sizes_evenly():
    boxes = draw(CoarseDropout(3, (0.1, 0.3)), (32, 32, 1), 400).numpy()
    used = boxes[..., 0, 0] < 2
    counts = np.bincount(used.sum(axis=1), minlength=4)
    assert len(counts) == 4 and counts.min() > 70
    lengths = (boxes[..., 1] - boxes[..., 0])[used]
    assert 0.0999 <= lengths.min() < 0.105 and 0.295 < lengths.max() <= 0.3001


def test_saturation_and_hue_are_those_of_yiq():
    jitter, images = ColorJitter(0.5, hue=60.0), 0.35 + 0.3 * images_of((5, 6, 3), 8)
    matrices = draw(jitter, (5, 6, 3), 8)
    changed = jitter.apply(images, matrices).numpy()
    for before, after in zip(images.numpy().reshape(8, -1, 3), changed.reshape(8, -1, 3), strict=True):
        old, new = (np.array([colorsys.rgb_to_yiq(*pixel) for pixel in pixels]) for pixels in (before, after))
        np.testing.assert_allclose(new[:, 0], old[:, 0], atol=2e-3)
        turn = (new[:, 1] + 1j * new[:, 2]) / (old[:, 1] + 1j * old[:, 2])
        np.testing.assert_allclose(turn, turn.mean(), atol=0.03)
        assert 0.45 < np.abs(turn.mean()) < 1.55 and abs(np.degrees(np.angle(turn.mean()))) < 62


def test_grey_stays_grey():
    grey = tf.repeat(images_of((6, 8, 1)), 3, axis=-1)
    jitter = ColorJitter(0.9, hue=180.0)
    np.testing.assert_allclose(jitter.apply(grey, draw(jitter, (6, 8, 3), 6)), grey, atol=1e-5)
    one = images_of((6, 8, 1))
    np.testing.assert_array_equal(jitter.apply(one, draw(jitter, (6, 8, 1), 6)), one)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Intensity(contrast=1.0), "Received: Intensity"),
        (lambda: Intensity(gamma=-0.1), "Received: Intensity"),
        (lambda: Noise(-1), "std=-1"),
        (lambda: Blur(0.0), "sigma=0.0"),
        (lambda: Augmenter([Blur(5.0)], image_shape=(8, 40, 1)), "third of each axis.*sigma=5.0"),
        (lambda: BiasField(strength=0.0), "Received: BiasField"),
        (lambda: BiasField(order=0), "Received: BiasField"),
        (lambda: CoarseDropout(0), "count=0"),
        (lambda: CoarseDropout(size=(0.3, 0.2)), "size="),
        (lambda: CoarseDropout(fill="noise"), "zero, mean.*fill='noise'"),
        (lambda: ColorJitter(saturation=1.5), "Received: ColorJitter"),
        (lambda: Augmenter([ColorJitter()], image_shape=(8, 8, 2)), "1 or 3 channels"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
