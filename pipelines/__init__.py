"""The application: from records to trained, evaluated, explained and exported models."""

# Bound here and at once: importing the module `pipelines.load` later would put the module in the place of
# the function. The module imports TensorFlow only when it is called, so this stays light.
from pipelines.load import load

__all__ = ["load"]
