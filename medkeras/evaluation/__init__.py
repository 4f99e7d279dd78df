"""Measures of predictions in numpy: exact, per class and overall, with intervals and frozen thresholds."""

from medkeras.evaluation.checks import check_class_names, check_predictions, check_probabilities
from medkeras.evaluation.intervals import Interval, bootstrap, paired_bootstrap
from medkeras.evaluation.measures import named_measure, one_vs_rest
from medkeras.evaluation.ranking import average_precision, precision_recall_curve, roc_auc, roc_curve
from medkeras.evaluation.summary import evaluate
from medkeras.evaluation.thresholds import OperatingPoint, choose_operating_point

__all__ = [
    "Interval",
    "OperatingPoint",
    "average_precision",
    "bootstrap",
    "check_class_names",
    "check_predictions",
    "check_probabilities",
    "choose_operating_point",
    "evaluate",
    "named_measure",
    "one_vs_rest",
    "paired_bootstrap",
    "precision_recall_curve",
    "roc_auc",
    "roc_curve",
]
