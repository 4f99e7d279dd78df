"""The figure of effective receptive fields, drawn on `matplotlib.figure.Figure` without pyplot."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from medkeras.errors import InputError
from medkeras.explain.figures.planes import Plane, planes_through, relative_heights
from medkeras.explain.receptive_field import centre_of_mass, field_radius

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = 2.4  # Inches per panel.


def receptive_field_figure(fields: Mapping[str, np.ndarray]) -> "Figure":
    """Draws effective receptive fields side by side, each with the circle that holds 90 % of its mass.

    Args:
        fields: `{pathway: field}` of `medkeras.explain.effective_receptive_field`, at least one; a volume is
            shown as its three slices through the field's centre of mass.

    Raises:
        ValueError: If there is no field.

    Example:
        >>> field = np.zeros((9, 9))
        >>> field[4, 2:7] = 1.0
        >>> receptive_field_figure({"magno": field}).axes[0].get_title()
        'magno: radius 2.0 px'
    """
    from matplotlib.figure import Figure

    if not fields:
        raise InputError("There must be a receptive field to draw. Received: fields={}")
    grid = next(iter(fields.values())).shape
    planes = [planes_through(grid, centre_of_mass(field)) for field in fields.values()]
    heights = relative_heights(planes[0], grid)
    figure = Figure(figsize=(CELL * len(fields) + 0.8, CELL * sum(heights) + 0.7), layout="constrained")
    figure.suptitle("Effective receptive field of the centre unit, and the radius of 90 % of it", fontsize=9)
    axes = figure.subplots(len(heights), len(fields), squeeze=False, height_ratios=heights)
    for column, (name, field) in enumerate(fields.items()):
        axes[0, column].set_title(f"{name}: radius {field_radius(field):.1f} px", fontsize=8)
        for ax, plane in zip(axes[:, column], planes[column], strict=True):
            shown = _field(ax, field, plane)
            if column == 0:
                ax.set_ylabel(plane.name, fontsize=8)
    figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.02).ax.tick_params(labelsize=7)
    return figure


def _field(ax: "Axes", field: np.ndarray, plane: Plane) -> Any:
    from matplotlib.patches import Circle

    shown = ax.imshow(plane.cut(field), cmap="magma", vmin=0, vmax=1)
    down, across = centre_of_mass(field)[list(plane.axes)]
    ax.add_patch(Circle((across, down), field_radius(field), fill=False, color="white", ls="--", lw=1))
    ax.tick_params(labelsize=6)
    return shown
