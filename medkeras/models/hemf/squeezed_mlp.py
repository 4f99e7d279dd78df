"""SIRMLP, the last part of a fusion block: squeeze, then an inverted residual of convolutions."""

from typing import Any

import keras

from medkeras.models.hemf.parts import batch_norm, fusion_linear, gelu, mapped, uniform_kernel

EXPANSION = 4


def squeezed_mlp(x: Any, width: int, *, name: str, depthwise: bool = False) -> Any:
    """Squeezes to `width` channels, mixes neighbours with a skip, expands fourfold and projects back.

    `s = norm(linear(x)); t = norm(GELU(conv 3x3(s)) + s); y = norm(linear(GELU(linear(t))))`, the norms being
    BatchNorms.

    Args:
        x: Symbolic `(batch, height, width, channels)`.
        width: Channels of the output.
        name: Prefix of the layers' names.
        depthwise: Whether the 3x3 convolution keeps the channels apart, as the article draws it, instead of mixing
            them, as the published code does.
    """
    squeezed = mapped(x, width, name=f"{name}_squeeze")
    options = {"padding": "same", "use_bias": False, "name": f"{name}_conv"}
    if depthwise:
        # As many inputs for each unit as the kernel has places.
        bound = 1 / 3
        start = keras.initializers.RandomUniform(-bound, bound)
        conv = keras.layers.DepthwiseConv2D(3, depthwise_initializer=start, **options)
    else:
        conv = keras.layers.Conv2D(width, 3, kernel_initializer=uniform_kernel(), **options)
    mixed = keras.layers.Add(name=f"{name}_sum")([gelu(conv(squeezed), name=f"{name}_gelu"), squeezed])
    mixed = batch_norm(f"{name}_norm")(mixed)
    expanded = fusion_linear(EXPANSION * width, width, use_bias=False, name=f"{name}_expand")(mixed)
    expanded = gelu(expanded, name=f"{name}_expand_gelu")
    project = fusion_linear(width, EXPANSION * width, use_bias=False, name=f"{name}_project")
    return batch_norm(f"{name}_project_norm")(project(expanded))
