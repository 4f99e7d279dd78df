"""Models for servers and edge devices: SavedModel, LiteRT, ONNX, and the proof that they equal the Keras model."""

from medkeras.export.edge import edge_signatures, export_edge_source
from medkeras.export.explaining import explain_function
from medkeras.export.files import files_function
from medkeras.export.litert import check_builtin, export_litert, operators
from medkeras.export.onnx import export_onnx
from medkeras.export.onnx_runtime import OnnxModel
from medkeras.export.parity import compare
from medkeras.export.quantized import compare_quantized
from medkeras.export.runtime import LiteRTModel, load_interpreter
from medkeras.export.sampling import uncertainty_function
from medkeras.export.saved_model import export_saved_model
from medkeras.export.signatures import available_signatures
from medkeras.export.steps import graph_step

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
