"""The library needs no TensorFlow, and importing it stays light."""

import ast

import pytest

import medkeras
from fresh_process import run
from jax_process import JAX
from paths import ROOT
from small_models import distinct_names, small

TRAIN_ON_JAX = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "pipelines"):
            raise ModuleNotFoundError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import numpy as np, keras, medkeras
assert keras.backend.backend() == "jax"
keras.utils.set_random_seed(0)
for name, shape in (("focusnet2d_tiny", (16, 16, 1)), ("focusnet3d_tiny", (8, 8, 8, 1))):
    # One saccade and one stage: the compiler's time grows with the graph.
    model = medkeras.models.create(name, input_shape=shape, num_classes=2, saccades=1, depth=1, channels=4)
    rng = np.random.default_rng(0)
    y = np.arange(32) % 2
    x = rng.uniform(size=(32, *shape)).astype("float32") * 0.5 + 0.5 * y.reshape(-1, *[1] * len(shape))
    model.compile(keras.optimizers.Adam(1e-2), medkeras.tasks.default_loss(model.task),
                  metrics=medkeras.metrics.default_metrics(model.task, 2))
    losses = model.fit(x, y, epochs=6, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0], losses
    model.save("MODEL")
    again = keras.models.load_model("MODEL", compile=False)
    np.testing.assert_allclose(again(x), model(x), atol=1e-5)
image = keras.Input((8, 8, 1))
sampled = keras.Model(image, keras.layers.Dense(2)(keras.layers.Dropout(0.5)(keras.layers.Flatten()(image))))
kinds, x = medkeras.uncertainty, np.random.default_rng(0).random((3, 8, 8, 1))
for sampler in (kinds.MonteCarloDropout(sampled, samples=3, task="binary"),
                kinds.DeepEnsemble([sampled, sampled], task="binary"),
                kinds.TestTimeAugmentation(sampled, task="binary")):
    found = sampler.predict(x)
    assert (found.normalized_entropy <= 1).all() and (found.mutual_information >= 0).all()
    np.testing.assert_array_equal(sampler.sample(x), sampler.sample(x))
np.testing.assert_allclose(sampler.sample(x)[0], keras.ops.softmax(sampled(x)), atol=1e-5)
repaired = medkeras.models.create("focusnet2d", input_shape=(14, 14, 1), num_classes=2, compat="repaired", saccades=1)
assert np.isfinite(repaired(np.ones((1, 14, 14, 1), "float32"))).all()
assert not any(m.split(".")[0] == "tensorflow" for m in sys.modules)
print("trained")
"""


@pytest.mark.process
def test_models_train_on_jax_without_tensorflow(tmp_path):
    code = TRAIN_ON_JAX.replace("MODEL", str(tmp_path / "model.keras"))
    assert "trained" in run(code, **JAX)


@pytest.mark.process
def test_importing_the_library_stays_light():
    """No heavy package comes in with `import medkeras` beyond what Keras itself brings."""
    code = (
        "import sys, keras; before = set(sys.modules); import medkeras; "
        "new = {m.split('.')[0] for m in set(sys.modules) - before}; "
        "print(sorted(new & {'sklearn', 'matplotlib', 'pandas', 'cv2', 'keras_hub', 'scipy', 'safetensors'}))"
    )
    assert run(code).strip() == "[]"


@pytest.mark.process
def test_an_architecture_is_imported_when_it_is_asked_for():
    code = (
        "import sys, medkeras; medkeras.models.create('vit_tiny', input_shape=(32, 32, 1), num_classes=2, depth=1); "
        "print([m for m in sorted(sys.modules) if m.startswith('medkeras.models.') and m.endswith('.model')])"
    )
    assert run(code).strip() == "['medkeras.models.vit.model']"


def test_every_class_of_saved_files_is_known_without_its_module():
    """Registered by a module that `import medkeras` brings in, or named in its table."""
    declared = {}
    for path in sorted((ROOT / "medkeras").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any("register_keras" in ast.unparse(d) for d in node.decorator_list):
                declared[node.name] = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    named = {name: f"medkeras.{module}" for module, names in medkeras._SAVED.items() for name in names}
    code = "import keras, medkeras; print(*(n for n in keras.saving.get_custom_objects()))"
    known = {name.removeprefix("medkeras>") for name in run(code).split()}
    assert declared.items() >= named.items()
    assert known >= set(declared)


LOAD = """
import sys, keras, medkeras
for path in sys.argv[1:]:
    model = keras.models.load_model(path)
    print(type(model).__name__, model.count_params())
"""


@pytest.mark.process
def test_a_saved_model_loads_after_importing_the_library_alone(tmp_path):
    models = {name: small(name) for name in distinct_names()}
    models["two_stage"] = medkeras.models.two_stage(models["dualattendmed_tiny"], "cal")
    scaling = medkeras.uncertainty.LogitScaling("multiclass", scale=(0.5,), shift=(0.0, 0.0, 0.0))
    models["calibrated"] = medkeras.uncertainty.Calibrated(models["vit_tiny"], scaling)
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
    found = run(LOAD, *(str(tmp_path / f"{name}.keras") for name in models))
    assert found.splitlines() == [f"{type(m).__name__} {m.count_params()}" for m in models.values()]
