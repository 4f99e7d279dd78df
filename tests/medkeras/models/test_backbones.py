"""Networks from keras-hub: equal to numpy twins with torch's names, and filled from files and presets."""

import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

import efficientnet_twin
import resnet_twin
from medkeras.models import backbones

RNG = np.random.default_rng(0)


def seeded(backbone, rng=RNG, targets=backbones.resnet_targets):
    """A checkpoint in torchvision's or timm's names and layouts, with a classifier."""
    arrays = {"fc.weight": rng.normal(size=(7, 512)), "fc.bias": rng.normal(size=7)}
    for target in targets(backbone):
        (name,), shape = target.names, tuple(target.variable.shape)
        if len(shape) == 4:
            order = (2, 3) if "conv_dw" in name else (3, 2)
            shape = (shape[order[0]], shape[order[1]], *shape[:2])
            arrays[name] = rng.normal(0, np.prod(shape[1:]) ** -0.5, shape)
        else:
            positive = name.endswith(("weight", "running_var"))
            arrays[name] = rng.uniform(0.5, 1.5, shape) if positive else rng.normal(0, 0.1, shape)
    return {name: array.astype("float32") for name, array in arrays.items()}


def test_it_equals_a_numpy_twin_on_an_odd_image():
    """Bottleneck blocks, where v1 and v1.5 differ, and sizes at which padding on the wrong side would show."""
    backbone = backbones.resnet("resnet50", image_shape=(37, 46, 3), taps=(1, 2))
    weights = seeded(backbone)
    backbones.load_pretrained(backbone, weights)
    images = RNG.normal(size=(2, 37, 46, 3)).astype("float32")
    expected = resnet_twin.resnet(np.moveaxis(images, -1, 1), weights, (3, 4), (1, 2))
    for ours, twin in zip(backbone(images), expected, strict=True):
        np.testing.assert_allclose(np.moveaxis(ours, -1, 1), twin, atol=1e-4 * np.abs(twin).max())


def test_an_efficientnet_equals_its_numpy_twin_on_an_odd_image():
    backbone = backbones.efficientnet("efficientnet_b0", image_shape=(37, 46, 3), taps=(1, 2, 3, 4, 5, 6, 7))
    weights = seeded(backbone, targets=backbones.efficientnet_targets)
    del weights["fc.weight"], weights["fc.bias"]
    top = {"classifier.weight": np.zeros((5, 1280)), "conv_head.weight": np.zeros(1), "bn2.weight": np.zeros(1)}
    backbones.load_pretrained(backbone, weights | top)
    images = RNG.normal(size=(2, 37, 46, 3)).astype("float32")
    expected = efficientnet_twin.efficientnet(np.moveaxis(images, -1, 1), weights)
    for ours, twin in zip(backbone(images), expected, strict=True):
        np.testing.assert_allclose(np.moveaxis(ours, -1, 1), twin, atol=1e-4 * np.abs(twin).max())


def test_an_efficientnet_has_the_sizes_of_keras_own():
    """Channels and weights of the first four stages of EfficientNetB4."""
    import keras

    whole = keras.applications.EfficientNetB4(include_top=False, weights=None, input_shape=(224, 224, 3))
    theirs = keras.Model(whole.input, [whole.get_layer(n).output for n in ("block3d_add", "block4f_add")])
    ours = backbones.efficientnet("efficientnet_b4", image_shape=(224, 224, 3), taps=(3, 4))
    assert ours.output_shape == theirs.output_shape
    count = [sum(int(np.prod(w.shape)) for w in m.trainable_weights) for m in (ours, theirs)]
    assert count[0] == count[1]


@pytest.mark.parametrize(
    ("name", "stride", "shape", "parameters"),
    [("resnet18", 2, (2, 3, 512), 11_176_512), ("resnet34", 1, (4, 6, 512), 21_284_672)],
)
def test_sizes_and_parameters(name, stride, shape, parameters):
    """Parameters as torchvision's networks have without their classifiers."""
    backbone = backbones.resnet(name, image_shape=(64, 96, 3), last_stride=stride)
    assert backbone.output_shape[1:] == shape
    assert sum(int(np.prod(w.shape)) for w in backbone.trainable_weights) == parameters
    assert backbones.resnet_stride(name, last_stride=stride) == 64 // shape[0]


@pytest.fixture(scope="module")
def backbone():
    return backbones.resnet("resnet10", image_shape=(32, 32, 3), last_stride=1)


