"""How good an enlargement is: against an original that was made small, and against the image that it is put into."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from medkeras.evaluation import Interval, psnr, ssim
from medkeras.evaluation.statistics.means import mean_interval
from medkeras.super_resolution.enhancement.attention_guided import Upscaler
from medkeras.super_resolution.enhancement.reintegration import resize
from medkeras.super_resolution.interpolated import Interpolation
from pipelines.enhancement.files import as_float

METHODS = ("bicubic", "lanczos")
SIDE, MULTIPLE = 256, 8  # Of the middle that is measured, and what the small image's edges are multiples of.


def restoration(
    images: Sequence[np.ndarray],
    upscaler: Upscaler,
    *,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    **sampling: Any,
) -> dict[str, Any] | None:
    """Makes the middle of images small, enlarges it again, and measures how near it comes to the original.

    The middle has at most 256 pixels a side. It is made small by bicubic interpolation, which adds no noise: a real
    device's small image is another one. Images in their own range, the lowest value 0 and the highest 1.

    Args:
        images: As stored; an image of one value, or too small for the upscaler when it is made small, is left out.
        upscaler: What enlarges, measured beside bicubic and Lanczos interpolation.
        groups: Patient of each image.
        seed: Of the intervals and of the noise.
        **sampling: Further arguments of `upscaler.upscale`.

    Returns:
        `images`, how many; and for `upscaler`, `bicubic` and `lanczos` the mean `psnr` in decibels and `ssim` with 95 %
        intervals over patients. None where no image is large enough.

    Example:
        >>> image = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
        >>> found = restoration([image], Interpolation("bicubic"))
        >>> found["images"], found["upscaler"]["psnr"] == found["bicubic"]["psnr"]
        (1, True)
    """
    kinds = {"upscaler": upscaler, **{name: Interpolation(name, factor=upscaler.factor) for name in METHODS}}
    rows, kept = [], []
    for i, image in enumerate(images):
        original = _middle(as_float(image), upscaler)
        if original is None or not np.ptp(original):
            continue
        original = (original - original.min()) / np.ptp(original)
        small = np.clip(resize(original, 1 / upscaler.factor, method="bicubic"), 0, 1)[None]
        large = [kind.upscale(small, seed=seed, **sampling) for kind in kinds.values()]
        rows.append([[measure(one, original[None])[0] for measure in (psnr, ssim)] for one in large])
        kept.append(i)
    if not rows:
        return None
    values, chosen = np.array(rows), None if groups is None else np.asarray(groups)[kept]
    return {"images": len(rows)} | {
        name: {
            measure: mean_interval(values[:, k, m], groups=chosen, seed=seed).to_dict()
            for m, measure in enumerate(("psnr", "ssim"))
        }
        for k, name in enumerate(kinds)
    }


def self_similarity(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Compares enhanced images with the images that they were made of: how little changed, not how good it is.

    This is what the published study reports as PSNR and SSIM (46.58 dB and 0.9879 of one image): nearly all pixels are
    the same ones.

    Args:
        pairs: Original and enhanced image, as stored and of one size.

    Returns:
        `images`; `unchanged`, the mean share of equal pixels; `psnr`, the mean of those images that changed, in
        decibels of their own range; `ssim`, the mean with a window of 3 pixels, as published.

    Example:
        >>> image = np.arange(64, dtype=np.uint8).reshape(8, 8)
        >>> self_similarity([(image, image)])["unchanged"]
        1.0
    """
    rows = []
    for before, after in pairs:
        spread = np.ptp(as_float(before)) or 1
        first, second = as_float(before)[None] / spread, as_float(after)[None] / spread
        rows.append([np.mean(before == after), psnr(second, first)[0], ssim(second, first, window=3)[0]])
    unchanged, noise, likeness = np.array(rows).T
    changed = noise[np.isfinite(noise)]
    return {
        "images": len(rows),
        "unchanged": float(unchanged.mean()),
        "psnr": float(changed.mean()) if len(changed) else float("inf"),
        "ssim": float(likeness.mean()),
    }


def described(quality: dict[str, Any]) -> str:
    """Returns the restoration in one line.

    Example:
        >>> same = {"value": 30.0, "low": 29.0, "high": 31.0}
        >>> described({"images": 2, "bicubic": {"psnr": same, "ssim": same}}).split(";")[0]
        '2 images made small and restored: bicubic 30.000 (29.000 to 31.000) dB, SSIM 30.000 (29.000 to 31.000)'
    """
    parts = [
        f"{name} {Interval(**found['psnr'])} dB, SSIM {Interval(**found['ssim'])}"
        for name, found in quality.items()
        if name != "images"
    ]
    return f"{quality['images']} images made small and restored: {'; '.join(parts)}"


def _middle(image: np.ndarray, upscaler: Upscaler) -> np.ndarray | None:
    """Returns the middle of an image, None if it is too small."""
    step = MULTIPLE * upscaler.factor
    edges = [min(edge, SIDE) // step * step for edge in image.shape[:2]]
    if min(edges) < max(upscaler.smallest * upscaler.factor, step):
        return None
    first = [(edge - kept) // 2 for edge, kept in zip(image.shape, edges, strict=False)]
    return image[first[0] : first[0] + edges[0], first[1] : first[1] + edges[1]]
