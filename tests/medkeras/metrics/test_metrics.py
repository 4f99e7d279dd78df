"""Keras metrics against scikit-learn, over batches, and through compile, fit and save."""

import keras
import numpy as np
import pytest
from keras import ops
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from medkeras.metrics import AUC, Accuracy, QuadraticWeightedKappa, default_metrics
from medkeras.tasks import default_loss

NAN = float("nan")


def feed(metric, labels, logits, weights=None, size=30):
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        metric.update_state(labels[part], logits[part], None if weights is None else weights[part])
    return float(metric.result())


def softmax(x):
    x = x.astype("float64")
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


@pytest.fixture
def ordered():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    return labels, (np.eye(4)[labels] + rng.normal(0, 0.6, (200, 4))).astype("float32")


def test_kappa_is_that_of_scikit_learn(ordered):
    labels, logits = ordered
    expected = cohen_kappa_score(labels, logits.argmax(-1), weights="quadratic")
    assert feed(QuadraticWeightedKappa(4), labels, logits) == pytest.approx(expected, abs=1e-5)
    assert feed(QuadraticWeightedKappa(4), labels[:, None], logits) == pytest.approx(expected, abs=1e-5)


def test_kappa_takes_weights_and_starts_again(ordered):
    labels, logits = ordered
    weights = np.random.default_rng(1).integers(0, 4, 200)
    metric = QuadraticWeightedKappa(4)
    expected = cohen_kappa_score(labels, logits.argmax(-1), weights="quadratic", sample_weight=weights)
    for _ in range(2):
        assert feed(metric, labels, logits, weights) == pytest.approx(expected, abs=1e-5)
        metric.reset_state()


def test_kappa_without_a_second_class_is_undefined():
    assert np.isnan(feed(QuadraticWeightedKappa(3), np.zeros(4, int), np.eye(3)[[0] * 4]))


@pytest.mark.parametrize("confidence", [1, 8])
@pytest.mark.parametrize("task", ["binary", "multiclass", "ordinal"])
def test_auc_of_single_label_tasks_is_near_the_exact_one(task, confidence):
    rng = np.random.default_rng(2)
    classes = 2 if task == "binary" else 3
    labels = rng.integers(0, classes, 400)
    logits = confidence * (np.eye(classes)[labels] + rng.normal(0, 0.9, (400, classes)))
    chosen = [1] if task == "binary" else range(classes)
    expected = np.mean([roc_auc_score(labels == c, softmax(logits)[:, c]) for c in chosen])
    assert feed(AUC(task, classes), labels, logits) == pytest.approx(expected, abs=2e-3)


def test_auc_of_several_labels_leaves_out_unknown_ones_and_labels_that_cannot_be_judged():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, (300, 4)).astype("float32")
    logits = labels + rng.normal(0, 1, labels.shape)
    labels[rng.random(labels.shape) < 0.4] = NAN
    labels[:, 3] = 0
    known = ~np.isnan(labels)
    expected = np.mean([roc_auc_score(labels[known[:, c], c], logits[known[:, c], c]) for c in range(3)])
    assert feed(AUC("multilabel", 4), labels, logits) == pytest.approx(expected, abs=2e-3)


def test_auc_ranks_images_whose_probabilities_all_round_to_the_same_hundredth():
    logits = np.stack([np.zeros(40), np.linspace(6, 15, 40)], -1)
    labels = np.arange(40) >= 20
    assert feed(AUC("binary", 2), labels, logits) == 1.0


def test_auc_takes_weights():
    rng = np.random.default_rng(4)
    labels, logits, weights = rng.integers(0, 2, 200), rng.normal(size=(200, 2)), rng.integers(0, 3, 200)
    expected = roc_auc_score(labels, softmax(logits)[:, 1], sample_weight=weights)
    assert feed(AUC("binary", 2), labels, logits, weights) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("kind", [Accuracy, lambda: AUC("ordinal", 4), lambda: QuadraticWeightedKappa(4)])
def test_of_shares_the_largest_counts(kind, ordered):
    labels, logits = ordered
    shares = 0.7 * np.eye(4)[labels] + 0.3 * np.eye(4)[(labels + 1) % 4]
    assert feed(kind(), shares.astype("float32"), logits) == feed(kind(), labels, logits)


def test_accuracy_is_that_of_keras(ordered):
    labels, logits = ordered
    weights = np.random.default_rng(1).integers(0, 4, 200)
    twin = keras.metrics.SparseCategoricalAccuracy()
    for form in (labels, labels[:, None]):
        assert feed(Accuracy(), form, logits, weights) == pytest.approx(feed(twin, labels, logits, weights), abs=1e-6)
        twin.reset_state()


def test_auc_counts_a_share_of_a_label_as_so_much_of_an_image():
    rng = np.random.default_rng(6)
    labels, logits = rng.random(300).astype("float32"), rng.normal(size=300)
    both, weights = np.repeat([1, 0], 300), np.concatenate([labels, 1 - labels])
    expected = roc_auc_score(both, np.tile(logits, 2), sample_weight=weights)
    assert feed(AUC("multilabel", 1), labels[:, None], logits[:, None]) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_auc_survives_extreme_logits(scale):
    labels = np.array([0, 1, 2, 0])
    value = feed(AUC("multiclass", 3), labels, scale * np.eye(3)[labels])
    assert value == (1.0 if scale else 0.5)


def test_auc_of_one_class_is_undefined():
    assert np.isnan(feed(AUC("binary", 2), np.ones(4, int), np.zeros((4, 2))))


@pytest.mark.parametrize("task", ["binary", "ordinal", "multilabel"])
def test_default_metrics_work_in_a_compiled_model_and_after_loading(task, tmp_path):
    classes = 2 if task == "binary" else 3
    rng = np.random.default_rng(5)
    x = rng.normal(size=(24, 5)).astype("float32")
    y = rng.integers(0, 2, (24, 3)) if task == "multilabel" else rng.integers(0, classes, 24)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(classes)])
    model.compile("sgd", default_loss(task), metrics=default_metrics(task, classes))
    model.fit(x, y, batch_size=8, verbose=0)
    result = model.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
    metric = AUC(task, classes)
    metric.update_state(y, ops.convert_to_numpy(model(x)))
    assert result["auc"] == pytest.approx(float(metric.result()), abs=1e-5)
    model.save(tmp_path / "model.keras")
    if task != "multilabel":
        shares = np.eye(classes, dtype="float32")[y]
        assert model.evaluate(x, shares, batch_size=8, verbose=0, return_dict=True) == pytest.approx(result, abs=1e-5)
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.evaluate(x, y, batch_size=8, verbose=0, return_dict=True) == pytest.approx(result, abs=1e-5)


@pytest.mark.parametrize("metric", [AUC("multilabel", 3, name="a"), Accuracy(name="b"), QuadraticWeightedKappa(4)])
def test_a_metric_comes_back_from_its_config(metric):
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(again) is type(metric) and again.get_config() == metric.get_config()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AUC("binary", 3), "num_classes=3"),
        (lambda: AUC("regression", 3), "task='regression'"),
        (lambda: QuadraticWeightedKappa(1), "num_classes=1"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
