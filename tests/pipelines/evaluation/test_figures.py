"""Figures hold what was measured, for one or many classes, and can be saved."""

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from medkeras.evaluation import OperatingPoint, evaluate
from pipelines.evaluation import curves as figures

NAN = float("nan")


def predictions(task, classes, count=90):
    rng = np.random.default_rng(0)
    if task == "multilabel":
        labels = rng.integers(0, 2, (count, classes)).astype("float32")
        scores = (labels * 0.3 + rng.random(labels.shape) * 0.7).clip(0, 1)
        labels[:, -1] = 0
        labels[::7] = NAN
        return labels, scores
    labels = rng.integers(0, classes, count)
    scores = np.exp(2 * np.eye(classes)[labels] + rng.normal(0, 1, (count, classes)))
    return labels, scores / scores.sum(1, keepdims=True)


def names(classes):
    return [f"finding {i}" for i in range(classes)]


def legend(figure):
    texts = figure.axes[0].get_legend() or figure.legends[0]
    return [text.get_text() for text in texts.get_texts()]


@pytest.mark.parametrize(("task", "classes"), [("binary", 2), ("multiclass", 3), ("ordinal", 12)])
def test_legends_name_each_curve_with_its_value(task, classes):
    labels, scores = predictions(task, classes)
    shown = [1] if task == "binary" else range(classes)
    for draw, measure, short in (
        (figures.roc_figure, metrics.roc_auc_score, "AUC"),
        (figures.precision_recall_figure, metrics.average_precision_score, "AP"),
    ):
        figure = draw(labels, scores, task=task, class_names=names(classes))
        assert legend(figure) == [
            f"finding {c}: {short} {measure(labels == c, scores[:, c]):.3f} ({np.sum(labels == c)} of 90)"
            for c in shown
        ]
        axes = figure.axes[0]
        assert axes.get_xlim() == axes.get_ylim() == (0, 1)
        assert "n = 90" in axes.get_title()


def test_the_curve_is_the_one_of_scikit_learn():
    labels, scores = predictions("binary", 2)
    curve = figures.roc_figure(labels, scores, task="binary", class_names=["a", "b"]).axes[0].lines[-1]
    false_rates, true_rates, _ = metrics.roc_curve(labels, scores[:, 1])
    np.testing.assert_allclose(curve.get_xydata(), np.stack([false_rates, true_rates], 1))


def test_no_two_of_fourteen_curves_look_alike_and_undefined_ones_are_said():
    labels, scores = predictions("multilabel", 14)
    figure = figures.roc_figure(labels, scores, task="multilabel", class_names=names(14))
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines[1:]}
    assert len(looks) == 14
    assert legend(figure)[-1] == "finding 13: AUC undefined (0 of 77)"


def test_confusion_shows_the_frozen_decisions():
    labels, scores = predictions("binary", 2)
    point = OperatingPoint("binary", (0.8,), "by hand")
    result = evaluate(labels, scores, task="binary", class_names=["a", "b"], operating_point=point)
    axes = figures.confusion_figure(result).axes[0]
    assert axes.get_title() == "Decisions above 0.8 (by hand), n = 90"
    expected = metrics.confusion_matrix(labels, scores[:, 1] > 0.8)
    assert [int(text.get_text()) for text in axes.texts] == expected.ravel().tolist()
    np.testing.assert_allclose(axes.images[0].get_array().sum(axis=1), 1)


def test_confusion_of_several_labels_has_a_row_for_each():
    labels, scores = predictions("multilabel", 4)
    result = evaluate(labels, scores, task="multilabel", class_names=names(4))
    axes = figures.confusion_figure(result).axes[0]
    counts = np.array([int(text.get_text()) for text in axes.texts]).reshape(4, 4)
    assert counts.sum(axis=1).tolist() == [77] * 4
    assert [tick.get_text() for tick in axes.get_yticklabels()] == names(4)


def test_history_shows_each_measure_beside_its_validation():
    frame = pd.DataFrame(
        {"epoch": [1, 2], "loss": [1, 0.5], "val_loss": [1, 0.7], "auc": [0.5, 0.8], "val_auc": [NAN, 0.7]}
    ).assign(learning_rate=0.1)
    axes = figures.history_figure(frame).axes
    assert [a.get_ylabel() for a in axes] == ["loss", "auc"]
    np.testing.assert_array_equal(axes[1].lines[1].get_xydata(), [[1, NAN], [2, 0.7]])
    assert len(figures.history_figure(frame[["epoch", "loss"]]).axes[0].lines) == 1


def test_figures_are_saved_as_pictures(tmp_path):
    labels, scores = predictions("multiclass", 7)
    result = evaluate(labels, scores, task="multiclass", class_names=names(7))
    history = pd.DataFrame({"epoch": [1], "loss": [1.0]})
    drawn = {
        "roc": figures.roc_figure(labels, scores, task="multiclass", class_names=names(7)),
        "confusion": figures.confusion_figure(result),
        "history": figures.history_figure(history),
    }
    for name, figure in drawn.items():
        figure.savefig(tmp_path / f"{name}.png")
        picture = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert picture[..., :3].std() > 0.05
        border = np.concatenate([picture[0, :, :3], picture[-1, :, :3], picture[:, 0, :3], picture[:, -1, :3]])
        np.testing.assert_array_equal(border, 1)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: figures.history_figure(pd.DataFrame({"epoch": [1]})), "columns `epoch` and `loss`"),
        (lambda: figures.history_figure(pd.DataFrame({"epoch": [], "loss": []})), "Received: 0 rows"),
        (lambda: figures.roc_figure([0, 1], [[1, 0]] * 2, task="binary", class_names=["a"]), "class_names="),
        (lambda: figures.roc_figure([0, 1], [[5, 9]] * 2, task="binary", class_names="ab"), "value=5"),
    ],
)
def test_bad_arguments_are_named(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
