"""A callback that asks the model, before each epoch, what it attends to in every training image."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from medkeras.errors import InputError
from medkeras.models import ImageClassifier
from pipelines.augment.attention.store import AttentionStore

# From the one that says most about where the model looks to the one that every model with a map has.
POINTS = ("attention", "priority", "features")


class RefreshAttention(keras.callbacks.Callback):
    """Writes an `AttentionStore` anew before an epoch begins, from the weights with which it begins.

    The first epoch has no maps. A training that goes on from a checkpoint computes those of its weights first, so
    it goes on as if it had not been interrupted; with `every` above 1 it needs the store's file for that.

    Args:
        store: Where the maps go; its records are the images, in the same order.
        images: All training images, unaugmented, such as `splits.batches("train")`: batches of images, or of
            tuples that begin with them.
        attention_of: Gives, for the trained model, a function or a model from a batch of images to maps
            `(batch, *map_shape)`.
        every: Epochs between refreshments, at least 1.
        averaged: Whether the maps come from the moving average of the weights that the optimizer keeps, if it
            was made with `use_ema=True`. BatchNorm statistics are the current ones.

    Raises:
        ValueError: If `every` is below 1; in training, if the optimizer keeps no average, or the maps do not fit
            the store.

    Example:
        >>> import tempfile
        >>> store = AttentionStore(f"{tempfile.mkdtemp()}/maps", size=2, map_shape=(4, 4))
        >>> images = tf.data.Dataset.from_tensors(tf.random.stateless_uniform((2, 4, 4, 1), (0, 1)))
        >>> refresh = RefreshAttention(store, images=images, attention_of=lambda model: lambda x: x[..., 0])
        >>> refresh.set_model(keras.Sequential())
        >>> refresh.on_epoch_begin(1)
        >>> float(tf.reduce_max(store.lookup(tf.constant([0]))))
        1.0
    """

    def __init__(
        self,
        store: AttentionStore,
        *,
        images: tf.data.Dataset,
        attention_of: "Callable[[Any], Any] | None" = None,
        every: int = 1,
        averaged: bool = False,
    ) -> None:
        super().__init__()
        if every < 1:
            raise InputError(f"`every` must be at least 1. Received: every={every}")
        self.store, self.images, self.every, self.averaged = store, images, every, averaged
        self.attention_of = attention_of or attention_model
        self._attend = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forgets the model of another training."""
        self._attend = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Refreshes the maps, if it is the epoch's turn."""
        if epoch and epoch % self.every == 0:
            self.refresh()

    def refresh(self) -> None:
        """Computes all maps with the weights, or their average, and writes them to the store."""
        if self._attend is None:
            attention = self.attention_of(self.model)
            options = {"training": False} if isinstance(attention, keras.Model) else {}
            self._attend = tf.function(lambda images: attention(images, **options), reduce_retracing=True)
        if self.averaged:
            self._with_average(lambda: self.store.write(self._maps()))
        else:
            self.store.write(self._maps())

    def _maps(self) -> Iterator[np.ndarray]:
        for batch in self.images:
            images = batch[0] if isinstance(batch, (tuple, list)) else batch
            yield ops.convert_to_numpy(ops.cast(self._attend(images), "float32"))

    def _with_average(self, action: Callable[[], None]) -> None:
        """Calls `action` while the weights are their average, and puts them back, to the bit."""
        optimizer = self.model.optimizer
        if not getattr(getattr(optimizer, "inner_optimizer", optimizer), "use_ema", False):
            raise InputError(
                "`averaged` needs an optimizer with `use_ema=True`. "
                f"Received: averaged={self.averaged}, optimizer={type(optimizer).__name__}"
            )
        variables = self.model.trainable_variables
        kept = [variable.numpy() for variable in variables]
        try:
            optimizer.finalize_variable_values(variables)
            action()
        finally:
            for variable, value in zip(variables, kept, strict=True):
                variable.assign(value)


def attention_model(model: ImageClassifier) -> keras.Model:
    """Returns a model from images to one attention map each, without gradients, for any model with explain points.

    A map is the mean over the channels of the first of the points `attention`, `priority` and `features` that the
    model has, squared in the case of `features`: the activity at each place.

    Args:
        model: A model of this package.

    Raises:
        ValueError: If the model has none of these points.

    Reference:
        For features: Zagoruyko and Komodakis, Paying More Attention to Attention, arXiv 1612.03928.

    Example:
        >>> from medkeras.models import create
        >>> attention_model(create("focusnet2d_tiny", num_classes=2)).output_shape
        (None, 7, 7)
    """
    points = model.explain_points
    name = next((name for name in POINTS if name in points), None)
    if name is None:
        raise InputError(
            f"Attention maps need one of the explain points {', '.join(POINTS)}; give `attention_of`. "
            f"Received: model {model.name!r} with {sorted(points)}"
        )
    tensor = ops.cast(points[name].rule.fold(points[name].tensor), "float32")
    return keras.Model(model.input, ops.mean(tensor**2 if name == "features" else tensor, axis=-1))
