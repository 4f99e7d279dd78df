"""The pictures of a report: right, wrong and least sure images, with what the model looked at."""

from typing import Any

import numpy as np
import pandas as pd

from medkeras.explain import default_map, map_names, saliency_maps
from medkeras.explain.regions import is_of_class
from medkeras.models import ImageClassifier
from medkeras.tasks import is_multilabel
from pipelines.inference.calibration import decision_losses
from pipelines.inference.display import as_seen, expert_mask, listed
from pipelines.inference.predictions import Predictions
from pipelines.inference.trained_model import load_calibrated
from pipelines.io.run_folder import RunFolder
from pipelines.report.facts.names import words
from pipelines.report.page.pictures import Picture, choose, make_picture
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_split


def gallery_of(
    folder: RunFolder, facts: dict[str, Any], predictions: Predictions, count: int, seed: int
) -> tuple[list[Picture], str]:
    """Returns the gallery of a report, and what to say of its maps; adds the model's size to the facts.

    Args:
        folder: The run folder.
        facts: See `pipelines.report.facts.read.read_facts`.
        predictions: Of the split that was evaluated.
        count: Images of each group, at least 1.
        seed: Of the choice.

    Raises:
        ValueError: If the images do not fit the model.
        OSError: If an image cannot be read.
    """
    model = load_calibrated(folder)
    facts["model"] |= {"parameters": model.count_params(), "input": list(model.image_shape)}
    records = load_split(TrainConfig.from_run(folder), facts["evaluation"]["split"])
    table = pd.read_csv(folder / "predictions.csv", dtype=str, keep_default_na=False)
    losses = np.nan_to_num(decision_losses(predictions.labels, predictions.decisions, task=predictions.task))
    unsure = predictions.unsureness()
    groups = choose(
        losses > 0,
        unsure,
        table["label"].to_numpy(),
        patients=predictions.patients,
        count=count,
        seed=seed,
    )
    rows = list(dict.fromkeys(row for found in groups.values() for row in found))
    place = {name: k for k, name in enumerate(records.table["id"].astype(str))}
    of = {row: place[table["id"][row]] for row in rows}
    images, spacings = as_seen(records, [of[row] for row in rows], model)
    maps, note = _maps(model, images, [_asked(predictions, row) for row in rows], facts)
    shown = []
    for group, found in groups.items():
        for row in found:
            k = rows.index(row)
            picture = make_picture(
                group,
                table["id"][row],
                _lines(table.iloc[row], predictions, row, unsure[row]),
                image=images[k],
                values=None if maps is None else maps[k],
                mask=expert_mask(records, of[row], model),
                spacing=spacings[k],
            )
            shown.append(picture)
    return shown, note


def _asked(predictions: Predictions, row: int) -> int:
    """Returns the class or label that an image's map is of: the decided one, or the label nearest to one half."""
    if is_multilabel(predictions.task):
        return int(np.abs(predictions.probabilities[row] - 0.5).argmin())
    return int(predictions.decisions[row])


def _maps(
    model: ImageClassifier, images: np.ndarray, asked: list[int], facts: dict[str, Any]
) -> tuple[np.ndarray | None, str]:
    """Returns the maps of images, and what to say of them."""
    measured = (facts["localization"] or {}).get("maps", {})
    known = [name for name in measured if name in map_names(model)]
    # The map that was best at finding what experts drew is the one to look at.
    name = max(known, key=lambda point: measured[point]["iou"]["value"], default=None)
    try:
        name = name or default_map(model)
    except ValueError:
        return None, "This model has no map of where it looked."
    maps = saliency_maps(model, images, point=name, target=np.array(asked) if is_of_class(model, name) else None)
    of = {"attention": "where the model looked", "class_map": "what spoke for the decided class (Grad-CAM)"}
    of["evidence_map"] = "what spoke for the decided class (HiResCAM)"
    says = f"Maps show {of.get(name, words(name))}, relative to the largest value in each image. "
    if name in measured:
        iou = measured[name]["iou"]["value"]
        says += f"Against lesions that experts drew, their mean IoU is {iou:.3f}: read them as hints of that quality. "
    else:
        says += "They have not been checked against expert outlines in this run. "
    return (
        maps,
        says + "A green line is the lesion’s true outline, where there is one. No patient is shown twice in a group.",
    )


def _lines(row: pd.Series, predictions: Predictions, k: int, unsure: float) -> tuple[tuple[str, str], ...]:
    """Returns what is written below a picture."""
    lines = [("true", listed(row["label"])), ("decided", listed(row["prediction"]))]
    asked = _asked(predictions, k)
    name, value = predictions.class_names[asked], predictions.probabilities[k, asked]
    lines.append(("probability", f"{value:.3f}" + (f" of {name}" if is_multilabel(predictions.task) else "")))
    lines.append(("entropy", f"{unsure:.0%} of the largest".replace("%", " %")))
    lines += [("set", listed(row["set"]))] if "set" in row else []
    return tuple(lines + ([("advice", row["decision"])] if "decision" in row else []))
