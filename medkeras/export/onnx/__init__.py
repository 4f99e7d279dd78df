"""ONNX: one file of standard operators, and its runtime."""
