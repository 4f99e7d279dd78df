"""Losses that Keras does not have: unknown labels, shares of classes, focal, attention maps, class centres."""

from medkeras.losses.attention import attention_alignment, attention_diversity
from medkeras.losses.centres import CentreLoss
from medkeras.losses.cross_entropy import CrossEntropy
from medkeras.losses.focal import BinaryFocalLoss, FocalLoss
from medkeras.losses.masked import MaskedBinaryCrossentropy

__all__ = [
    "BinaryFocalLoss",
    "CentreLoss",
    "CrossEntropy",
    "FocalLoss",
    "MaskedBinaryCrossentropy",
    "attention_alignment",
    "attention_diversity",
]
