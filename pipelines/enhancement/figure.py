"""What an enhancement shows of an image: the map, the regions that it chose, and the strongest before and after."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from medkeras.explain import resize_maps
from pipelines.enhancement.files import as_float, write_png
from pipelines.io.figure_files import save_figure
from pipelines.io.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = 2.6  # Inches per panel.
FINE = 16  # Pixels per cell of a map that is written.


@dataclasses.dataclass(frozen=True)
class Looked:
    """An image and what was chosen in it.

    Attributes:
        image: As stored.
        key: What stands for its content.
        values: The map, `(rows, columns)`; None where the image is left as it is.
        window: What the map covers, top, left, bottom and right in pixels of the image.
        boxes: int64 `(regions, 4)`.
        is_drawn: Whether to draw it.
    """

    image: np.ndarray
    key: str
    values: np.ndarray | None = None
    window: tuple[int, ...] = ()
    boxes: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 4), np.int64))
    is_drawn: bool = False


def draw(folder: RunFolder, name: str, looked: Looked, result: np.ndarray) -> None:
    """Writes the figure of an image to `figures/`, and its map, from its lowest to its highest value, to `maps/`."""
    place = pathlib.PurePath(name).relative_to("images")
    fine = _scaled(resize_maps(looked.values[None, ..., None], FINE * np.array(looked.values.shape))[0, ..., 0])
    write_png(folder / f"maps/{place}", np.rint(255 * fine).astype(np.uint8))
    save_figure(enhancement_figure(looked, result), folder / f"figures/{place}")


def enhancement_figure(looked: Looked, result: np.ndarray) -> "Figure":
    """Draws an image with its regions, its map, and the strongest region before and after.

    Args:
        looked: The image, its map and its regions.
        result: The enhanced image, of the image's size or larger by a whole factor.

    Example:
        >>> image = np.eye(64)
        >>> looked = Looked(image, "", np.eye(4), (0, 0, 64, 64), np.array([[0, 0, 32, 32]]))
        >>> [ax.get_title() for ax in enhancement_figure(looked, image).axes]
        ['1 region', 'map', 'before', 'after']
    """
    from matplotlib.figure import Figure

    image, count = as_float(looked.image), len(looked.boxes)
    titles = [f"{count} region{'' if count == 1 else 's'}", "map"] + ["before", "after"] * bool(count)
    figure = Figure(figsize=(CELL * len(titles), CELL + 0.3), layout="constrained")
    axes = figure.subplots(1, len(titles))
    for ax in axes[:2]:
        _show(ax, image, image)
    _outline(axes[0], looked.boxes)
    top, left, bottom, right = looked.window
    fine = resize_maps(looked.values[None, ..., None], FINE * np.array(looked.values.shape))[0, ..., 0]
    edges = (left - 0.5, right - 0.5, bottom - 0.5, top - 0.5)
    axes[1].imshow(_scaled(fine), cmap="magma", alpha=0.5, extent=edges)
    axes[1].set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
    if count:
        box, factor = looked.boxes[0], result.shape[0] // image.shape[0]
        _show(axes[2], _part(image, box), image)
        _show(axes[3], _part(as_float(result), factor * box), as_float(result))
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, fontsize=8)
        ax.set(xticks=[], yticks=[])
    return figure


def _part(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    top, left, bottom, right = box
    return image[top:bottom, left:right]


def _show(ax: "Axes", part: np.ndarray, whole: np.ndarray) -> None:
    """Draws a part in the range of the whole."""
    part = (part - whole.min()) / (np.ptp(whole) or 1)
    ax.imshow(part if part.shape[-1] == 3 else part[..., 0], cmap="gray", vmin=0, vmax=1)


def _outline(ax: "Axes", boxes: Any) -> None:
    from matplotlib.patches import Rectangle

    for top, left, bottom, right in boxes:
        ax.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, color="#56B4E9", lw=1))


def _scaled(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (np.ptp(values) or 1)
