"""Sections on how a run came to be: question, data, training, checklist, how to do it again."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from medkeras.tasks import is_multilabel
from pipelines.report.checklist import answers
from pipelines.report.facts.author import FIELDS, FIRST
from pipelines.report.facts.names import words
from pipelines.report.page.markup import Markup, join, number, table, tag
from pipelines.report.page.parts import TITLES, Charts, Facts, absent, drawn, is_damaged, paragraph, terms


def authors(facts: Facts) -> Markup:
    """Returns what the authors wrote of the question and the use, or that they have yet to write it."""
    return _said(facts, FIRST)


def statements(facts: Facts) -> Markup:
    """Returns what the authors wrote of all else, and what they have yet to write."""
    note = paragraph("No run can know these. They come from ", tag("code", "report.yaml"), " in the run folder.")
    return join([note, _said(facts, [name for name in FIELDS if name not in ("title", *FIRST)])])


def data(facts: Facts) -> Markup:
    """Returns source, splits, the search for leaks and preprocessing."""
    found = facts["data"]
    parts = [paragraph(_source_says(found))]
    if found["counts"]:
        of = "Images with each label" if found["task"] and is_multilabel(found["task"]) else "Images of each class"
        splits = found["counts"]
        rows = [[name, *(number(split["classes"][name]) for split in splits.values())] for name in found["class_names"]]
        rows.append([tag("strong", "all images"), *(number(split["images"]) for split in splits.values())])
        rows.append([tag("strong", "patients"), *(number(split["patients"]) for split in splits.values())])
        names = {"train": "training", "val": "validation", "test": "test"}
        head = ["", *(names.get(name, name) for name in splits)]
        parts.append(table(head, rows, caption=f"{of}, by split", numbers=1))
    else:
        parts.append(absent(facts, "data"))
    parts += [tag("h3", "Leaks between splits"), _leaks(facts), tag("h3", "Preparation of images")]
    rejected = absent(facts, "rejected") if is_damaged(facts, "rejected") else number(found["rejected"])
    rows = [
        ("Size", _listed(found["image_size"], "as stored")),
        ("Channels", _listed(found["channels"], "as stored")),
        ("Steps before everything else", _listed(found["preprocess"], "none")),
        ("Augmentation in training", _listed(found["augment"], "none")),
        ("Balance of classes in training", _listed(found["balance"], "none")),
        ("Images left out as unreadable", rejected),
    ]
    return join([*parts, terms(rows)])


def training(facts: Facts, charts: Charts) -> Markup:
    """Returns how the model was trained."""
    config, model = facts["config"], facts["model"]
    names = (
        "epochs",
        "batch_size",
        "optimizer",
        "learning_rate",
        "weight_decay",
        "schedule",
        "loss",
        "monitor",
        "seed",
    )
    rows = [("Model", model["name"])]
    rows += [("Parameters", f"{model['parameters']:,}")] if model.get("parameters") else []
    rows.append(("Ensemble", "none: one model"))
    weights = config.get("pretrained")
    rows.append(("Initial weights", str(weights).rsplit("/", 1)[-1] if weights else "random, by the seed"))
    rows += [(words(name).capitalize(), str(config[name])) for name in names if config.get(name) is not None]
    kept = "The epoch that was best on validation was kept."
    return join(
        [paragraph(kept), terms(rows), drawn(charts, "history") if facts["history"] else absent(facts, "history")]
    )


def checklist(facts: Facts) -> Markup:
    """Returns the items of the two checklists, and where each is answered."""
    rows = []
    for found in answers(facts):
        marks = {"answered": "yes", "in part": "part", "not answered by this run": "no"}
        state = tag("span", found.state, class_=f"state {marks[found.state]}")
        where = tag("a", TITLES[found.where], href=f"#{found.where}") if found.where else None
        add = _with_code("to add: " + found.add) if found.add else None
        said = join([part for part in (where, add) if part is not None], "; ")
        rows.append([found.item.asks, found.item.claim, found.item.tripod, state, said])
    says = paragraph(
        "What CLAIM 2024 and TRIPOD+AI ask of an article, in short and in our words, and where this page answers it. "
        "The lists themselves are the authority."
    )
    head = ["item", "CLAIM", "TRIPOD+AI", "state", "where"]
    return join([says, table(head, rows, caption="Reporting checklist")])


def reproduce(facts: Facts) -> Markup:
    """Returns commands, versions, machine and the configuration."""
    parts = [tag("h3", "Commands"), tag("pre", tag("code", "\n".join(facts["commands"])), tabindex="0")]
    found = facts["environment"]
    parts.append(tag("h3", "Environment"))
    if found:
        rows = [("Python", found["python"]), ("Machine", f"{found['platform']}, {found['cpu_count']} processors")]
        rows += [("Backend", found["backend"])]
        rows += [(name, version or "not installed") for name, version in found["packages"].items()]
        rows += [(name, value) for name, value in found.get("variables", {}).items()]
        parts.append(terms(rows))
    else:
        parts.append(absent(facts, "environment"))
    shown = {name: value for name, value in facts["config"].items() if value not in (None, [], {})}
    settings = yaml.safe_dump(json.loads(json.dumps(shown, default=str)), sort_keys=False)
    return join([*parts, tag("h3", "Configuration"), tag("pre", tag("code", settings), tabindex="0")])


def _said(facts: Facts, names: Iterable[str]) -> Markup:
    rows = []
    for name in names:
        given = facts["author"][name]
        says = (
            [paragraph(text) for text in given]
            if given
            else [paragraph(f"To be filled in: {FIELDS[name]}.", class_="to-fill")]
        )
        rows.append((words(name).capitalize(), join(says)))
    return terms(rows)


def _with_code(text: str) -> Markup:
    """Returns text whose every second part between backticks is code."""
    return join(tag("code", part) if k % 2 else part for k, part in enumerate(text.split("`")))


def _listed(value: Any, otherwise: str) -> str:
    if value is None or value == [] or value == ():
        return otherwise
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _source_says(found: Mapping[str, Any]) -> str:
    options = ", ".join(f"{name}={value}" for name, value in found["options"].items())
    by = {"patients": "by patient, before any balancing", "a file": "by a file of splits"}[found["split_from"]]
    folds = f", fold {found['fold']} of {found['folds']}" if found["folds"] else ""
    kind = {"multilabel": "several labels", "ordinal": "grades in order"}.get(found["task"], "one class")
    return f"Source: {found['source']}{f' ({options})' if options else ''}. An image has {kind}. Split {by}{folds}."


def _leaks(facts: Facts) -> Markup:
    leakage = facts["data"]["leakage"]
    if is_damaged(facts, "leakage"):
        return absent(facts, "leakage")
    if not leakage["looked"]:
        return paragraph("No search for leaks is on record: the run has no leakage.csv.", class_="missing")
    if not leakage["found"]:
        return paragraph("Looked for patients, identical images and near-duplicates in two splits: none was found.")
    rows = [[f"{row['kind']}, {row['first']} and {row['second']}", number(row["count"])] for row in leakage["found"]]
    says = paragraph(
        "Splits share patients or images. Figures of this report are too good by an unknown amount.", class_="note"
    )
    return join([says, table(["leak", "pairs"], rows, caption="What stands in two splits", numbers=1)])
