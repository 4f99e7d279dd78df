"""Measures of predictions in numpy: exact, per class and overall, with intervals and frozen thresholds."""

from medkeras.evaluation.calibration import (
    Reliability,
    brier_decomposition,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
)
from medkeras.evaluation.checks import check_class_names, check_predictions, check_probabilities
from medkeras.evaluation.image_quality import psnr, ssim
from medkeras.evaluation.intervals import Interval, bootstrap, paired_bootstrap
from medkeras.evaluation.localization import (
    Localization,
    binarize,
    boxes,
    choose_threshold,
    dice,
    energy_in_mask,
    evaluate_localization,
    image_scores,
    iou,
    pointing_game,
    random_head_iou,
)
from medkeras.evaluation.measures import named_measure, one_vs_rest
from medkeras.evaluation.ranking import average_precision, precision_recall_curve, roc_auc, roc_curve
from medkeras.evaluation.summary import evaluate
from medkeras.evaluation.thresholds import OperatingPoint, choose_operating_point

__all__ = [
    "Interval",
    "Localization",
    "OperatingPoint",
    "Reliability",
    "average_precision",
    "binarize",
    "bootstrap",
    "boxes",
    "brier_decomposition",
    "brier_score",
    "check_class_names",
    "check_predictions",
    "check_probabilities",
    "choose_operating_point",
    "choose_threshold",
    "dice",
    "energy_in_mask",
    "evaluate",
    "evaluate_localization",
    "expected_calibration_error",
    "image_scores",
    "iou",
    "named_measure",
    "negative_log_likelihood",
    "one_vs_rest",
    "paired_bootstrap",
    "pointing_game",
    "precision_recall_curve",
    "psnr",
    "random_head_iou",
    "reliability",
    "roc_auc",
    "roc_curve",
    "ssim",
]
