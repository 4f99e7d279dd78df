"""Image files decoded in a TensorFlow graph: from the bytes of a PNG or JPEG to its stored levels."""

from typing import Any

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
MAX_PIXELS = 10**8
_RULE = "An image must be the bytes of a PNG or JPEG file."
_HEADER = 33  # Bytes up to the end of a PNG's header; no image is shorter.
_WIDTH, _HEIGHT, _DEPTH = 16, 20, 24  # Where a PNG's header has them.


def decode_image(data: Any) -> tuple[Any, Any]:
    """Decodes one image file as it is stored: 16 bits kept, alpha dropped, no turning.

    The graph refuses, as InvalidArgumentError, what is no PNG or JPEG, what is damaged, a CMYK JPEG, and more than
    `MAX_PIXELS`.

    Args:
        data: The file's bytes, a scalar string.

    Returns:
        The levels, int32 `(H, W, C)` of 1 or 3 channels, and the highest possible level, 255 or 65535.

    Example:
        >>> import tensorflow as tf
        >>> levels, highest = decode_image(tf.io.encode_png(tf.constant([[[7], [9]]], tf.uint16)))
        >>> levels.numpy().ravel().tolist(), int(highest)
        ([7, 9], 65535)
    """
    import tensorflow as tf

    size = tf.strings.length(data)
    with tf.control_dependencies([tf.debugging.Assert(size >= _HEADER, [f"{_RULE} Received: bytes =", size])]):
        data = tf.identity(data)
    is_png = tf.strings.substr(data, 0, len(PNG)) == PNG
    is_jpeg = tf.strings.substr(data, 0, len(JPEG)) == JPEG
    with tf.control_dependencies([tf.debugging.Assert(is_png | is_jpeg, [f"{_RULE} Received: another kind of file"])]):
        levels, highest = tf.cond(is_png, lambda: _png(data), lambda: _jpeg(data))
    levels.set_shape((None, None, None))
    return levels, highest


def _png(data: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    header = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 0, _HEADER), tf.uint8), tf.int64)
    width, height = (_big_endian(header[start : start + 4]) for start in (_WIDTH, _HEIGHT))
    is_deep = header[_DEPTH] == 16
    with tf.control_dependencies([_check_pixels(width, height)]):
        levels = tf.cond(
            is_deep,
            lambda: tf.cast(tf.io.decode_png(data, dtype=tf.uint16), tf.int32),
            lambda: tf.cast(tf.io.decode_png(data, dtype=tf.uint8), tf.int32),
        )
    colours = tf.where(tf.shape(levels)[-1] < 3, 1, 3)  # Without alpha.
    return levels[..., :colours], tf.where(is_deep, 65535, 255)


def _big_endian(digits: Any) -> Any:
    return ((digits[0] * 256 + digits[1]) * 256 + digits[2]) * 256 + digits[3]


def _jpeg(data: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    height, width, channels = tf.unstack(tf.io.extract_jpeg_shape(data, tf.int64))
    is_known = tf.debugging.Assert(channels < 4, ["A JPEG must be grey or in colour, not CMYK. Received: channels = 4"])
    with tf.control_dependencies([_check_pixels(width, height), is_known]):
        levels = tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE")
    return tf.cast(levels, tf.int32), tf.constant(255)


def _check_pixels(width: Any, height: Any) -> Any:
    import tensorflow as tf

    rule = f"An image must have at most {MAX_PIXELS} pixels. Received: width, height ="
    return tf.debugging.Assert(width * height <= MAX_PIXELS, [rule, width, height])
