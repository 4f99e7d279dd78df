"""A contact sheet: a row of images per class, lesions outlined where the source knows them."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medkeras.errors import InputError
from medkeras.tasks import is_multilabel
from pipelines.images.decode import to_float
from pipelines.images.records import Records

INK, FAINT, OUTLINE = "#202428", "#6b7178", "#ff5a36"
CELL = 1.45  # Inches.


def contact_sheet(records: Records, *, per_class: int = 6, seed: int = 0) -> Figure:
    """Draws images of every class, each as it is stored and named by its id; volumes as one slice.

    Args:
        records: What to show; every image that is drawn must be readable.
        per_class: Images per class or label, at least 1; fewer where there are no more.
        seed: Chooses which.

    Raises:
        ValueError: If `per_class` is below 1, or an image cannot be read.

    Example:
        >>> from pipelines.sources import open_source
        >>> len(contact_sheet(open_source("phantom", images=20), per_class=3).axes)
        6
    """
    if per_class < 1:
        raise InputError(f"`per_class` must be >= 1. Received: per_class={per_class}")
    rows = len(records.class_names)
    figure = Figure(figsize=(CELL * (per_class + 0.9), 1.12 * CELL * rows + 0.45), layout="constrained")
    figure.suptitle(_title(records), fontsize=10, color=INK)
    grid = figure.subplots(rows, per_class, squeeze=False)
    counts = records.class_counts()
    for row, name in enumerate(records.class_names):
        _label(grid[row, 0], name, int(counts[row]))
        chosen = _choose(records, row, per_class, seed)
        for axes, index in zip(grid[row], [*chosen, *[None] * per_class], strict=False):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if index is not None:
                _draw(axes, records, index)
    return figure


def _title(records: Records) -> str:
    patients = records.table["patient"].nunique()
    title = f"{records.name}   {len(records)} images, {patients} patients, {records.task}"
    return title + (", lesions outlined" if records.read_mask else "")


def _label(axes: Axes, name: str, count: int) -> None:
    axes.set_ylabel(f"{name}\n{count}", rotation=0, ha="right", va="center", fontsize=9, color=INK, labelpad=8)


def _choose(records: Records, row: int, count: int, seed: int) -> np.ndarray:
    """Returns up to `count` records of a class, of different patients first."""
    carries = records.labels[:, row] == 1 if is_multilabel(records.task) else records.labels == row
    found = np.random.default_rng(seed).permutation(np.flatnonzero(carries))
    seen_before = records.table["patient"].iloc[found].duplicated().to_numpy()
    return found[np.argsort(seen_before, kind="stable")][:count]


def _draw(axes: Axes, records: Records, index: int) -> None:
    name = str(records.table["id"].iloc[index])
    try:
        image = to_float(records.read(index))
        mask = records.read_mask(index) if records.read_mask else None
    except (ValueError, OSError) as error:
        raise InputError(f"Image {name} cannot be used: {error}") from error
    if records.rank == 3:
        depth = _shown_slice(len(image), mask)
        image, mask = image[depth], None if mask is None else mask[depth]
        name = f"{name}, slice {depth}"
    colour = image.ndim == 3 and image.shape[-1] == 3
    axes.imshow(image if colour or image.ndim == 2 else image[..., 0], cmap="gray", vmin=0, vmax=1)
    if mask is not None and mask.any():
        # A margin of zeros closes the outline of a lesion that touches the border.
        padded = np.pad(mask, 1).astype(float)
        height, width = padded.shape
        axes.contour(range(-1, width - 1), range(-1, height - 1), padded, [0.5], colors=OUTLINE, linewidths=0.9)
        axes.set(xlim=(-0.5, width - 2.5), ylim=(height - 2.5, -0.5))
    axes.set_xlabel(_short(name), fontsize=6, color=FAINT, labelpad=2)


def _shown_slice(depth: int, mask: np.ndarray | None) -> int:
    """Returns the slice with most of the lesion, or the middle one."""
    if mask is None or not mask.any():
        return depth // 2
    return int(mask.reshape(depth, -1).sum(axis=1).argmax())


def _short(name: str, length: int = 26) -> str:
    return name if len(name) <= length else "…" + name[1 - length :]
