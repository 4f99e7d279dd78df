"""Every registered model becomes a SavedModel and a LiteRT file that equal it."""

import keras
import pytest
from export_models import images
from small_models import distinct_names, small

from medkeras.export import check_builtin, compare, export_litert, export_saved_model

CASES = [(name, {}) for name in distinct_names()]
CASES += [("focusnet2d", {"compat": "repaired"}), ("focusnet3d", {"compat": "repaired"})]


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: str(value))
def test_exports_equal_keras_with_builtin_operators(name, options, tmp_path):
    keras.utils.set_random_seed(0)
    model = small(name, **options)
    x = images(model, 9)
    model(x, training=True)  # moves the statistics of BatchNorm away from 0 and 1
    saved = export_saved_model(model, tmp_path / "1")
    file = export_litert(saved, tmp_path / "model.tflite")
    check_builtin(file)
    # Nine images run as a batch of eight and a batch of one.
    report = compare(model, x, saved_model=saved, litert=file)
    assert report["saved_model"]["agreement"] == report["litert"]["agreement"] == 1.0
