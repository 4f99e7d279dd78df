"""Small parts that the branches and the fusion share: norms, projections, stems, and their published initial values."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from medkeras.errors import InputError
from medkeras.layers import ChannelDense, SteadyBatchNorm, SteadyLayerNorm
from medkeras.models.base import ImageClassifier

STAGES = 4
CELL = 32  # pixels per cell of the last stage
NORM_EPSILON = 1e-6  # larger values would swallow what external attention gives at first: about 1e-4


def channel_norm(name: str, *, epsilon: float = NORM_EPSILON) -> keras.layers.Layer:
    """Returns a normalisation of each place over its channels."""
    return SteadyLayerNorm(epsilon=epsilon, name=name)


def batch_norm(name: str) -> keras.layers.Layer:
    """Returns a BatchNorm with the published constants."""
    return SteadyBatchNorm(momentum=0.9, epsilon=1e-5, name=name)


def branch_conv(filters: int, kernel: int, *, std: float, name: str, stride: int = 1) -> keras.layers.Layer:
    """Returns a convolution of a branch: without padding where it has a stride."""
    return keras.layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="valid" if stride > 1 else "same",
        kernel_initializer=keras.initializers.RandomNormal(stddev=std),
        name=name,
    )


def branch_depthwise(kernel: int, *, std: float, name: str) -> keras.layers.Layer:
    """Returns a depthwise convolution of a branch."""
    return keras.layers.DepthwiseConv2D(
        kernel, padding="same", depthwise_initializer=keras.initializers.RandomNormal(stddev=std), name=name
    )


def branch_linear(units: int, *, name: str, use_bias: bool = True, **kwargs: Any) -> keras.layers.Layer:
    """Returns a linear layer of a branch."""
    return ChannelDense(
        units,
        use_bias=use_bias,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
        name=name,
        **kwargs,
    )


def uniform_kernel() -> keras.initializers.Initializer:
    """Returns the initialiser of the fusion's kernels: uniform within one over the root of the inputs of a unit."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def fusion_linear(units: int, inputs: int, *, name: str, use_bias: bool = True) -> keras.layers.Layer:
    """Returns a 1x1 convolution of a fusion block; `inputs` is its number of input channels."""
    bound = inputs**-0.5
    return ChannelDense(
        units,
        use_bias=use_bias,
        kernel_initializer=uniform_kernel(),
        bias_initializer=keras.initializers.RandomUniform(-bound, bound),
        name=name,
    )


def mapped(x: Any, units: int, *, name: str) -> Any:
    """Passes a 1x1 convolution and a BatchNorm, both called `name`."""
    return batch_norm(f"{name}_norm")(fusion_linear(units, x.shape[-1], name=name)(x))


def gelu(x: Any, *, name: str) -> Any:
    """Passes a GELU, the exact one."""
    return keras.layers.Activation("gelu", name=name)(x)


def shrink(x: Any, width: int, *, stage: int, std: float, prefix: str) -> Any:
    """Passes the stem (stage 1: a convolution of 4, then a norm) or a halving (a norm, then a convolution of 2)."""
    name = f"{prefix}_{stage}_shrink"
    if stage == 1:
        return channel_norm(f"{name}_norm")(branch_conv(width, 4, stride=4, std=std, name=name)(x))
    return branch_conv(width, 2, stride=2, std=std, name=name)(channel_norm(f"{name}_norm")(x))


def average_pool(x: Any, *, name: str) -> Any:
    """Halves a map by the mean of 2x2 places."""
    return keras.layers.AveragePooling2D(2, name=name)(x)


def gated(x: Any, gate: Any) -> Any:
    """Multiplies features by a gate; a node of its own, so that both can be looked at."""
    return ops.multiply(x, gate)


def check_image(input_shape: Any) -> None:
    """Raises ValueError unless it is a 2D image with edges that all stages can halve."""
    shape = tuple(input_shape)
    if len(shape) != 3 or any(n is None or n < 1 or n % CELL for n in shape[:2]):
        raise InputError(
            f"`input_shape` must be (height, width, channels), both edges a multiple of {CELL} pixels; bring images to "
            f"such a size before. Received: input_shape={shape}"
        )


def check_pyramid(
    model: ImageClassifier, *, per_stage: Sequence[str], positive: Sequence[str], rates: Sequence[str]
) -> None:
    """Raises ValueError unless the arguments that all models of four stages take keep their rules.

    Args:
        model: A model that has its arguments, `conv_init_std` and `memory_epsilon` among them.
        per_stage: Arguments that are four positive numbers.
        positive: Whole numbers of at least 1.
        rates: Numbers in [0, 1).
    """
    numbers = {name: getattr(model, name) for name in per_stage}
    model.check_arguments(
        *((name, len(n) == STAGES and min(n) >= 1, "be four positive numbers") for name, n in numbers.items()),
        *((name, getattr(model, name) >= 1, "be at least 1") for name in positive),
        *((name, 0 <= getattr(model, name) < 1, "be in [0, 1)") for name in rates),
        ("conv_init_std", model.conv_init_std > 0, "be positive"),
        ("memory_epsilon", model.memory_epsilon >= 0, "be at least 0"),
    )
