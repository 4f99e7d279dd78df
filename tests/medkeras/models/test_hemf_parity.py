"""HEMF against the published answers, and against a numpy twin at other sizes and seeds; each kind of official file."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import medkeras
from fusion_parts import answers, assert_parity, golden, official_names, official_weights, scaled_weights
from hemf_twin import hemf
from medkeras.models.hemf.fusion import DeadPath

RNG = np.random.default_rng(0)
NARROW = {"widths": (8, 16, 24, 32), "local_depths": (1, 2, 1, 1), "global_depths": (2, 1, 1, 1), "heads": 2}
BUFFERS = {f"stages2.{i}.RetNetRelPos2d.{name}": np.ones(4, "float32") for i in range(4) for name in ("angle", "decay")}


def create(edges, name="hemf_tiny", **options):
    return medkeras.models.create(name, input_shape=(*edges, 3), num_classes=7, normalization="none", **options)


def narrow(edges=(32, 32), **options):
    return create(edges, **NARROW, memory=6, **options)


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def parameters(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


def test_the_published_network_gives_the_reference_answers():
    images, reference = golden("hemf")
    model = create(images.shape[2:], "hemf", build_dead_paths=True)
    assert parameters(model) == 68_269_367
    dead = [layer for layer in model.layers if isinstance(layer, DeadPath)]
    assert parameters(model) - sum(parameters(layer) for layer in dead) == 66_678_263
    weights = official_weights("hemf", 1)
    loaded = medkeras.checkpoints.load(model, weights)
    assert set(loaded) == {name for name in official_names("hemf") if not name.endswith("num_batches_tracked")}
    assert_parity(answers(model, images, "hemf"), reference)
    assert_parity(hemf(images, weights), reference)  # so the twin is one


def test_the_published_network_equals_the_twin_at_another_size_and_seed():
    model, weights, images = create((96, 96), "hemf"), official_weights("hemf", 2), normal(1, 3, 96, 96)
    medkeras.checkpoints.load(model, weights)
    assert_parity(answers(model, images, "hemf"), hemf(images, weights))


@pytest.mark.parametrize(
    ("edges", "seed"), [((64, 64), 1), ((96, 96), 2), ((128, 128), 1), ((256, 256), 2), ((64, 96), 2)]
)
def test_a_narrow_network_equals_the_twin_from_64_to_256_pixels(edges, seed):
    model, images = narrow(edges), normal(1, 3, *edges)
    weights = scaled_weights(model, seed)
    medkeras.checkpoints.load(model, weights)
    assert_parity(answers(model, images, "hemf"), hemf(images, weights, heads=2))


def whole_checkpoint(model):
    """As training leaves it: with counters and tables, which have no effect."""
    counters = {name: np.zeros((), "int64") for name in official_names("hemf") if name.endswith("num_batches_tracked")}
    return scaled_weights(model, 3) | counters | BUFFERS


def test_names_of_several_devices_counters_and_tables_are_passed_over(tmp_path):
    model, images = narrow(), normal(1, 32, 32, 3)
    weights = whole_checkpoint(model)
    loaded = medkeras.checkpoints.load(model, scaled_weights(model, 3))
    expected = np.asarray(model(images))
    for prefix in ("", "module."):
        medkeras.checkpoints.load(model, scaled_weights(model, 4))
        assert np.abs(model(images) - expected).max() > 1e-3
        save_file({prefix + name: array for name, array in weights.items()}, tmp_path / "official.safetensors")
        assert medkeras.checkpoints.load(model, tmp_path / "official.safetensors") == loaded
        np.testing.assert_array_equal(model(images), expected)


@pytest.mark.parametrize("key", [None, "net", "state_dict"])
def test_torch_files_of_a_best_a_resumed_and_a_pretrained_training(key, tmp_path):
    torch = pytest.importorskip("torch", reason="the extra [torch] is not installed")
    model, images = narrow(), normal(1, 32, 32, 3)
    state = {f"module.{name}": torch.from_numpy(array) for name, array in whole_checkpoint(model).items()}
    beside = {"optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}, "lr_schedule": {"last_epoch": 3}, "epoch": 3}
    medkeras.checkpoints.load(model, scaled_weights(model, 3))
    expected = np.asarray(model(images))
    medkeras.checkpoints.load(model, scaled_weights(model, 4))
    torch.save({key: state} | beside if key else state, tmp_path / "official.pth")
    medkeras.checkpoints.load(model, tmp_path / "official.pth")
    np.testing.assert_array_equal(model(images), expected)
