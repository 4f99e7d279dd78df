"""Measures of decisions: everything that follows from a confusion matrix.

Written in numpy because a bootstrap calls it a thousand times; the tests hold it to scikit-learn. Where a
measure is undefined it is NaN, never 0.
"""

import numpy as np

from medkeras.tasks import is_multilabel

RATES = ("sensitivity", "specificity", "precision", "f1")
AGREEMENTS = ("accuracy", "balanced_accuracy", "mcc", "kappa", "cohen_kappa")


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, *, num_classes: int) -> np.ndarray:
    """Counts images by true class (rows) and predicted class (columns), int64 `(num_classes, num_classes)`.

    Args:
        labels: Class indices `(n,)`.
        predictions: Class indices `(n,)`.
        num_classes: Number of classes.

    Example:
        >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), num_classes=2).tolist()
        [[1, 0], [1, 1]]
    """
    flat = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def label_tables(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Counts, for each label, `[[true negative, false positive], [false negative, true positive]]`.

    Args:
        labels: `(n, labels)` of 0, 1 and NaN; images whose label is NaN are not counted.
        predictions: `(n, labels)` of 0 and 1.

    Returns:
        int64 `(labels, 2, 2)`.

    Example:
        >>> label_tables(np.array([[1.0], [0.0], [np.nan]]), np.array([[1], [1], [1]])).tolist()
        [[[0, 1], [0, 1]]]
    """
    known = ~np.isnan(labels)
    columns = [(labels[k, c].astype(int), predictions[k, c]) for c, k in enumerate(known.T)]
    return np.stack([confusion_matrix(true, predicted, num_classes=2) for true, predicted in columns])


def class_tables(matrix: np.ndarray) -> np.ndarray:
    """Turns a confusion matrix into one table of each class against the rest, as `label_tables` gives them.

    Example:
        >>> class_tables(np.array([[3, 1], [2, 4]])).tolist()
        [[[4, 2], [1, 3]], [[3, 1], [2, 4]]]
    """
    hit = np.diag(matrix)
    missed, false = matrix.sum(axis=1) - hit, matrix.sum(axis=0) - hit
    rest = matrix.sum() - hit - missed - false
    return np.stack([np.stack([rest, false], -1), np.stack([missed, hit], -1)], 1)


def rates(tables: np.ndarray) -> dict[str, np.ndarray]:
    """Returns sensitivity, specificity, precision and F1 of each table, float64 `(classes,)`, NaN for 0/0.

    Args:
        tables: `(classes, 2, 2)`, from `class_tables` or `label_tables`.

    Example:
        >>> rates(np.array([[[8, 2], [0, 0]]]))["specificity"].tolist()
        [0.8]
    """
    negative, false, missed, hit = np.moveaxis(tables.reshape(-1, 4), 1, 0)
    return {
        "sensitivity": _ratio(hit, hit + missed),
        "specificity": _ratio(negative, negative + false),
        "precision": _ratio(hit, hit + false),
        "f1": _ratio(2 * hit, 2 * hit + false + missed),
    }


def agreement(matrix: np.ndarray, *, ordered: bool = False) -> dict[str, float]:
    """Returns accuracy, balanced accuracy, Matthews' correlation and Cohen's kappa of a confusion matrix.

    Balanced accuracy is the mean sensitivity of the classes that are present. Correlation and kappa are NaN
    if all images are of one class, and 0, as chance would give, if all predictions are.

    Args:
        matrix: `(classes, classes)`, rows true, columns predicted.
        ordered: Weighs a disagreement in `kappa` by the square of its distance; `cohen_kappa` never does.

    Reference:
        Gorodkin, Comparing two K-category assignments by a K-category correlation coefficient, 2004.

    Example:
        >>> agreement(np.array([[4, 0], [0, 6]]))["kappa"]
        1.0
    """
    matrix = matrix.astype(np.float64)
    total, true, predicted = matrix.sum(), matrix.sum(axis=1), matrix.sum(axis=0)
    several = np.count_nonzero(true) > 1
    return {
        "accuracy": float(_ratio(np.trace(matrix), total)),
        "balanced_accuracy": mean_of_defined(_ratio(np.diag(matrix), true)),
        "mcc": _correlation(matrix, total, true, predicted) if several else np.nan,
        "kappa": _kappa(matrix, total, true, predicted, ordered) if several else np.nan,
        "cohen_kappa": _kappa(matrix, total, true, predicted, False) if several else np.nan,
    }


def measure_decisions(
    labels: np.ndarray, predictions: np.ndarray, *, task: str, num_classes: int
) -> tuple[dict[str, float], dict[str, np.ndarray], np.ndarray]:
    """Returns the overall agreement, the rates per class, and the counts behind them.

    For a `multilabel` task the agreement is the mean over labels; kappa is quadratically weighted for
    `ordinal`.

    Args:
        labels: As `check_predictions` returns them.
        predictions: `(n,)` class indices, or `(n, labels)` of 0 and 1.
        task: One of `medkeras.tasks.TASKS`.
        num_classes: Number of classes, or of labels.

    Returns:
        `{name: value}`, `{name: (classes,)}`, and the confusion matrix `(classes, classes)`, or one table per
        label `(labels, 2, 2)`.

    Example:
        >>> overall, per_class, _ = measure_decisions(
        ...     np.array([0, 1, 1]), np.array([0, 1, 0]), task="binary", num_classes=2
        ... )
        >>> per_class["sensitivity"].tolist()
        [1.0, 0.5]
    """
    if is_multilabel(task):
        tables = label_tables(labels, predictions)
        each = [agreement(table) for table in tables]
        return {name: mean_of_defined([a[name] for a in each]) for name in AGREEMENTS}, rates(tables), tables
    matrix = confusion_matrix(labels, predictions, num_classes=num_classes)
    return agreement(matrix, ordered=task == "ordinal"), rates(class_tables(matrix)), matrix


def mean_of_defined(values: np.ndarray | list[float]) -> float:
    """Returns the mean of the values that are not NaN; NaN if there are none.

    Example:
        >>> mean_of_defined([0.5, float("nan"), 1.0])
        0.75
    """
    values = np.asarray(values)
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else np.nan


def weighted_mean(values: np.ndarray | list[float], weights: np.ndarray | list[float]) -> float:
    """Returns the weighted mean of the values that are not NaN; NaN if they weigh nothing.

    Example:
        >>> weighted_mean([0.5, float("nan"), 1.0], [3, 9, 1])
        0.625
    """
    values, weights = np.asarray(values), np.asarray(weights, np.float64)
    defined = ~np.isnan(values)
    total = weights[defined].sum()
    return float(values[defined] @ weights[defined] / total) if total > 0 else np.nan


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _correlation(matrix: np.ndarray, total: float, true: np.ndarray, predicted: np.ndarray) -> float:
    spread = (total**2 - predicted @ predicted) * (total**2 - true @ true)
    return float((np.trace(matrix) * total - true @ predicted) / np.sqrt(spread)) if spread > 0 else 0.0


def _kappa(matrix: np.ndarray, total: float, true: np.ndarray, predicted: np.ndarray, ordered: bool) -> float:
    distance = np.subtract.outer(np.arange(len(matrix)), np.arange(len(matrix)))
    penalty = distance**2 if ordered else distance != 0
    return float(1 - (penalty * matrix).sum() * total / (penalty * np.outer(true, predicted)).sum())
