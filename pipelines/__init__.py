"""The application: from records to trained, evaluated, explained and exported models."""

import importlib.util
import pathlib
import sys


def _load_errors_alone() -> None:
    """Loads `medkeras.errors` without the rest of its package, which imports Keras: a command speaks before that."""
    if "medkeras" in sys.modules:
        return
    (folder,) = importlib.util.find_spec("medkeras").submodule_search_locations
    spec = importlib.util.spec_from_file_location("medkeras.errors", pathlib.Path(folder) / "errors.py")
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])


_load_errors_alone()

# Bound here and at once: importing the module `pipelines.load` later would put the module in the place of
# the function. The module imports TensorFlow only when it is called, so this stays light.
from pipelines.load import load  # noqa: E402

__all__ = ["load"]
