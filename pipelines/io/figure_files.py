"""How figures become files."""

import os

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

from pipelines.io.run_folder import atomic_path


def save_figure(figure: Figure, path: str | os.PathLike, *, dpi: int = 120) -> None:
    """Writes a figure whole, or not at all; a dollar in the name of a class or a file begins no formula.

    Args:
        figure: What to draw.
        path: The file, of a type that matplotlib writes.
        dpi: Pixels per inch.

    Raises:
        OSError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> figure = Figure(figsize=(1, 1))
        >>> _ = figure.suptitle("$x^{$.png")
        >>> save_figure(figure, os.path.join(tempfile.mkdtemp(), "a.png"))
    """
    scaled = [axis for axis in figure.findobj(Axis) if axis.get_scale() != "linear"]
    # The ticks of a logarithmic axis are formulas.
    ticks = {id(label) for axis in scaled for label in axis.get_ticklabels(which="both")}
    for text in figure.findobj(Text):
        if id(text) not in ticks:
            text.set_parse_math(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
