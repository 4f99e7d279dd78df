"""The few figures that stand first, each with a sentence that a clinician understands."""

from collections.abc import Mapping
from typing import Any

from medkeras.tasks import is_multilabel
from pipelines.report.facts.missing import is_absent

Found = Mapping[str, Any]


def headlines(metrics: Found) -> list[dict[str, Any]]:
    """Returns the first figures of an evaluation: `name`, `value`, `low`, `high` and `sentence`.

    Args:
        metrics: What `pipelines.jobs.evaluate.evaluate_run` returns, or that of an earlier version.

    Example:
        >>> found = {"value": 0.9, "low": 0.8, "high": 0.95}
        >>> rows = headlines({"task": "multiclass", "class_names": ["a", "b", "c"], "intervals": {"accuracy": found}})
        >>> rows[0]["sentence"]
        'Of 100 images, about 90 get the right class when the most probable one is taken.'
    """
    task = metrics["task"]
    rows = _of_event(metrics) if task == "binary" else _of_classes(metrics)
    return [row for row in [*rows, *_of_sureness(metrics)] if row]


def _row(name: str, found: Found | None, sentence: str) -> dict[str, Any] | None:
    """Returns a figure; `{hundred}` of the sentence is its value of 100, `{percent}` the same with a decimal."""
    if not found or is_absent(found.get("value")):
        return None
    value = found["value"]
    said = sentence.format(
        hundred=_hundred(value), percent=f"{100 * value:.1f} %", points=f"{100 * value:.1f}", value=f"{value:.2f}"
    )
    said = said.replace(" %", "\N{NO-BREAK SPACE}%")
    return {"name": name, "value": value, "low": found.get("low"), "high": found.get("high"), "sentence": said}


def _hundred(share: float) -> str:
    """Returns a share of 100; nearly all is not all."""
    return f"{100 * share:.0f}" if share in (0, 1) or 0.005 <= share < 0.995 else f"{100 * share:.1f}"


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _of_event(metrics: Found) -> list[dict[str, Any] | None]:
    raw = metrics["class_names"][1]
    name, own = f"“{_braced(raw)}”", metrics.get("class_intervals", {}).get(raw)
    if own is None:
        decided = metrics.get("operating_point", metrics)["per_class"][raw]
        own = {key: {"value": value} for key, value in (metrics["per_class"][raw] | decided).items()}
    share = metrics["per_class"][raw]["support"] / max(metrics["count"], 1)
    return [
        _row(
            "AUC",
            own.get("auc"),
            f"Of two images, one that is {name} and one that is not, the model gives the higher probability to the "
            "right one {percent} of the time.",
        ),
        _row("Sensitivity", own.get("sensitivity"), f"Of 100 images that are {name}, it finds about {{hundred}}."),
        _row(
            "Specificity",
            own.get("specificity"),
            f"Of 100 images that are not {name}, it rightly passes about {{hundred}}.",
        ),
        _row(
            "Precision",
            own.get("precision"),
            f"Of 100 images that it calls {name}, about {{hundred}} are. This holds where {name} is as common as "
            f"here, {100 * share:.0f} %.",
        ),
    ]


def _of_classes(metrics: Found) -> list[dict[str, Any] | None]:
    found = metrics.get("intervals", {})
    of, which = ("labels", "with it") if is_multilabel(metrics["task"]) else ("classes", "of the class")
    rows = [
        _row(
            "AUC",
            found.get("auc"),
            f"Mean over {of}: of two images, one {which} and one not, the model gives the higher "
            "probability to the right one {percent} of the time.",
        )
    ]
    if is_multilabel(metrics["task"]):
        said = "Mean over labels: read from the most suspicious image down, {percent} of those seen so far have it."
        return [*rows, _row("Average precision", found.get("average_precision"), said)]
    if metrics["task"] == "ordinal":
        said = "Agreement with the true grades, a miss by two counting four times: {value}, of 1 at best; chance has 0."
        rows.append(_row("Weighted kappa", found.get("kappa"), said))
    said = "Of 100 images, about {hundred} get the right class when the most probable one is taken."
    rows.append(_row("Accuracy", found.get("accuracy"), said))
    said = "With every class counted alike, {percent} of its images are found."
    return [*rows, _row("Balanced accuracy", found.get("balanced_accuracy"), said)]


def _of_sureness(metrics: Found) -> list[dict[str, Any] | None]:
    found = metrics.get("calibration") or {}
    after, sets, selective = found.get("after") or {}, found.get("sets"), found.get("selective") or {}
    rows = []
    if after:
        said = "A probability that it states is {points} percentage points off on average; 0 is best."
        rows.append(_row("Calibration error", after["ece"], said))
    if sets:
        said = (
            f"{{percent}} of its prediction sets hold the truth; {100 * sets['promised']:.0f} % were promised. "
            f"A set has {sets['mean_size']:.2f} on average."
        )
        rows.append(_row("Coverage of sets", sets["covered"], said))
    if not is_absent(selective.get("referred")):
        kept = selective.get("risk_kept")
        rest = "" if is_absent(kept) else f" Of the others it decides {100 * kept:.1f} % wrongly."
        rows.append(_row("Referred", {"value": selective["referred"]}, "It leaves {percent} to a person." + rest))
    return rows
