"""Losses against numpy twins, at extreme logits, with unknown labels, and through fit and save."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from medkeras import losses
from medkeras.metrics import Accuracy

NAN = float("nan")
BINARY = [losses.MaskedBinaryCrossentropy, losses.BinaryFocalLoss]
SINGLE = [losses.FocalLoss, losses.CrossEntropy]
ALL = [*BINARY, *SINGLE]


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


@pytest.fixture
def mixed(single):
    """Shares of classes: some of one class alone, some of two, with the logits of `single`."""
    rng, eye = np.random.default_rng(2), np.eye(3)
    share = np.array([1, 1, *rng.random(6)])[:, None]
    return (share * eye[single[0]] + (1 - share) * eye[rng.integers(0, 3, 8)]).astype("float32"), single[1]


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


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [1.0, [0.2, 0.9, 3.0]])
def test_focal_of_shares_is_the_mean_of_the_classes(mixed, alpha, gamma):
    shares, logits = mixed
    loss = losses.FocalLoss(alpha=alpha, gamma=gamma, reduction="none")
    classes = np.stack([loss(np.full(8, c), logits) for c in range(3)], axis=1)
    np.testing.assert_allclose(loss(shares, logits), (shares * classes).sum(axis=1), rtol=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_keras_for_indices_and_shares(single, mixed, smoothing):
    loss = losses.CrossEntropy(label_smoothing=smoothing)
    twin = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    np.testing.assert_allclose(loss(*mixed), twin(*mixed), rtol=1e-6)
    labels, logits = single
    for form in (labels, labels[:, None], labels.astype("float32"), np.eye(3, dtype="float32")[labels]):
        np.testing.assert_allclose(loss(form, logits), twin(np.eye(3)[labels], logits), rtol=1e-6)
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    np.testing.assert_allclose(losses.CrossEntropy()(labels, logits), plain(labels, logits), rtol=1e-6)


@pytest.mark.parametrize("kind", SINGLE)
def test_indices_and_their_rows_have_the_same_gradient(kind, single):
    labels, logits = single
    value, gradient = value_and_gradient(kind(), labels, logits)
    other_value, other = value_and_gradient(kind(), np.eye(3, dtype="float32")[labels], logits)
    assert value == pytest.approx(other_value, rel=1e-5)
    np.testing.assert_allclose(gradient, other, atol=1e-6)


@pytest.mark.parametrize("kind", SINGLE)
def test_a_model_learns_from_shares_in_fit_and_is_judged_by_indices(kind):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 64)
    x = (2 * labels[:, None] - 1 + rng.normal(0, 0.3, (64, 3))).astype("float32")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    # Not "accuracy": Keras would choose a metric by the first labels, and the later ones have another form.
    model.compile(keras.optimizers.Adam(0.1), kind(), metrics=[Accuracy()])
    shares = (0.8 * np.eye(2)[labels] + 0.1).astype("float32")
    history = model.fit(x, shares, validation_data=(x, labels), epochs=12, verbose=0).history
    assert history["val_accuracy"][-1] > 0.9 and history["loss"][-1] < history["loss"][0]


def test_without_focus_they_are_cross_entropy(single, multilabel):
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    np.testing.assert_allclose(losses.FocalLoss(gamma=0)(*single), plain(*single), rtol=1e-5)
    labels, logits = np.nan_to_num(multilabel[0]), multilabel[1]
    plain = keras.losses.BinaryCrossentropy(from_logits=True)(labels, logits)
    np.testing.assert_allclose(losses.BinaryFocalLoss(gamma=0)(labels, logits), plain, rtol=1e-5)
    np.testing.assert_allclose(losses.MaskedBinaryCrossentropy()(labels, logits), plain, rtol=1e-5)


@pytest.mark.parametrize("kind", ALL)
def test_the_batch_mean_is_the_same_however_the_batch_is_cut(kind, single, multilabel):
    labels, logits = single if kind in SINGLE else multilabel
    halves = [float(kind()(labels[i : i + 4], logits[i : i + 4])) for i in (0, 4)]
    np.testing.assert_allclose(np.mean(halves), float(kind()(labels, logits)), rtol=1e-5)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("scale", [0.0, 20.0, 1e4])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_values_and_gradients_stay_finite(kind, scale, precision):
    logits = np.array([[scale, -scale], [-scale, scale]], precision)
    labels = np.array([0, 0]) if kind in SINGLE else np.array([[1, NAN], [NAN, NAN]], "float32")
    focal = kind in (losses.FocalLoss, losses.BinaryFocalLoss)
    options = [{"gamma": g} for g in (0, 0.5, 1, 2)] if focal else [{}]
    forms = [labels, np.array([[1, 0], [0.3, 0.7]], "float32")] if kind in SINGLE else [labels]
    for option, form in itertools.product(options, forms):
        value, gradient = value_and_gradient(kind(**option), form, logits)
        assert np.isfinite(value) and np.all(np.isfinite(gradient)), (option, form)


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
    labels = np.array([1]) if kind in SINGLE else np.array([[0, 1]], "float32")
    value, gradient = value_and_gradient(kind(), labels, np.array([[1e3, -1e3]]))
    assert value > 500
    assert gradient[0, 0] > 0 > gradient[0, 1]


@pytest.mark.parametrize("kind", ALL)
def test_sample_weights_scale_each_image(kind, single, multilabel):
    labels, logits = single if kind in SINGLE else multilabel
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
        losses.CrossEntropy(label_smoothing=0.1, name="b"),
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
        (lambda: losses.CrossEntropy(label_smoothing=1), "label_smoothing=1"),
        (lambda: losses.CrossEntropy()([[0.5, 0.5]], [[0.0, 0.0, 0.0]]), r"\(batch, 3\).*shape \(1, 2\)"),
        (lambda: losses.FocalLoss(alpha=[1, 2])([0], [[0.0, 0, 0]]), "each of 3 classes"),
        (lambda: losses.BinaryFocalLoss()([[0.0]], [[0.0, 0.0]]), "y_true.shape="),
        (lambda: losses.MaskedBinaryCrossentropy()([0.0, 1.0], [[0.0], [0.0]]), "y_true.shape="),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
