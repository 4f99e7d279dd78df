"""The sections of the page, each from the facts of a run."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from medkeras.tasks import is_multilabel
from pipelines.report.author import FIELDS, FIRST
from pipelines.report.checklist import answers
from pipelines.report.markup import Markup, interval, is_absent, join, number, table, tag
from pipelines.report.names import words
from pipelines.report.pictures import GROUPS, Picture
from pipelines.report.svg import Chart

Facts = Mapping[str, Any]
Charts = Mapping[str, Sequence[Chart]]
RULES = {
    "youden": "the largest sum of sensitivity and specificity",
    "f1": "the largest F1",
}


def summary(facts: Facts) -> Markup:
    """Returns the first figures with their sentences, and what is missing."""
    if not facts["headline"]:
        return _absent(facts, "evaluation")
    done = facts["evaluation"]
    of = f"{done['count']} images" + (f" of {done['patients']} patients" if done.get("patients") else "")
    cards = [
        tag(
            "div",
            tag("dt", row["name"]),
            tag("dd", _headline_value(row), class_="value"),
            tag("dd", row["sentence"], class_="sentence"),
            class_="figure",
        )
        for row in facts["headline"]
    ]
    first = _p(
        f"Measured on {of} of the {done['split']} split, which training has not seen. "
        "Ranges are 95 % intervals by patient: what other patients of the same kind might have given."
    )
    return join([first, tag("dl", *cards, class_="figures"), *_left_out(facts)])


def authors(facts: Facts) -> Markup:
    """Returns what the authors wrote of the question and the use, or that they have yet to write it."""
    return _said(facts, FIRST)


def statements(facts: Facts) -> Markup:
    """Returns what the authors wrote of all else, and what they have yet to write."""
    note = _p("No run can know these. They come from ", tag("code", "report.yaml"), " in the run folder.")
    return join([note, _said(facts, [name for name in FIELDS if name not in ("title", *FIRST)])])


def data(facts: Facts) -> Markup:
    """Returns source, splits, the search for leaks and preprocessing."""
    found = facts["data"]
    parts = [_p(_source_says(found))]
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
        parts.append(_absent(facts, "data"))
    parts += [tag("h3", "Leaks between splits"), _leaks(found), tag("h3", "Preparation of images")]
    rows = [
        ("Size", _listed(found["image_size"], "as stored")),
        ("Channels", _listed(found["channels"], "as stored")),
        ("Steps before everything else", _listed(found["preprocess"], "none")),
        ("Augmentation in training", _listed(found["augment"], "none")),
        ("Balance of classes in training", _listed(found["balance"], "none")),
        ("Images left out as unreadable", number(found["rejected"])),
    ]
    return join([*parts, _terms(rows)])


def performance(facts: Facts, charts: Charts) -> Markup:
    """Returns measures by class, their curves and the decision curve."""
    if not facts["classes"]:
        return _absent(facts, "evaluation")
    first = facts["classes"][0]["measures"]
    rows = [
        [row["name"], number(row["images"]), *(interval(value) for value in row["measures"].values())]
        for row in facts["classes"]
    ]
    head = ["class", "images", *map(words, first)]
    parts = [table(head, rows, caption="By class, at the operating point; with 95 % intervals by patient", numbers=1)]
    if facts["overall"]:
        rows = [[words(name), interval(value)] for name, value in facts["overall"].items()]
        says = "Overall; decisions here are at 0.5, or the most probable class"
        parts.append(table(["measure", "value"], rows, caption=says, numbers=1))
    return join([*parts, _charts(charts, "ranking", "decision")])


def decisions(facts: Facts) -> Markup:
    """Returns the operating point, and how often it decides what."""
    point, parts = facts["operating_point"], []
    if point is None:
        parts.append(_p("The run has no operating point: its training has not ended."))
    elif point["thresholds"] is None:
        parts.append(_p("The most probable class is decided; no threshold was chosen."))
    else:
        names = facts["data"]["class_names"]
        of = names[1:] if len(point["thresholds"]) == 1 and len(names) == 2 else names
        rule = RULES.get(point["rule"], point["rule"])
        chosen = {"val": "validation"}.get(point.get("chosen_on") or "val", point.get("chosen_on"))
        parts.append(
            _p(
                f"An image is called so where its probability reaches the threshold. The rule was {rule}, on the "
                f"{chosen} images, and the threshold has been frozen since."
            )
        )
        rows = [[name, number(value)] for name, value in zip(of, point["thresholds"], strict=False)]
        parts.append(table(["class", "threshold"], rows, caption="Operating point", numbers=1))
    return join([*parts, _confusion(facts)])


def sureness(facts: Facts, charts: Charts) -> Markup:
    """Returns calibration before and after, prediction sets and referral."""
    found, fitted = facts["calibration"], facts["calibrated"]
    parts = [] if fitted else [_absent(facts, "calibrated")]
    if fitted:
        left_out = fitted.get("left_out", {})
        is_scaled = fitted.get("method") not in (None, "none") and "scaling" not in left_out
        how = f"calibrated by {fitted['method']}" if is_scaled else "left as the model gives them"
        parts.append(
            _p(f"Probabilities were {how}; sets and referral rest on {fitted.get('images')} validation images.")
        )
        parts += [_p(f"No {name}: {why}", class_="note") for name, why in left_out.items()]
    if found and found.get("after"):
        rows = [
            [
                title,
                *(interval(found[when][key]) if mapped else number(found[when][key]) for when in ("before", "after")),
            ]
            for title, key, mapped in (
                ("expected calibration error", "ece", True),
                ("the same, bins of equal mass", "ece_equal_mass", True),
                ("Brier score", "brier", False),
                ("negative log-likelihood", "nll", False),
            )
        ]
        parts.append(
            table(["", "before", "after"], rows, caption="Calibration on these images; less is better", numbers=1)
        )
    parts.append(_charts(charts, "sureness"))
    if found and found.get("sets"):
        sets = found["sets"]
        rows = [[name, interval(value)] for name, value in sets["per_class"].items()]
        rows = [["all", interval(sets["covered"])], *rows]
        promised = f"{100 * sets['promised']:.0f} %"
        parts += [
            tag("h3", "Prediction sets"),
            _p(
                f"Each image gets a set of classes that shall hold the truth in {promised} of cases; sets have ",
                number(sets["mean_size"], 2),
                " on average.",
            ),
            table(["class", "share that holds the truth"], rows, caption=f"Promised: {promised}", numbers=1),
        ]
    selective = (found or {}).get("selective") or {}
    if not is_absent(selective.get("referred")):
        rows = [
            ("Referred to a person", number(selective["referred"])),
            ("Wrong among the rest", number(selective.get("risk_kept"))),
            ("Wanted", number(selective["wanted_risk"])),
            ("Wrong among all", number(selective["risk"])),
        ]
        parts += [tag("h3", "Referral"), _terms(rows)]
    return join(parts)


def subgroups(facts: Facts) -> Markup:
    """Returns the measures of each group of patients."""
    if facts["subgroups"] is None:
        return _absent(facts, "subgroups")
    rows = []
    for row in facts["subgroups"]:
        cells = [_ends(row, name) for name in ("auc", "sensitivity", "specificity", "calibration")]
        note = "too few to compare" if str(row["is_small"]) == "True" else _differs(row)
        rows.append(
            [f"{row['column']}: {row['group']}", row["class"], note, number(int(row["images"])),
             number(int(row["positives"])), *map(interval, cells)]
        )  # fmt: skip
    head = ["group", "class", "differs in", "images", "positive", "AUC", "sensitivity", "specificity", "calibration"]
    says = _p(
        "Calibration is the share of positive images less the mean probability: above 0, the model says too little. A "
        "measure is named as differing only if it still does when all comparisons are counted."
    )
    return join([says, table(head, rows, caption="By group, with 95 % intervals", numbers=3)])


def gallery(facts: Facts, pictures: Sequence[Picture], note: str) -> Markup:
    """Returns images with their maps, and a control on each to compare the two.

    Args:
        facts: Of the run.
        pictures: To show.
        note: What to say of the maps, or why there is no picture.
    """
    parts = [_p(note)]
    for group, title in GROUPS.items():
        own = [picture for picture in pictures if picture.group == group]
        if own:
            cards = [_card(picture, f"{group}-{k}") for k, picture in enumerate(own)]
            parts += [tag("h3", title), tag("div", *cards, class_="cards")]
        elif pictures and group == "wrong":
            parts += [tag("h3", title), _p("No image was decided wrongly.")]
    return join([*parts, _errors(facts)])


def localization(facts: Facts) -> Markup:
    """Returns how well maps find what experts drew."""
    found = facts["localization"]
    if found is None:
        return _absent(facts, "localization")
    rows = [
        [
            words(name),
            number(row["threshold"], 2),
            *(interval(row[key]) for key in ("iou", "dice", "pointing", "energy")),
        ]
        for name, row in found["maps"].items()
    ]
    some = next(iter(found["maps"].values()))
    says = _p(
        f"Maps against lesion masks of {found['with_lesion']} images of {found['patients']} patients. Thresholds come "
        f"from {found['threshold_from']}. A map that knows nothing would have an IoU and an energy of ",
        number(some["area"]),
        "; pointing at the centre would hit ",
        number(some["centre"]),
        ".",
    )
    head = ["map", "threshold", "IoU", "Dice", "pointing game", "energy within"]
    return join([says, table(head, rows, caption="With 95 % intervals by patient", numbers=1)])


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
    weights = config.get("pretrained")
    rows.append(("Initial weights", str(weights).rsplit("/", 1)[-1] if weights else "random, by the seed"))
    rows += [(words(name).capitalize(), str(config[name])) for name in names if config.get(name) is not None]
    kept = "The epoch that was best on validation was kept."
    return join([_p(kept), _terms(rows), _charts(charts, "history") if facts["history"] else _absent(facts, "history")])


def comparison(facts: Facts) -> Markup:
    """Returns what differs between the run and others, on the same images."""
    parts = [
        _p(
            "Both runs decide the same images, each at its own operating point. Apart are measures whose difference "
            "has an interval without 0; of the Brier score, less is better. Other seeds may differ as much."
        )
    ]
    for found in facts["comparisons"]:
        title = f"{found['first']} and {found['second']}"
        parts.append(tag("h3", title))
        if "reason" in found:
            parts.append(_p(found["reason"], class_="note"))
            continue
        rows = [
            [words(name), number(row["first"]), number(row["second"]), interval({**row, "value": row["difference"]}),
             "apart" if row["low"] > 0 or row["high"] < 0 else "not told apart"]
            for name, row in found["measures"].items()
        ]  # fmt: skip
        says = f"{found['count']} images of {found['patients']} patients; differences with 95 % intervals, paired"
        head = ["measure", found["first"], found["second"], "difference", "verdict"]
        parts.append(table(head, rows, caption=says, numbers=1))
    return join(parts)


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
    says = _p(
        "What CLAIM 2024 and TRIPOD+AI ask of an article, in short and in our words, and where this page answers it. "
        "Items of abstract and discussion are the article’s own."
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
        parts.append(_terms(rows))
    else:
        parts.append(_absent(facts, "environment"))
    shown = {name: value for name, value in facts["config"].items() if value not in (None, [], {})}
    settings = yaml.safe_dump(json.loads(json.dumps(shown, default=str)), sort_keys=False)
    return join([*parts, tag("h3", "Configuration"), tag("pre", tag("code", settings), tabindex="0")])


TITLES = {
    "summary": "In short",
    "authors": "Question and intended use",
    "data": "Data",
    "performance": "Performance",
    "decisions": "Decisions",
    "sureness": "How sure it is",
    "subgroups": "Groups of patients",
    "gallery": "Images",
    "localization": "Where it looks",
    "training": "Training",
    "comparison": "Comparison of runs",
    "statements": "From the authors",
    "checklist": "Reporting checklist",
    "reproduce": "To reproduce this",
}


def _said(facts: Facts, names: Iterable[str]) -> Markup:
    rows = []
    for name in names:
        given = facts["author"][name]
        says = [_p(text) for text in given] if given else [_p(f"To be filled in: {FIELDS[name]}.", class_="to-fill")]
        rows.append((words(name).capitalize(), join(says)))
    return _terms(rows)


def _p(*children: Any, **attributes: Any) -> Markup:
    return tag("p", *children, **attributes)


def _terms(rows: Iterable[tuple[Any, Any]]) -> Markup:
    return tag("dl", *(part for name, value in rows for part in (tag("dt", name), tag("dd", value))), class_="terms")


def _absent(facts: Facts, part: str) -> Markup:
    """Returns what is missing of a part, and the command that makes it."""
    found = [row for row in facts["missing"] if row["part"] == part]
    says = [
        join([f"Not in this run: {row['what']}. It comes from ", tag("code", row["command"]), "."]) for row in found
    ]
    return _p(*says, class_="missing")


def _left_out(facts: Facts) -> list[Markup]:
    rows = [tag("li", row["what"], ": ", tag("code", row["command"])) for row in facts["missing"]]
    return [tag("div", _p("Not in this run:"), tag("ul", *rows), class_="missing")] if rows else []


def _with_code(text: str) -> Markup:
    """Returns text whose every second part between backticks is code."""
    return join(tag("code", part) if k % 2 else part for k, part in enumerate(text.split("`")))


def _headline_value(row: Mapping[str, Any]) -> Markup:
    return interval({key: row[key] for key in ("value", "low", "high")})


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


def _leaks(found: Mapping[str, Any]) -> Markup:
    leakage = found["leakage"]
    if not leakage["looked"]:
        return _p("No search for leaks is on record: the run has no leakage.csv.", class_="missing")
    if not leakage["found"]:
        return _p("Looked for patients, identical images and near-duplicates in two splits: none was found.")
    rows = [[f"{row['kind']}, {row['first']} and {row['second']}", number(row["count"])] for row in leakage["found"]]
    says = _p(
        "Splits share patients or images. Figures of this report are too good by an unknown amount.", class_="note"
    )
    return join([says, table(["leak", "pairs"], rows, caption="What stands in two splits", numbers=1)])


def _charts(charts: Charts, *names: str) -> Markup:
    return tag("div", *(chart.draw() for name in names for chart in charts.get(name, ())), class_="charts")


def _confusion(facts: Facts) -> Markup:
    found = facts["confusion"]
    if found is None:
        return _absent(facts, "evaluation")
    names = found["names"]
    if "confusion_matrices" in found:
        head = ["label", "rightly absent", "wrongly present", "wrongly absent", "rightly present"]
        rows = [[name, *map(number, sum(found["confusion_matrices"][name], []))] for name in names]
        return table(head, rows, caption="Decisions, in images", numbers=1)
    rows = []
    for k, (name, counts) in enumerate(zip(names, found["confusion_matrix"], strict=True)):
        whole = max(sum(counts), 1)
        cells = [
            tag(
                "span",
                number(count),
                class_="cell hit" if j == k else "cell miss",
                style=f"--share:{count / whole:.3f}",
            )
            for j, count in enumerate(counts)
        ]
        rows.append([f"truly {name}", *cells])
    head = ["", *(f"called {name}" for name in names)]
    return tag("div", table(head, rows, caption="Decisions, in images", numbers=1), class_="confusion")


def _ends(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"value": row.get(name), "low": row.get(f"{name}_low"), "high": row.get(f"{name}_high")}


def _differs(row: Mapping[str, Any]) -> str:
    return ", ".join(map(words, filter(None, str(row["stands_out"] or "").split("|"))))


def _card(picture: Picture, key: str) -> Markup:
    height, width = picture.size
    view = [tag("img", src=picture.image, alt=f"Image {picture.name}", width=width, height=height)]
    control = []
    if picture.overlay is not None:
        alt = f"What the model looked at in {picture.name}"
        view.append(tag("img", src=picture.overlay, alt=alt, width=width, height=height, class_="overlay"))
        control = [
            tag("label", "image", tag("input", type="range", min=0, max=100, value=100, id=f"fade-{key}",
                aria_label=f"Fade the map over {picture.name}", class_="fade"), "map", class_="compare")
        ]  # fmt: skip
    if picture.outline:
        lines = [tag("polygon", points=points) for points in picture.outline]
        label = f"Outline of the lesion in {picture.name}"
        view.append(tag("svg", *lines, viewBox=f"0 0 {width} {height}", class_="outline", role="img", aria_label=label))
    plain = tag(
        "img", src=picture.image, alt=f"Image {picture.name}, without map", width=width, height=height, class_="plain"
    )
    shown = tag("div", tag("div", *view, class_="view"), plain if picture.overlay else None, class_="views")
    return tag(
        "figure", shown, *control, tag("figcaption", tag("strong", picture.name), _terms(picture.lines)), class_="card"
    )


def _errors(facts: Facts) -> Markup | None:
    if not facts["errors"]:
        return None
    rows = [
        [row["id"], row["label"], row["decided"], number(row["probability_of_truth"])] for row in facts["errors"][:10]
    ]
    more = f" of {len(facts['errors'])}" if len(facts["errors"]) > 10 else ""
    caption = f"Worst errors, {len(rows)}{more}: the truth was given the least probability first"
    return table(["image", "true", "decided", "probability of the truth"], rows, caption=caption, numbers=3)
