"""The gallery: the images that a run is least sure of, with what spoke for its answer."""

import pathlib

import numpy as np
from matplotlib.figure import Figure

from medkeras.explain import class_map
from pipelines.evaluation.uncertainty_figures import Unsure, uncertain_figure
from pipelines.images.records import Records
from pipelines.inference.answers import Answers
from pipelines.inference.display import as_seen, expert_mask, listed
from pipelines.inference.trained_model import Trained, decisions
from pipelines.splits.by_patient import label_names

PICTURES = 9


def least_sure(records: Records, answers: Answers, trained: Trained, *, count: int = PICTURES) -> Figure:
    """Draws the images with the largest entropy, the least sure first.

    The map is that of the predicted class, as `medkeras explain` draws it; of several labels, that of the label with
    the largest entropy. A model without the explain point `features` has none.

    Args:
        records: What was predicted.
        answers: For those records.
        trained: What answered.
        count: Number of images, at least 1; fewer where there are no more.
    """
    model, sureness = trained.model, answers.sureness()
    order = np.argsort(-sureness["normalized_entropy"].to_numpy(), kind="stable")[:count]
    images, spacings = as_seen(records, order, model)
    target, label = _asked(answers, trained), answers.unsure_label()
    maps = class_map(model, images, target=target[order]) if "features" in model.explain_points else [None] * len(order)
    masks, lines = [expert_mask(records, int(i), model) for i in order], _lines(records, answers, trained, order)
    pictures = [Unsure(*parts) for parts in zip(images, maps, masks, lines, spacings, strict=True)]
    shown = "the map is of the predicted class" if label is None else "the map is of the label that it is unsure of"
    return uncertain_figure(pictures, title="Least sure" + (f"; {shown}" if maps[0] is not None else ""))


def _lines(records: Records, answers: Answers, trained: Trained, order: np.ndarray) -> list[tuple[str, ...]]:
    """Returns what is written above each picture."""
    names, asked = trained.model.class_names, _asked(answers, trained)
    true, decided = label_names(records), decisions(trained.point, answers.probabilities, trained.model)
    is_of_labels, sureness = answers.unsure_label() is not None, answers.sureness()
    lines = []
    for i in order:
        row, probability = sureness.loc[i], f" {answers.probabilities[i, asked[i]]:.2f}"
        lines.append(
            (
                pathlib.Path(str(records.table["id"][i])).name,
                f"true: {listed(true[i])}",
                f"predicted: {listed(decided[i])}" + ("" if is_of_labels else probability),
                (f"unsure of {names[asked[i]]}{probability}: " if is_of_labels else "")
                + f"entropy {row['entropy']:.3f} nats, {row['normalized_entropy']:.0%} of the largest",
            )
        )
    return lines


def _asked(answers: Answers, trained: Trained) -> np.ndarray:
    """Returns the class or label that each image's map is of."""
    label = answers.unsure_label()
    return np.asarray(trained.point.apply(answers.probabilities)) if label is None else label
