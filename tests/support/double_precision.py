"""Keras in double precision: what is left of a difference there is no rounding."""

import contextlib

import keras
from keras import ops

from medkeras.models.dualattendmed.training import AttentionTraining
from pipelines.training import build


def compute_in_float64():
    """Makes all of this process compute in float64, also where a layer of ours asks for float32."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    build.precision_of = lambda precision: contextlib.nullcontext()

    def double(dtype):
        return "float64" if dtype == "float32" else dtype

    cast, begin = ops.cast, keras.layers.Layer.__init__
    ops.cast = lambda x, dtype: cast(x, double(dtype))
    keras.layers.Layer.__init__ = lambda self, *, dtype=None, **options: begin(self, dtype=double(dtype), **options)
    # Its images are not cast by Keras: in half precision they would be blurred.
    augmented = AttentionTraining.augmented
    AttentionTraining.augmented = lambda self, images, maps: augmented(self, ops.cast(images, "float64"), maps)
