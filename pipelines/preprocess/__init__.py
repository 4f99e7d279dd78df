"""Preprocessing: fixed changes of the stored image, by name, before it is resized.

Unlike an augmentation, a step changes every image in the same way, in training, evaluation and prediction, and
stands in the config of a run. A new step is one dataclass, see `pipelines.preprocess.step`, and one line in
`pipelines.preprocess.names`.
"""

from pipelines.preprocess.apply import apply, preprocess
from pipelines.preprocess.contrast import Clahe, Percentile
from pipelines.preprocess.cropping import CentreCrop
from pipelines.preprocess.fundus import FundusCrop, FundusNormalize
from pipelines.preprocess.names import PREPROCESSING, name_of, parse
from pipelines.preprocess.padding import Square
from pipelines.preprocess.step import Step

__all__ = [
    "PREPROCESSING",
    "CentreCrop",
    "Clahe",
    "FundusCrop",
    "FundusNormalize",
    "Percentile",
    "Square",
    "Step",
    "apply",
    "name_of",
    "parse",
    "preprocess",
]
