"""Sections on what a run is worth: figures, decisions, how sure it is, for whom, where it looks, beside which."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.report.facts.missing import is_absent
from pipelines.report.facts.names import words
from pipelines.report.page.markup import Markup, interval, join, number, table, tag
from pipelines.report.page.parts import Charts, Facts, absent, drawn, is_damaged, paragraph, terms

RULES = {
    "youden": "the largest sum of sensitivity and specificity",
    "f1": "the largest F1",
}


def summary(facts: Facts) -> Markup:
    """Returns the first figures with their sentences, and what is missing."""
    if not facts["headline"]:
        others = [row for row in facts["missing"] if row["part"] != "evaluation"]
        return join([absent(facts, "evaluation"), *_left_out(others)])
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
    first = paragraph(
        f"Measured on {of} of the {done['split']} split, which training has not seen. "
        "Ranges are 95 % intervals by patient: what other patients of the same kind might have given."
    )
    return join([first, tag("dl", *cards, class_="figures"), *_left_out(facts["missing"])])


def performance(facts: Facts, charts: Charts) -> Markup:
    """Returns measures by class, their curves and the decision curve."""
    if not facts["classes"]:
        return absent(facts, "evaluation")
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
    parts += [absent(facts, name) for name in ("predictions", "decision_curve") if is_damaged(facts, name)]
    return join([*parts, drawn(charts, "ranking", "decision")])


def decisions(facts: Facts) -> Markup:
    """Returns the operating point, and how often it decides what."""
    point, parts = facts["operating_point"], []
    if is_damaged(facts, "operating_point"):
        parts.append(absent(facts, "operating_point"))
    elif point is None:
        parts.append(paragraph("The run has no operating point: its training has not ended."))
    elif point["thresholds"] is None:
        parts.append(paragraph("The most probable class is decided; no threshold was chosen."))
    else:
        names = facts["data"]["class_names"]
        of = names[1:] if len(point["thresholds"]) == 1 and len(names) == 2 else names
        rule = RULES.get(point["rule"], point["rule"])
        chosen = {"val": "validation"}.get(point.get("chosen_on") or "val", point.get("chosen_on"))
        parts.append(
            paragraph(
                f"An image is called so where its probability reaches the threshold. The rule was {rule}, on the "
                f"{chosen} images, and the threshold has been frozen since."
            )
        )
        rows = [[name, number(value)] for name, value in zip(of, point["thresholds"], strict=False)]
        parts.append(table(["class", "threshold"], rows, caption="Operating point", numbers=1))
    return join([*parts, _confusion(facts)])


def sureness(facts: Facts, charts: Charts) -> Markup:
    """Returns calibration as trained and as calibrated, prediction sets and referral."""
    found, fitted = facts["calibration"] or {}, facts["calibrated"]
    parts = _how_calibrated(fitted) if fitted else [absent(facts, "calibrated")]
    if found.get("after"):
        parts.append(_calibration_table(found, is_scaled=bool(fitted) and _is_scaled(fitted)))
    parts.append(drawn(charts, "sureness"))
    if found.get("sets"):
        parts += _sets(found["sets"])
    selective = found.get("selective") or {}
    if not is_absent(selective.get("referred")):
        rows = [
            ("Referred to a person", number(selective["referred"])),
            ("Wrong among the rest", number(selective.get("risk_kept"))),
            ("Wanted", number(selective.get("wanted_risk"))),
            ("Wrong among all", number(selective.get("risk"))),
        ]
        parts += [tag("h3", "Referral"), terms(rows)]
    return join(parts)


def _how_calibrated(fitted: Facts) -> list[Markup]:
    how = f"calibrated by {fitted['method']}" if _is_scaled(fitted) else "left as the model gives them"
    said = f"Probabilities were {how}; sets and referral rest on {fitted.get('images')} validation images."
    left_out = fitted.get("left_out", {})
    return [paragraph(said), *(paragraph(f"No {name}: {why}", class_="note") for name, why in left_out.items())]


def _is_scaled(fitted: Facts) -> bool:
    return fitted.get("method") not in (None, "none") and "scaling" not in fitted.get("left_out", {})


def _calibration_table(found: Facts, *, is_scaled: bool) -> Markup:
    columns = {"before": "as trained"} | ({"after": "calibrated"} if is_scaled else {})
    shown = {
        "expected calibration error": ("ece", interval),
        "the same, bins of equal mass": ("ece_equal_mass", interval),
        "Brier score": ("brier", number),
        "negative log-likelihood": ("nll", number),
    }
    rows = [[title, *(form(found[when][key]) for when in columns)] for title, (key, form) in shown.items()]
    caption = "Calibration on these images; less is better"
    return table(["", *columns.values()], rows, caption=caption, numbers=1)


def _sets(sets: Facts) -> list[Markup]:
    rows = [["all", interval(sets["covered"])], *([name, interval(each)] for name, each in sets["per_class"].items())]
    promised = f"{100 * sets['promised']:.0f} %"
    said = f"Each image gets a set of classes that shall hold the truth in {promised} of cases; sets have "
    return [
        tag("h3", "Prediction sets"),
        paragraph(said, number(sets["mean_size"], 2), " on average."),
        table(["class", "share that holds the truth"], rows, caption=f"Promised: {promised}", numbers=1),
    ]


def subgroups(facts: Facts) -> Markup:
    """Returns the measures of each group of patients."""
    if facts["subgroups"] is None:
        return absent(facts, "subgroups")
    rows = []
    for row in facts["subgroups"]:
        cells = [_ends(row, name) for name in ("auc", "sensitivity", "specificity", "calibration")]
        note = "too few to compare" if str(row["is_small"]) == "True" else _differs(row)
        rows.append(
            [f"{row['column']}: {row['group']}", row["class"], note, _count(row["images"]),
             _count(row["positives"]), *map(interval, cells)]
        )  # fmt: skip
    head = ["group", "class", "differs in", "images", "positive", "AUC", "sensitivity", "specificity", "calibration"]
    says = paragraph(
        "Calibration is the share of positive images less the mean probability: above 0, the model says too little. A "
        "measure is named as differing only if it still does when all comparisons are counted."
    )
    return join([says, table(head, rows, caption="By group, with 95 % intervals", numbers=3)])


def localization(facts: Facts) -> Markup:
    """Returns how well maps find what experts drew."""
    found = facts["localization"]
    if found is None:
        return absent(facts, "localization")
    rows = [
        [
            words(name),
            number(row["threshold"], 2),
            *(interval(row[key]) for key in ("iou", "dice", "pointing", "energy")),
        ]
        for name, row in found["maps"].items()
    ]
    some = next(iter(found["maps"].values()))
    says = paragraph(
        f"Maps against lesion masks of {found['with_lesion']} images of {found['patients']} patients. Thresholds come "
        f"from {found['threshold_from']}. A map that knows nothing would have an IoU and an energy of ",
        number(some["area"]),
        "; pointing at the centre would hit ",
        number(some["centre"]),
        ".",
    )
    head = ["map", "threshold", "IoU", "Dice", "pointing game", "energy within"]
    return join([says, table(head, rows, caption="With 95 % intervals by patient", numbers=1)])


def comparison(facts: Facts) -> Markup:
    """Returns what differs between the run and others, on the same images."""
    parts = [
        paragraph(
            "Both runs decide the same images, each at its own operating point. Apart are measures whose difference "
            "has an interval without 0; of the Brier score, less is better. Other seeds may differ as much."
        )
    ]
    for found in facts["comparisons"]:
        title = f"{found['first']} and {found['second']}"
        parts.append(tag("h3", title))
        if "reason" in found:
            parts.append(paragraph(found["reason"], class_="note"))
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


def _left_out(missing: Sequence[Mapping[str, str]]) -> list[Markup]:
    damaged = [
        tag("li", f"{row['what']}. {row['damaged']}: ", tag("code", row["command"]))
        for row in missing
        if "damaged" in row
    ]
    gone = [tag("li", row["what"], ": ", tag("code", row["command"])) for row in missing if "damaged" not in row]
    return [
        tag("div", paragraph(title), tag("ul", *rows), class_="missing")
        for title, rows in (("There, but it cannot be read:", damaged), ("Not in this run:", gone))
        if rows
    ]


def _headline_value(row: Mapping[str, Any]) -> Markup:
    return interval({key: row[key] for key in ("value", "low", "high")})


def _confusion(facts: Facts) -> Markup:
    found = facts["confusion"]
    if found is None:
        return absent(facts, "evaluation")
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


def _count(value: float | None) -> Markup:
    return number(None if value is None else int(value))


def _ends(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"value": row.get(name), "low": row.get(f"{name}_low"), "high": row.get(f"{name}_high")}


def _differs(row: Mapping[str, Any]) -> str:
    return ", ".join(map(words, filter(None, str(row["stands_out"] or "").split("|"))))
