"""Models for servers and edge devices: SavedModel, LiteRT, ONNX, and the proof that they equal the Keras model."""

from medkeras.export.litert.runtime import LiteRTModel, load_interpreter
from medkeras.export.litert.signatures import edge_signatures, export_edge_source
from medkeras.export.litert.writer import check_builtin, export_litert, operators
from medkeras.export.onnx.runtime import OnnxModel
from medkeras.export.onnx.writer import export_onnx
from medkeras.export.parity import compare
from medkeras.export.quantized import compare_quantized
from medkeras.export.saved_model.explaining import explain_function
from medkeras.export.saved_model.image_files import files_function
from medkeras.export.saved_model.sampling import uncertainty_function
from medkeras.export.saved_model.signatures import available_signatures
from medkeras.export.saved_model.steps import graph_step
from medkeras.export.saved_model.writer import export_saved_model

__all__ = [
    "LiteRTModel",
    "OnnxModel",
    "available_signatures",
    "check_builtin",
    "compare",
    "compare_quantized",
    "edge_signatures",
    "explain_function",
    "export_edge_source",
    "export_litert",
    "export_onnx",
    "export_saved_model",
    "files_function",
    "graph_step",
    "load_interpreter",
    "operators",
    "uncertainty_function",
]
