"""Losses that Keras does not have: unknown labels, focal."""

from medkeras.losses.focal import BinaryFocalLoss, FocalLoss
from medkeras.losses.masked import MaskedBinaryCrossentropy

__all__ = ["BinaryFocalLoss", "FocalLoss", "MaskedBinaryCrossentropy"]
