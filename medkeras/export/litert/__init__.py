"""LiteRT (TFLite): one file of builtin operators for edge devices, smaller forms of it, and its runtime."""
