"""Two checklists for articles on such models, CLAIM 2024 and TRIPOD+AI: what this report answers, and what it cannot.

Items are named in our own words, by their numbers; the abstract (2) and the updating of models (12f and 24 of
TRIPOD+AI) are left out. References: Tejani et al., Radiology: Artificial Intelligence 6:e240300, 2024; Collins et al.,
BMJ 385:e078378, 2024.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pipelines.report.facts.author import FIRST


@dataclasses.dataclass(frozen=True)
class Item:
    """One thing that readers must be told.

    Attributes:
        claim: Its numbers in CLAIM 2024; empty where it has none.
        tripod: Its numbers in TRIPOD+AI.
        asks: What is asked.
        section: Of the page that answers it, if the run has what that section shows; empty for what a run cannot know.
        needs: The fact that the section needs; by default the section's own name.
        author: The field of `report.yaml` that answers it, or answers it too.
        add: What the section does not say and the authors must add.
    """

    claim: str
    tripod: str
    asks: str
    section: str = ""
    needs: str = ""
    author: str = ""
    add: str = ""


ITEMS = (
    Item("1", "1", "Title names the kind of method and the task", author="title"),
    Item("3", "3a, 3b", "Background; intended use, users and place in care", author="intended_use"),
    Item("", "3c", "Known inequalities between groups of patients", author="harms"),
    Item("4, 6", "4", "Aim and question", author="question"),
    Item("5, 8", "6a to 6c", "Study design; who was eligible, where and when", author="population"),
    Item("7", "5a, 5b", "Sources of the data", "data", add="origin and dates of the collection", author="population"),
    Item("9, 10", "7, 12b", "Preprocessing and choice of images", "data"),
    Item("11", "", "De-identification", author="deidentification"),
    Item("12", "11", "What is missing, and what was done about it", "data", add="why labels or images are missing"),
    Item("13", "9a to 9c", "How images were acquired", author="acquisition"),
    Item("14 to 18", "8a to 8c", "Reference standard: who, how, and how far they agreed", author="reference_standard"),
    Item("19, 20", "12a", "Partitions, disjoint by patient; a search for leaks", "data", needs="counts"),
    Item("21", "10", "Size of the sample, and why", "data", needs="counts", add="why", author="sample_size"),
    Item("22", "12g, 22", "The model, in full", "reproduce", needs="config"),
    Item("23", "", "Software and its versions", "reproduce", needs="environment"),
    Item("24", "12c", "Initial weights", "training", needs="config"),
    Item("25", "12c", "Training: augmentation, settings, course", "training", needs="history"),
    Item("", "13", "Class imbalance", "data", needs="counts"),
    Item("26", "12c", "How the final model was chosen", "training", needs="config"),
    Item("", "15", "Output of the model, and how thresholds were set", "decisions", needs="operating_point"),
    Item("27", "12c", "Ensembles, if any", "training", needs="config"),
    Item("28", "12e", "Measures of performance", "performance", needs="evaluation"),
    Item("29", "23a", "Uncertainty of the measures", "performance", needs="overall"),
    Item("30", "", "Robustness: other data, other seeds", "comparison", needs="comparisons"),
    Item("31", "", "Explanations, and how they were checked", "localization"),
    Item("32", "23a", "Performance on unseen images of the same source", "summary", needs="headline"),
    Item(
        "33",
        "16, 20c",
        "Performance on data from elsewhere, and how they differ",
        add="`medkeras evaluate RUN --data OTHER`",
    ),
    Item("34", "18d", "Registration", author="registration"),
    Item("35", "20a, 21", "Numbers of patients and images", "data", needs="counts", add="how many were left out"),
    Item("36", "20b", "Age, sex and illness in each partition", author="population"),
    Item("37, 38", "23a", "Performance with intervals, calibration included", "performance", needs="overall"),
    Item("", "12d, 14, 23a, 23b", "Fairness: performance by group", "subgroups"),
    Item("39", "", "Analysis of errors", "gallery", needs="errors", add="what the errors have in common"),
    Item("40", "26", "Limitations", author="limitations"),
    Item("41", "25, 27a to 27c", "What it means for practice", author="intended_use"),
    Item("42, 43", "18c, 18e, 18f", "Protocol, code, model and data: where", author="availability"),
    Item("44", "18a, 18b", "Funding and conflicts of interest", author="funding"),
    Item("", "17", "Ethical approval and consent", author="ethics"),
    Item("", "19", "Patients and public took part", author="involvement"),
)


@dataclasses.dataclass(frozen=True)
class Answer:
    """How far an item is answered.

    Attributes:
        item: The item.
        state: `answered`, `in part`, or `not answered by this run`.
        where: The section that answers it, or an empty text.
        add: What the authors must add.
    """

    item: Item
    state: str
    where: str
    add: str


def answers(facts: Mapping[str, Any]) -> list[Answer]:
    """Returns how far each item is answered by the facts of a run.

    Args:
        facts: See `pipelines.report.facts.read.read_facts`.

    Example:
        >>> facts = {"author": {"ethics": ["Approved."]}, "data": {}}
        >>> [answer.state for answer in answers(facts) if answer.item.author == "ethics"]
        ['answered']
    """
    return [_answer(item, facts) for item in ITEMS]


def _answer(item: Item, facts: Mapping[str, Any]) -> Answer:
    has_author = bool(item.author and facts["author"].get(item.author))
    has_section = bool(item.section) and _has(facts, item.needs or item.section)
    open_ = item.add if has_section or not item.author else ""
    if item.author and not has_author:
        open_ = open_ or f"`{item.author}` in report.yaml"
    elif item.author:
        open_ = ""
    if not has_section and item.section:
        open_ = "the part of the run that it needs; see what is missing"
    if has_section or has_author:
        where = item.section if has_section else _written(item.author)
        return Answer(item, "in part" if open_ else "answered", where, open_)
    return Answer(item, "not answered by this run", "", open_)


def _written(field: str) -> str:
    """Returns the section in which a field of the authors stands."""
    return "summary" if field == "title" else "authors" if field in FIRST else "statements"


def _has(facts: Mapping[str, Any], name: str) -> bool:
    found = facts.get(name)
    return bool(facts["data"].get(name) if found is None else found)
