"""Where the image that a model sees lies in the image as it is stored: steps that crop and pad, undone."""

from collections.abc import Sequence

import numpy as np

from medkeras.errors import InputError
from pipelines.preprocess.names import parse
from pipelines.preprocess.step import Step


def window_of(image: np.ndarray, steps: Sequence[str | Step]) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Returns an image after some steps, and where its edges lie in the stored image.

    Args:
        image: As stored, `(H, W)` or `(H, W, C)`.
        steps: What `pipelines.preprocess.parse` takes; they crop, pad or keep every pixel's place.

    Returns:
        The image after the steps, and `(top, left, bottom, right)` of it in pixels of `image`, which may reach beyond.

    Raises:
        ValueError: If a step does not take the image, or nothing of the image is left.

    Example:
        >>> image, window = window_of(np.zeros((4, 8), np.uint8), ["square", "centre-crop:share=0.5"])
        >>> image.shape, window
        ((4, 4), (0, 2, 4, 6))
    """
    parsed, images = [parse(step) for step in steps], [image]
    for step in parsed:
        images.append(step(images[-1]))
    changed = images[-1]
    if not any(step.moves for step in parsed):
        return changed, (0, 0, *image.shape[:2])

    def moved(mask: np.ndarray) -> np.ndarray:
        for step, before in zip(parsed, images, strict=False):
            mask = step.on_mask(mask, before)
        return mask

    kept = np.argwhere(moved(np.ones(image.shape[:2], bool)))
    if not len(kept):
        raise InputError(f"Something of an image must be left by {', '.join(map(str, steps))}. Received: nothing")
    place = tuple(kept[0])
    # The steps move masks only: the stored place of one pixel is read bit by bit.
    stored = [
        sum(int(moved(index >> bit & 1 == 1)[place]) << bit for bit in range(int(index.max()).bit_length()))
        for index in np.indices(image.shape[:2])
    ]
    top, left = (s - p for s, p in zip(stored, map(int, place), strict=True))
    return changed, (top, left, top + changed.shape[0], left + changed.shape[1])
