"""Models for servers and edge devices: SavedModel, LiteRT, and the proof that they equal the Keras model."""

from medkeras.export.litert import LiteRTModel, check_builtin, export_litert, load_interpreter, operators
from medkeras.export.parity import compare
from medkeras.export.saved_model import export_saved_model

__all__ = [
    "LiteRTModel",
    "check_builtin",
    "compare",
    "export_litert",
    "export_saved_model",
    "load_interpreter",
    "operators",
]
