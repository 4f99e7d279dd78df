"""What a run folder says, gathered once: the page, the model card and the JSON file are views of it."""

import os
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired

import pandas as pd
from typing_extensions import TypedDict

from medkeras.errors import InputError
from pipelines.images.records import SPLITS
from pipelines.io.csv_table import AS_WRITTEN
from pipelines.io.json_types import mismatch
from pipelines.io.run_folder import RunFolder
from pipelines.report.facts.author import read_author
from pipelines.report.facts.headline import headlines
from pipelines.report.facts.missing import missing_parts
from pipelines.report.facts.parts import (
    Calibrated,
    Environment,
    Localization,
    Metrics,
    PartsRead,
    Point,
    check_localization,
    check_metrics,
)

GROUP_COLUMNS = ("class", "column", "group", "is_small", "stands_out")
CURVE_NUMBERS = ("threshold", "net_benefit", "treat_all")
CLASS_MEASURES = ("auc", "average_precision", "sensitivity", "specificity", "precision", "f1")
LOCALIZED = ("iou", "dice", "pointing", "energy")


class Config(TypedDict):
    """Of `config.yaml`, what a report needs."""

    data: str
    model: str
    source_options: NotRequired[dict[str, Any] | None]


def read_facts(run: RunFolder, *, called: str | os.PathLike | None = None) -> dict[str, Any]:
    """Reads a run folder.

    Args:
        run: The folder; it holds `config.yaml` at least.
        called: The folder as the commands to reproduce name it; its path by default.

    Returns:
        `run`, `title`, `author` (see `pipelines.report.facts.author`), `model`, `data`, `evaluation`, `headline`,
        `classes`, `confusion`, `operating_point`, `calibration`, `subgroups`, `errors`, `history`, `localization`,
        `decision_curve`, `environment`, `config` and `commands`, all of plain values; what the folder does not have, or
        what cannot be read, is None, and `missing` has a row for it: `part`, `what`, the `command` that makes it, and
        of a damaged file `damaged`, the reason.

    Raises:
        FileNotFoundError: If there is no `config.yaml`.
        ValueError: If `config.yaml` or `report.yaml` is damaged.

    Example:
        >>> import tempfile
        >>> run = RunFolder(tempfile.mkdtemp())
        >>> _ = run.write_config({"data": "phantom", "model": "focusnet2d"})
        >>> facts = read_facts(run, called="runs/a")
        >>> facts["model"]["name"], facts["missing"][0]["command"]
        ('focusnet2d', 'medkeras evaluate runs/a')
    """
    config, author, read = _config(run), read_author(run), PartsRead(run)
    metrics = read.json("metrics.json", Metrics, make=check_metrics)
    called = shlex.quote(os.fspath(called or run.path))
    environment = read.json("environment.json", Environment)
    localization = read.json("localization/localization.json", Localization, make=check_localization)
    sampled = _sampled(metrics)
    facts = {
        "run": run.path.resolve().name,
        "author": author,
        "config": config,
        "model": {name: config.get(name) for name in ("pretrained", "training", "recipe")} | {"name": config["model"]},
        "data": _data(read, config, metrics),
        "evaluation": metrics and {key: metrics.get(key) for key in ("split", "count", "patients", "uncertainty")},
        "headline": [] if metrics is None else headlines(metrics),
        "overall": metrics and _overall(metrics),
        "classes": None if metrics is None else _classes(metrics),
        "confusion": None if metrics is None else _confusion(metrics),
        "operating_point": read.json(f"operating_point{sampled}.json", Point),
        "calibration": metrics and metrics.get("calibration"),
        "calibrated": read.json(f"calibration{sampled}.json", Calibrated),
        "subgroups": _rows(read, "subgroups.csv", GROUP_COLUMNS, ["images", "positives"]),
        "errors": _rows(read, "errors.csv", ["id", "label", "decided"], ["probability_of_truth"]),
        "decision_curve": _columns(
            read, "decision_curve.csv", numbers=CURVE_NUMBERS, columns=["class"], dtype={"class": str}, **AS_WRITTEN
        ),
        "history": _columns(read, "history.csv", columns=["epoch", "loss"], numbers=True),
        "localization": localization and _localization(localization),
        "environment": environment,
    }
    facts["title"] = " ".join(author["title"]) if author["title"] else f"{config['model']} on {facts['data']['source']}"
    facts["commands"] = _commands(environment, called, facts, metrics)
    has = facts | {"data": facts["data"]["counts"]}
    return facts | {"missing": missing_parts(has, called, sampled=sampled, damaged=read.damaged)}


def _config(run: RunFolder) -> dict[str, Any]:
    """Returns the configuration, of which data and model are needed."""
    config = run.read_config()
    if reason := mismatch(config, Config):
        raise InputError(f"Cannot read {run / 'config.yaml'}: {reason}")
    return config


