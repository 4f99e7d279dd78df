"""Official checkpoints: files read into named arrays, and arrays into models."""

from medkeras.checkpoints.files import read_arrays
from medkeras.checkpoints.load import load

__all__ = ["load", "read_arrays"]
