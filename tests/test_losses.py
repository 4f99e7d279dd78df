"""Losses against numpy twins, at extreme logits, with unknown labels, and through fit and save."""

import keras
import numpy as np
import pytest
from keras import ops

from medkeras import losses

NAN = float("nan")
BINARY = [losses.MaskedBinaryCrossentropy, losses.BinaryFocalLoss]
ALL = [*BINARY, losses.FocalLoss]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def masked_mean(values, labels):
    """Mean over images of the mean over known labels, written as loops."""
    rows = []
    for row, label in zip(values, labels, strict=True):
        known = [v for v, y in zip(row, label, strict=True) if not np.isnan(y)]
        rows.append(np.mean(known) if known else 0.0)
    return np.mean(rows)


@pytest.fixture
def multilabel():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (8, 4)).astype("float32")
    labels[rng.random((8, 4)) < 0.3] = NAN
    labels[3] = NAN
    return labels, rng.normal(0, 3, (8, 4)).astype("float32")


@pytest.fixture
def single():
    rng = np.random.default_rng(1)
    return rng.integers(0, 3, 8), rng.normal(0, 3, (8, 3)).astype("float32")


@pytest.mark.parametrize("weights", [None, [2.0, 0.5, 1.0, 7.0]])
def test_masked_crossentropy_is_its_numpy_twin(multilabel, weights):
    labels, logits = multilabel
    p = sigmoid(logits.astype("float64"))
    terms = -np.array(weights or 1.0) * labels * np.log(p) - (1 - labels) * np.log(1 - p)
    result = losses.MaskedBinaryCrossentropy(positive_weights=weights)(labels, logits)
    np.testing.assert_allclose(float(result), masked_mean(terms, labels), rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [1.0, 0.25, [0.2, 0.9, 1.0, 3.0]])
def test_binary_focal_is_its_numpy_twin(multilabel, alpha, gamma):
    labels, logits = multilabel
    p = sigmoid(logits.astype("float64"))
    p = np.where(labels == 1, p, 1 - p)
    terms = -np.array(alpha) * (1 - p) ** gamma * np.log(p)
    result = losses.BinaryFocalLoss(alpha=alpha, gamma=gamma)(labels, logits)
    np.testing.assert_allclose(float(result), masked_mean(terms, labels), rtol=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [1.0, [0.2, 0.9, 3.0]])
def test_focal_is_its_numpy_twin(single, alpha, gamma):
    labels, logits = single
    p = softmax(logits.astype("float64"))[np.arange(8), labels]
    terms = -np.broadcast_to(alpha, 3)[labels] * (1 - p) ** gamma * np.log(p)
    loss = losses.FocalLoss(alpha=alpha, gamma=gamma)
    np.testing.assert_allclose(float(loss(labels, logits)), terms.mean(), rtol=1e-4)
    np.testing.assert_allclose(float(loss(labels[:, None], logits)), terms.mean(), rtol=1e-4)


def test_without_focus_they_are_cross_entropy(single, multilabel):
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    np.testing.assert_allclose(losses.FocalLoss(gamma=0)(*single), plain(*single), rtol=1e-5)
    labels, logits = np.nan_to_num(multilabel[0]), multilabel[1]
    plain = keras.losses.BinaryCrossentropy(from_logits=True)(labels, logits)
    np.testing.assert_allclose(losses.BinaryFocalLoss(gamma=0)(labels, logits), plain, rtol=1e-5)
    np.testing.assert_allclose(losses.MaskedBinaryCrossentropy()(labels, logits), plain, rtol=1e-5)


