"""Losses that Keras does not have: unknown labels, shares of classes, focal."""

from medkeras.losses.cross_entropy import CrossEntropy
from medkeras.losses.focal import BinaryFocalLoss, FocalLoss
from medkeras.losses.masked import MaskedBinaryCrossentropy

__all__ = ["BinaryFocalLoss", "CrossEntropy", "FocalLoss", "MaskedBinaryCrossentropy"]
