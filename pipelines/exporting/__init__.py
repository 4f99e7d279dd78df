"""The parts of an export: files, bounds, signatures, and the model store."""