def _overall(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the measures of all classes; the two kappas differ for ordinal grades alone."""
    found, is_ordinal = metrics.get("intervals"), metrics.get("task") == "ordinal"
    return found and {name: value for name, value in found.items() if is_ordinal or name != "cohen_kappa"}


def source_name(data: str) -> str:
    """Returns the name of a source without the folders that it lies in, which are nobody's business.

    Example:
        >>> source_name("/home/a/scans"), source_name("dicom:/home/a/scans"), source_name("phantom:multiclass")
        ('scans', 'dicom:scans', 'phantom:multiclass')
    """
    kind, colon, rest = data.partition(":")
    return f"{kind}{colon}{pathlib.PurePath(rest).name}" if colon else pathlib.PurePath(data).name


def _rows(read: PartsRead, name: str, columns: Sequence[str], numbers: Sequence[str]) -> list[dict[str, Any]] | None:
    names = {"class": str, "column": str, "group": str, "id": str, "patient": str, "label": str, "decided": str}
    table = read.table(name, columns=columns, numbers=numbers, dtype=names, **AS_WRITTEN)
    if table is None:
        return None
    # Only in numbers is a blank one that is not known: a class may be called NA.
    for column in table.columns.difference([*names, "stands_out", "is_small"]):
        table[column] = pd.to_numeric(table[column], errors="coerce")
    return [{key: None if value != value else value for key, value in row.items()} for row in table.to_dict("records")]


def _columns(read: PartsRead, name: str, **options: Any) -> dict[str, list[Any]] | None:
    table = read.table(name, **options)
    return None if table is None or not len(table) else {str(key): table[key].tolist() for key in table}


def _data(read: PartsRead, config: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    as_text = {"dtype": str, "keep_default_na": False}
    table = read.table("splits.csv", columns=["patient", "split", "label"], **as_text)
    rejected = read.table("rejected.csv", **as_text)
    names = metrics["class_names"] if metrics else _names(table)
    return {
        "source": source_name(config["data"]),
        "options": {key: _short(value) for key, value in (config.get("source_options") or {}).items()},
        "task": metrics["task"] if metrics else config.get("task"),
        "class_names": names,
        "counts": None if table is None else _counts(table, names),
        "leakage": _leakage(read.table("leakage.csv", columns=["kind", "split_a", "split_b"], **as_text)),
        "rejected": 0 if rejected is None else len(rejected),
        **{name: config.get(name) for name in ("image_size", "channels", "preprocess", "augment", "balance")},
        "grouped_duplicates": bool(config.get("group_duplicates")),
        "split_from": "a file" if config.get("split_file") else "patients",
        "folds": config.get("folds"),
        "fold": config.get("fold"),
    }


def _short(value: Any) -> Any:
    """Returns a value without folders, if it is a path."""
    return pathlib.PurePath(value).name if isinstance(value, str) and os.path.isabs(value) else value


def _names(table: pd.DataFrame | None) -> list[str]:
    return [] if table is None else sorted({name for label in table["label"] for name in label.split("|") if name})


def _counts(table: pd.DataFrame, names: list[str]) -> dict[str, dict[str, Any]]:
    """Returns images, patients and images of each class of each split."""
    counts = {}
    for split in [name for name in SPLITS if name in set(table["split"])]:
        own = table[table["split"] == split]
        single = own["label"].isin(names).all()
        of = own["label"].map(lambda label: [label]) if single else own["label"].str.split("|")
        found = of.explode().value_counts()
        counts[split] = {
            "images": len(own),
            "patients": int(own["patient"].nunique()),
            "classes": {name: int(found.get(name, 0)) for name in names},
        }
    return counts


def _leakage(table: pd.DataFrame | None) -> dict[str, Any]:
    """Returns whether was looked for leaks, and how many of each kind there are between which splits."""
    if table is None:
        return {"looked": False, "found": None}
    counts = table.groupby(["kind", "split_a", "split_b"], sort=False).size()
    found = [{"kind": k, "first": a, "second": b, "count": int(count)} for (k, a, b), count in counts.items()]
    return {"looked": True, "found": found}


def _classes(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns each class or label with its measures at the operating point, with intervals where there are any."""
    decided, intervals = metrics.get("operating_point", metrics), metrics.get("class_intervals", {})
    rows = []
    for name in metrics["class_names"]:
        row, own = metrics["per_class"][name] | decided["per_class"][name], intervals.get(name, {})
        measures = {key: own.get(key) or {"value": row.get(key)} for key in CLASS_MEASURES}
        rows.append({"name": name, "images": row["support"], "measures": measures})
    return rows


def _confusion(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the counts of decisions at the operating point, one matrix or one for each label."""
    decided = metrics.get("operating_point", metrics)
    kept = {key: decided[key] for key in ("confusion_matrix", "confusion_matrices") if key in decided}
    return kept | {"accuracy": decided.get("accuracy"), "names": metrics["class_names"]}


def _localization(found: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("split", "with_lesion", "without_lesion", "lesion_lost_in_resizing", "patients", "threshold_from")
    maps = {
        name: {key: result.get(key) for key in ("threshold", "area", "centre", *LOCALIZED)}
        for name, result in found["maps"].items()
    }
    return {key: found.get(key) for key in kept} | {"maps": maps}


def _sampled(metrics: Mapping[str, Any] | None) -> str:
    """Returns what the files end in that belong to the way of sampling by which the run was evaluated."""
    how = (metrics or {}).get("uncertainty") or {"method": "none"}
    return "".join(f"_{how[key]}" for key in ("method", "samples", "digest") if how["method"] != "none" and key in how)


def _commands(
    environment: Mapping[str, Any] | None,
    called: str,
    facts: Mapping[str, Any],
    metrics: Mapping[str, Any] | None,
) -> list[str]:
    """Returns the commands that made the run, as far as they are known."""
    words = (environment or {}).get("command") or []
    made = [shlex.join([pathlib.PurePath(words[0]).name, *words[1:]])] if words else []
    if metrics is not None:
        columns = (metrics.get("subgroups") or {}).get("columns", [])
        options = [f"--subgroup {shlex.quote(column)}" for column in columns]
        how = metrics.get("uncertainty") or {}
        options += [f"--uncertainty {how['method']}"] if how.get("method", "none") != "none" else []
        options += [f"--samples {how['samples']}"] if "samples" in how else []
        made.append(" ".join([f"medkeras evaluate {called}", *options]))
    made += [f"medkeras localize {called}"] if facts["localization"] else []
    return [*made, f"medkeras report {called}"]
