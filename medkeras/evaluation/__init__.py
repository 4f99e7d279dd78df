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
from medkeras.evaluation.curves.decision_curve import DecisionCurve, decision_curve
from medkeras.evaluation.curves.points import (
    curve_band,
    precision_at,
    sensitivity_at,
    specificity_at,
    youden_index,
)
from medkeras.evaluation.errors import worst_errors
from medkeras.evaluation.image_quality import psnr, ssim
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
from medkeras.evaluation.statistics.bootstrap import Interval, bootstrap, bootstrap_all, paired_bootstrap
from medkeras.evaluation.statistics.comparison import McNemar, compare, holm, mcnemar
from medkeras.evaluation.statistics.delong import Difference, auc_interval, delong_test, delong_variance
from medkeras.evaluation.statistics.proportions import difference_of, proportion_interval, share_interval
from medkeras.evaluation.subgroups import Subgroup, groups_of, measure_subgroups
from medkeras.evaluation.summary import evaluate
from medkeras.evaluation.thresholds import OperatingPoint, Reached, choose_operating_point

__all__ = [
    "DecisionCurve",
    "Difference",
    "Interval",
    "Localization",
    "McNemar",
    "OperatingPoint",
    "Reached",
    "Reliability",
    "Subgroup",
    "auc_interval",
    "average_precision",
    "binarize",
    "bootstrap",
    "bootstrap_all",
    "boxes",
    "brier_decomposition",
    "brier_score",
    "check_class_names",
    "check_predictions",
    "check_probabilities",
    "choose_operating_point",
    "choose_threshold",
    "compare",
    "curve_band",
    "decision_curve",
    "delong_test",
    "delong_variance",
    "dice",
    "difference_of",
    "energy_in_mask",
    "evaluate",
    "evaluate_localization",
    "expected_calibration_error",
    "groups_of",
    "holm",
    "image_scores",
    "iou",
    "mcnemar",
    "measure_subgroups",
    "named_measure",
    "negative_log_likelihood",
    "one_vs_rest",
    "paired_bootstrap",
    "pointing_game",
    "precision_at",
    "precision_recall_curve",
    "proportion_interval",
    "psnr",
    "random_head_iou",
    "reliability",
    "roc_auc",
    "roc_curve",
    "sensitivity_at",
    "share_interval",
    "specificity_at",
    "ssim",
    "worst_errors",
    "youden_index",
]