@pytest.mark.parametrize("kind", ALL)
def test_the_batch_mean_is_the_same_however_the_batch_is_cut(kind, single, multilabel):
    labels, logits = single if kind is losses.FocalLoss else multilabel
    halves = [float(kind()(labels[i : i + 4], logits[i : i + 4])) for i in (0, 4)]
    np.testing.assert_allclose(np.mean(halves), float(kind()(labels, logits)), rtol=1e-5)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("scale", [0.0, 20.0, 1e4])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_values_and_gradients_stay_finite(kind, scale, precision):
    logits = np.array([[scale, -scale], [-scale, scale]], precision)
    labels = np.array([0, 0]) if kind is losses.FocalLoss else np.array([[1, NAN], [NAN, NAN]], "float32")
    options = [{}] if kind is losses.MaskedBinaryCrossentropy else [{"gamma": g} for g in (0, 0.5, 1, 2)]
    for option in options:
        value, gradient = value_and_gradient(kind(**option), labels, logits)
        assert np.isfinite(value) and np.all(np.isfinite(gradient)), option


def value_and_gradient(loss, labels, logits):
    """The loss and its gradient: one step of descent at rate 1 on a model whose weights are the logits."""
    layer = keras.layers.Embedding(len(logits), logits.shape[1], dtype="float32")
    model = keras.Sequential([keras.Input((), dtype="int32"), layer])
    layer.embeddings.assign(logits.astype("float32"))
    model.compile(keras.optimizers.SGD(1.0), loss)
    value = model.train_on_batch(np.arange(len(logits)), labels)
    return value, logits.astype("float32") - ops.convert_to_numpy(layer.embeddings)


@pytest.mark.parametrize("kind", BINARY)
def test_unknown_labels_have_no_gradient(kind):
    labels = np.array([[1, NAN], [NAN, NAN]], "float32")
    _, gradient = value_and_gradient(kind(), labels, np.array([[0.5, 0.5], [2.0, -2.0]]))
    assert gradient[0, 0] < 0
    np.testing.assert_array_equal(gradient.ravel()[1:], 0)


@pytest.mark.parametrize("kind", ALL)
def test_a_confident_wrong_answer_is_still_corrected(kind):
    labels = np.array([1]) if kind is losses.FocalLoss else np.array([[0, 1]], "float32")
    value, gradient = value_and_gradient(kind(), labels, np.array([[1e3, -1e3]]))
    assert value > 500
    assert gradient[0, 0] > 0 > gradient[0, 1]


@pytest.mark.parametrize("kind", ALL)
def test_sample_weights_scale_each_image(kind, single, multilabel):
    labels, logits = single if kind is losses.FocalLoss else multilabel
    weights = np.array([0, 1, 2, 3, 4, 0, 0, 1], "float32")
    each = ops.convert_to_numpy(kind(reduction="none")(labels, logits))
    assert each.shape == (8,)
    np.testing.assert_allclose(float(kind()(labels, logits, weights)), np.mean(each * weights), rtol=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        losses.MaskedBinaryCrossentropy(positive_weights=(1, 2), name="a"),
        losses.BinaryFocalLoss(alpha=[0.5, 2], gamma=1, reduction="sum"),
        losses.FocalLoss(alpha=0.25, gamma=3),
    ],
)
def test_a_loss_comes_back_from_its_config(loss):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()


def test_a_compiled_model_with_a_focal_loss_is_saved_and_loaded(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", losses.BinaryFocalLoss(alpha=[1, 2]))
    x, y = np.ones((4, 3)), np.array([[1, NAN]] * 4)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.FocalLoss(gamma=-1), "gamma=-1"),
        (lambda: losses.FocalLoss(alpha=0), r"alpha=\[0.0\]"),
        (lambda: losses.BinaryFocalLoss(alpha=[1, NAN]), "alpha="),
        (lambda: losses.MaskedBinaryCrossentropy(positive_weights=[-1, 1]), "positive_weights="),
        (lambda: losses.FocalLoss(alpha=[1, 2])([0], [[0.0, 0, 0]]), "each of 3 classes"),
        (lambda: losses.BinaryFocalLoss()([[0.0]], [[0.0, 0.0]]), "y_true.shape="),
        (lambda: losses.MaskedBinaryCrossentropy()([0.0, 1.0], [[0.0], [0.0]]), "y_true.shape="),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
