"""Where the maps of HEMF and CAME lie in the image: a spot at known pixels is seen in the cell that covers them."""

import keras
import numpy as np
import pytest

import medkeras
from medkeras.explain.methods.feature_maps import maps_on_image

RNG = np.random.default_rng(0)
EDGES = (160, 128)
OPTIONS = {
    "hemf_tiny": {"widths": (8, 16, 16, 32), "heads": 2, "memory": 4},
    "came_tiny": {"depths": (1, 2, 1, 1), "memory": 4},
}


@pytest.fixture(scope="module", params=sorted(OPTIONS))
def model(request):
    keras.utils.set_random_seed(0)
    return medkeras.models.create(request.param, input_shape=(*EDGES, 3), num_classes=2, **OPTIONS[request.param])


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
def test_a_spot_is_seen_where_it_is(model, stride):
    """A map changes most in the cell of the spot, and that cell is shown in the middle of the spot."""
    points = {n: p for n, p in model.explain_points.items() if p.tensor.shape[1] == EDGES[0] // stride}
    assert len(points) >= 7
    cell = np.array([2, 1]) * 32 // stride + 16 // stride
    top, left = cell * stride
    image = RNG.uniform(size=(1, *EDGES, 3)).astype("float32")
    spotted = image.copy()
    spotted[:, top : top + stride, left : left + stride] = 1 - np.round(
        image[:, top : top + stride, left : left + stride]
    )
    seen = model.tensors(*points)(np.concatenate([image, spotted]), training=False)
    for name, (without, with_spot) in seen.items():
        change = np.abs(np.asarray(with_spot) - without).sum(axis=-1)
        if not name.startswith("gate"):  # where around a place a gate looks is learned, and at first random
            assert np.unravel_index(change.argmax(), change.shape) == tuple(cell), name
        one = np.zeros((1, *change.shape, 1), "float32")
        one[0, *cell] = 1
        shown = maps_on_image(model, name, one)[0, ..., 0]
        middle = [np.average(np.arange(edge), weights=shown.sum(axis=1 - axis)) for axis, edge in enumerate(EDGES)]
        np.testing.assert_allclose(middle, [top + (stride - 1) / 2, left + (stride - 1) / 2], atol=1e-3, err_msg=name)