def test_a_file_fills_the_network_whatever_its_classifier(backbone, tmp_path):
    weights = seeded(backbone)
    save_file({f"module.{name}": array for name, array in weights.items()}, tmp_path / "torch.safetensors")
    backbones.load_pretrained(backbone, tmp_path / "torch.safetensors")
    np.testing.assert_array_equal(
        backbone.get_layer("stack3_block0_0_conv").kernel, weights["layer4.0.downsample.0.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(
        backbone.get_layer("stack1_block0_2_bn").moving_variance, weights["layer2.0.bn2.running_var"]
    )


def test_later_stages_of_a_file_are_left_aside(backbone):
    short = backbones.resnet("resnet10", image_shape=(32, 32, 3), taps=(2,))
    backbones.load_pretrained(short, seeded(backbone))
    assert short.output[0].shape[-1] == 128


def test_weights_of_another_network_are_refused_and_change_nothing(backbone):
    before = backbone.get_weights()
    deeper = seeded(backbone)
    deeper["layer3.1.conv1.weight"] = np.zeros((256, 256, 3, 3), "float32")
    with pytest.raises(ValueError, match="no place for 1 tensors, the first being layer3.1.conv1.weight"):
        backbones.load_pretrained(backbone, deeper)
    with pytest.raises(ValueError, match="lacks 15 tensors, the first being layer4.0"):
        backbones.load_pretrained(backbone, {k: v for k, v in seeded(backbone).items() if "layer4" not in k})
    grey = seeded(backbone)
    grey["conv1.weight"] = grey["conv1.weight"][:, :1]
    with pytest.raises(ValueError, match=r"conv1.weight \(64, 1, 7, 7\)"):
        backbones.load_pretrained(backbone, grey)
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def hub_resnet(blocks, **options):
    import keras_hub

    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=blocks,
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        **options,
    )


def test_a_keras_hub_preset_fills_the_network(backbone, tmp_path):
    preset = hub_resnet([1, 1, 1, 1])
    preset.save_to_preset(str(tmp_path / "preset"))
    backbones.load_pretrained(backbone, str(tmp_path / "preset"))
    for layer in ("conv1_conv", "stack3_block0_0_bn", "stack2_block0_2_conv"):
        for ours, theirs in zip(backbone.get_layer(layer).weights, preset.get_layer(layer).weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_preset_of_another_network_is_refused(backbone, tmp_path):
    hub_resnet([1, 1, 2, 1]).save_to_preset(str(tmp_path / "deeper"))
    with pytest.raises(ValueError, match="4 layers differ, the first being stack2_block1_1_bn.*deeper"):
        backbones.load_pretrained(backbone, str(tmp_path / "deeper"))
    hub_resnet([1, 1, 1, 1], use_pre_activation=True).save_to_preset(str(tmp_path / "v2"))
    with pytest.raises(ValueError, match="another network.*v2"):
        backbones.load_pretrained(backbone, str(tmp_path / "v2"))


def test_an_efficientnet_preset_fills_the_stages_that_there_are(tmp_path):
    import keras_hub

    preset = keras_hub.models.EfficientNetBackbone(
        stackwise_kernel_sizes=[3, 3, 5],
        stackwise_num_repeats=[1, 2, 2],
        stackwise_strides=[1, 2, 2],
        stackwise_input_filters=[32, 16, 24],
        stackwise_output_filters=[16, 24, 40],
        stackwise_expansion_ratios=[1, 6, 6],
        stackwise_squeeze_and_excite_ratios=[0.25] * 3,
        stackwise_block_types=["v1"] * 3,
        width_coefficient=1.0,
        depth_coefficient=1.0,
    )
    preset.save_to_preset(str(tmp_path / "preset"))
    backbone = backbones.efficientnet("efficientnet_b0", image_shape=(32, 32, 3), taps=(2,))
    backbones.load_pretrained(backbone, str(tmp_path / "preset"))
    for layer in ("stem_conv", "block2b_se_expand", "block2b_project_bn"):
        for ours, theirs in zip(backbone.get_layer(layer).weights, preset.get_layer(layer).weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="lacks 56 tensors, the first being bn1.weight"):
        backbones.load_pretrained(backbone, {"conv_stem.weight": np.zeros((32, 3, 3, 3))})


def test_what_is_neither_a_file_nor_a_preset(backbone, tmp_path):
    with pytest.raises(ValueError, match="Unknown preset identifier.*Received: 'resnet_999'"):
        backbones.load_pretrained(backbone, "resnet_999")
    with pytest.raises(FileNotFoundError, match="gone.safetensors"):
        backbones.load_pretrained(backbone, tmp_path / "gone.safetensors")


def test_without_keras_hub_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'medkeras\[backbones\]'"):
        backbones.resnet("resnet18", image_shape=(32, 32, 3))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"name": "resnet200"}, "backbone='resnet200'"),
        ({"last_stride": 3}, "last_stride=3"),
        ({"taps": ()}, r"taps=\(\)"),
        ({"taps": (2, 1)}, r"taps=\(2, 1\)"),
        ({"taps": (0, 1)}, r"taps=\(0, 1\)"),
        ({"taps": (5,)}, r"taps=\(5,\)"),
    ],
)
def test_wrong_arguments_state_the_rule(options, text):
    with pytest.raises(ValueError, match="Received: .*" + text):
        backbones.resnet(**{"name": "resnet18", "image_shape": (32, 32, 3), **options})
