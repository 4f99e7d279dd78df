"""Where a LiteRT file says that the model looked: the signature `explain`, for images and for volumes."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from export_models import SeenNet, images, randomize
from medkeras.explain import saliency_maps
from medkeras.export import (
    LiteRTModel,
    check_builtin,
    compare,
    compare_quantized,
    export_edge_source,
    export_litert,
    export_saved_model,
)
from medkeras.export.litert.signatures import source_signatures
from medkeras.uncertainty import LogitScaling, with_scaling

pytest.importorskip("tensorflow")
SHAPES = {"2d": (16, 20, 3), "3d": (6, 8, 10, 1)}
BOUNDS = {"float32": 1e-4, "full-int8": 5e-2}
only_2d = pytest.mark.parametrize("looked", ["2d"], indirect=True)


@pytest.fixture(scope="module", params=SHAPES)
def looked(request, tmp_path_factory):
    """A calibrated model with a map of its own, images, and its files."""
    folder, scaling = tmp_path_factory.mktemp(request.param), LogitScaling("multiclass", scale=(0.6,))
    model = with_scaling(randomize(SeenNet(SHAPES[request.param], channels=64, point="attention")), scaling)
    x, source = images(model, 5), export_edge_source(model, folder / "source")
    files = {
        name: export_litert(source, folder / f"{name}.tflite", precision=name, representative=x) for name in BOUNDS
    }
    return model, x, files


def test_the_map_is_that_of_the_library(looked):
    model, x, files = looked
    wanted = saliency_maps(model, x, point="attention")
    for name, bound in BOUNDS.items():
        check_builtin(files[name])
        file = LiteRTModel(files[name])
        assert file.signatures == ("serving_default", "explain")
        found = file.predict(x, signature="explain", batch_size=2)
        assert found["map"].shape == x.shape[:-1] and found["map"].dtype == np.float32
        np.testing.assert_allclose(found["map"], wanted, atol=bound * wanted.max())
        np.testing.assert_allclose(found["probabilities"], file.predict(x)["probabilities"], atol=1e-2)
        assert np.ptp(wanted) > 0.1 * wanted.max()


@only_2d
def test_full_int8_quantises_the_map_too(looked):
    model = schema.Model.GetRootAs(looked[2]["full-int8"].read_bytes(), 0)
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        kinds = [graph.Tensors(i).Type() for i in range(graph.TensorsLength())]
        assert schema.TensorType.INT8 in kinds, graph.Name()


@only_2d
def test_parity_has_the_maps(looked, monkeypatch):
    model, x, files = looked
    row = compare(model, x, litert=files["float32"])["litert"]
    assert 0 <= row["map"]["mean"] <= row["map"]["max"] <= 1e-4
    labels = np.arange(len(x)) % 3
    quantized = {"litert-full-int8": files["full-int8"]}
    loose = {"agreement": 0.0, "auc_loss": 1.0}
    found = compare_quantized(model, x, labels, quantized, bounds={"litert-full-int8": loose})["litert-full-int8"]
    assert 0 < found["map"]["mean"] < 0.05
    tight = {"litert-full-int8": loose | {"map": found["map"]["mean"] / 2}}
    with pytest.raises(ValueError, match="litert-full-int8 export must have map within"):
        compare_quantized(model, x, labels, quantized, bounds=tight)
    true = LiteRTModel.predict

    def turned(self, x, **options):
        return {k: v[:, ::-1] if k == "map" else v for k, v in true(self, x, **options).items()}

    monkeypatch.setattr(LiteRTModel, "predict", turned)
    with pytest.raises(ValueError, match="litert export must have map within 0.0001 of Keras. Received: map="):
        compare(model, x, litert=files["float32"])


@only_2d
def test_what_a_file_cannot_say_is_told(looked, tmp_path):
    _, x, files = looked
    with pytest.raises(ValueError, match="one of serving_default, explain. Received: signature='uncertainty'"):
        LiteRTModel(files["float32"]).predict(x, signature="uncertainty")
    with pytest.raises(ValueError, match="A SavedModel is a folder with saved_model.pb. Received: .*none"):
        export_litert(tmp_path / "none", tmp_path / "a.tflite")
    served = export_saved_model(SeenNet(point="attention"), tmp_path / "1", signatures=["explain"])
    assert source_signatures(served) == ["serving_default"]
