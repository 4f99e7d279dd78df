"""A model that takes image files: decoded, preprocessed, resized and classified in one TensorFlow graph."""

from collections.abc import Callable, Sequence
from typing import Any

from medkeras import tasks
from medkeras.errors import InputError
from medkeras.export.saved_model.decoding import decode_image
from medkeras.export.saved_model.resizing import fit_levels
from medkeras.models import ImageClassifier


def files_function(
    model: ImageClassifier, *, steps: Sequence[Callable[..., Any]] = ()
) -> Callable[[Any], dict[str, Any]]:
    """Returns the function behind the signature `serve_bytes`.

    An image goes the way that it goes in the training, level for level: decoded as stored, the steps, grey or RGB,
    resized by area means where it shrinks and linearly where it grows, [0, 1]. Alpha is dropped.

    Args:
        model: A model of grey or RGB images.
        steps: The preprocessing, see `medkeras.export.graph_step`.

    Returns:
        From the bytes of PNG or JPEG files, a string tensor `(batch,)`, to `probabilities`, float32
        `(batch, num_classes)`, and `labels`, strings of the same shape: every row has the class names, since a server
        cuts what it gathered into a batch by rows.

    Raises:
        ValueError: If the model takes volumes or another number of channels.

    Example:
        >>> import tensorflow as tf
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", input_shape=(16, 16, 1), num_classes=2, depth=1, saccades=1)
        >>> found = files_function(model)(tf.io.encode_png(tf.zeros((1, 40, 30, 3), tf.uint8)))
        >>> found["probabilities"].shape.as_list(), found["labels"].numpy().tolist()
        ([1, 2], [[b'0', b'1']])
    """
    shape = model.image_shape
    if len(shape) != 3 or shape[-1] not in (1, 3):
        raise InputError(f"Files are decoded to grey or RGB images. Received: a model of images of shape {shape}")

    def infer(image_bytes: Any) -> dict[str, Any]:
        import tensorflow as tf

        def read(data: Any) -> Any:
            levels, highest = decode_image(data)
            for step in steps:
                levels = step(levels, highest)
            return fit_levels(levels, shape) / tf.cast(highest, tf.float32)

        images = tf.map_fn(read, image_bytes, fn_output_signature=tf.TensorSpec(shape, tf.float32))
        probabilities = tasks.to_probabilities(model(images, training=False), model.task)
        names = tf.constant(model.class_names)[None]
        return {"probabilities": probabilities, "labels": tf.repeat(names, tf.shape(image_bytes)[0], axis=0)}

    return infer
