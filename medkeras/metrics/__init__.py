"""Metrics that Keras does not have: AUC on logits with unknown labels, quadratically weighted kappa."""

from medkeras.metrics.auc import AUC
from medkeras.metrics.defaults import default_metrics
from medkeras.metrics.kappa import QuadraticWeightedKappa

__all__ = ["AUC", "QuadraticWeightedKappa", "default_metrics"]
