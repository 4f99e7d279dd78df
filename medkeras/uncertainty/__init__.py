"""How sure a model is, and whether it may be believed."""

from medkeras.uncertainty.calibrated import Calibrated, with_scaling
from medkeras.uncertainty.conformal import ConformalSets, fit_conformal
from medkeras.uncertainty.ensemble import DeepEnsemble
from medkeras.uncertainty.measures import Uncertainty, entropy, summarize
from medkeras.uncertainty.monte_carlo import MonteCarloDropout, stochastic_layers
from medkeras.uncertainty.scaling import LogitScaling, fit_scaling
from medkeras.uncertainty.selective import RiskCoverage, referral_threshold, risk_coverage
from medkeras.uncertainty.tta import TestTimeAugmentation

__all__ = [
    "Calibrated",
    "ConformalSets",
    "DeepEnsemble",
    "LogitScaling",
    "MonteCarloDropout",
    "RiskCoverage",
    "TestTimeAugmentation",
    "Uncertainty",
    "entropy",
    "fit_conformal",
    "fit_scaling",
    "referral_threshold",
    "risk_coverage",
    "stochastic_layers",
    "summarize",
    "with_scaling",
]
