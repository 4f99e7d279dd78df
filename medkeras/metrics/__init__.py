"""Metrics that Keras does not have: AUC with unknown labels, weighted kappa, accuracy of mixed images too."""

from medkeras.metrics.accuracy import Accuracy
from medkeras.metrics.auc import AUC
from medkeras.metrics.defaults import default_metrics
from medkeras.metrics.kappa import QuadraticWeightedKappa

__all__ = ["AUC", "Accuracy", "QuadraticWeightedKappa", "default_metrics"]
