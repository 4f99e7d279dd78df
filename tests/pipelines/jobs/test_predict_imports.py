"""A prediction of one PNG imports what it needs and nothing else of the application."""

import cv2
import numpy as np
import pytest

from fresh_process import run
from paths import TESTS

CODE = """
import sys
from pipelines.cli.main import main
assert main(["predict", *sys.argv[1:]]) == 0
print("|".join(sorted(m for m in sys.modules if m.split(".")[0] in ("medkeras", "pipelines"))))
"""
# Rooms and files that a prediction of an image by a run has no use for.
IDLE = (
    "medkeras.explain",
    "medkeras.export",
    "medkeras.super_resolution",
    "pipelines.augment",
    "pipelines.distribution",
    "pipelines.enhancement.files",  # The command line takes the options of an upscaler from its configuration.
    "pipelines.enhancement.figure",
    "pipelines.enhancement.restoration",
    "pipelines.evaluation",
    "pipelines.exporting",
    "pipelines.inference.display",
    "pipelines.inference.exported_model",
    "pipelines.recipes",
    "pipelines.report",
    "pipelines.splits",
    "pipelines.sources.dicom",
    "pipelines.sources.folder",
    "pipelines.sources.medmnist",
    "pipelines.sources.phantom",
    "pipelines.sources.table",
    "pipelines.sources.tfds",
    "pipelines.sources.volume",
)


@pytest.mark.process
def test_a_prediction_imports_what_it_needs(tmp_path):
    cv2.imwrite(str(tmp_path / "scan.png"), np.zeros((24, 24), np.uint8))
    words = (str(TESTS / "data" / "version_0_1" / "run"), str(tmp_path / "scan.png"), "--out", str(tmp_path / "p.csv"))
    modules = run(CODE, *words).splitlines()[-1].split("|")
    assert [m for m in modules if m.startswith(tuple(f"{room}." for room in IDLE)) or m in IDLE] == []
    assert {m for m in modules if m.startswith("pipelines.training.")} <= {
        "pipelines.training.config",
        "pipelines.training.data",
    }
    assert {m for m in modules if m.startswith("pipelines.jobs.")} == {"pipelines.jobs.predict"}
    architectures = {m.split(".")[2] for m in modules if m.startswith("medkeras.models.") and m.endswith(".model")}
    assert architectures == {"focusnet"}
