"""The model card: the facts of a run in Markdown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipelines.report.checklist import answers
from pipelines.report.facts.author import FIELDS
from pipelines.report.facts.missing import ABSENT, is_absent
from pipelines.report.facts.names import words
from pipelines.report.page.parts import TITLES
from pipelines.report.page.render import NOTICE

Facts = Mapping[str, Any]


def render_card(facts: Facts) -> str:
    """Returns the model card, with the same numbers as the page.

    Args:
        facts: See `pipelines.report.page.render.render_page`.

    Example:
        >>> import tempfile
        >>> from pipelines.report.facts.read import read_facts
        >>> from pipelines.io.run_folder import RunFolder
        >>> run = RunFolder(tempfile.mkdtemp())
        >>> _ = run.write_config({"data": "phantom", "model": "focusnet2d"})
        >>> render_card(read_facts(run) | {"comparisons": []}).splitlines()[0]
        '# focusnet2d on phantom'
    """
    parts = [
        f"# {plain(facts['title'])}",
        NOTICE,
        f"Run `{_code(facts['run'])}`, model `{_code(facts['model']['name'])}`, "
        f"data `{_code(facts['data']['source'])}`.",
        *_headline(facts),
        *_authors(facts),
        *_data(facts),
        *_classes(facts),
        *_localization(facts),
        *_comparison(facts),
        *_missing(facts),
        *_checklist(facts),
        f"## {TITLES['reproduce']}",
        "```\n" + "\n".join(facts["commands"]).replace("```", "'''") + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def plain(text: Any) -> str:
    """Returns text without effect in Markdown or HTML.

    Example:
        >>> print(plain("<b>"))
        &lt;b&gt;
    """
    escaped = str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|#])", r"\\\1", " ".join(escaped.split()))


def measure(found: Mapping[str, Any] | None) -> str:
    """Returns a measure with its interval, in three decimals.

    Example:
        >>> measure({"value": 0.5, "low": 0.4, "high": 0.6}), measure(None)
        ('0.500 (0.400 to 0.600)', '–')
    """
    if found is None or is_absent(found.get("value")):
        return ABSENT
    ends = [found.get("low"), found.get("high")]
    apart = "" if any(map(is_absent, ends)) else f" ({ends[0]:.3f} to {ends[1]:.3f})"
    return f"{found['value']:.3f}{apart}"


def _code(text: Any) -> str:
    return str(text).replace("`", "'")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _headline(facts: Facts) -> list[str]:
    rows = [[row["name"], measure(row), plain(row["sentence"])] for row in facts["headline"]]
    done = facts["evaluation"]
    if not rows:
        return []
    of = f"{done['count']} images of {done['patients']} patients, {done['split']} split; 95 % intervals by patient."
    return [f"## {TITLES['summary']}", of, _table(["figure", "value", "in words"], rows)]


def _authors(facts: Facts) -> list[str]:
    lines = []
    for name, prompt in FIELDS.items():
        given = facts["author"][name]
        if name != "title":
            says = " ".join(map(plain, given)) if given else f"*To be filled in: {prompt}.*"
            lines.append(f"- **{words(name).capitalize()}**: {says}")
    return [f"## {TITLES['authors']}", "\n".join(lines)]


def _data(facts: Facts) -> list[str]:
    counts = facts["data"]["counts"] or {}
    rows = [
        [plain(name), *(str(split["classes"][name]) for split in counts.values())]
        for name in facts["data"]["class_names"]
    ]
    rows += [[what, *(str(split[what]) for split in counts.values())] for what in ("images", "patients")]
    found = facts["data"]["leakage"]["found"]
    leaks = "No search for leaks is on record."
    if found is not None:
        pairs = ", ".join(f"{row['count']} {row['kind']} ({row['first']}, {row['second']})" for row in found)
        leaks = f"Leaks between splits: {pairs or 'none found'}."
    return [f"## {TITLES['data']}", *([_table(["", *counts], rows)] if counts else []), leaks]


def _classes(facts: Facts) -> list[str]:
    if not facts["classes"]:
        return []
    head = ["class", "images", *map(words, facts["classes"][0]["measures"])]
    rows = [
        [plain(row["name"]), str(row["images"]), *map(measure, row["measures"].values())] for row in facts["classes"]
    ]
    return [f"## {TITLES['performance']}", "At the operating point.", _table(head, rows)]


def _localization(facts: Facts) -> list[str]:
    if facts["localization"] is None:
        return []
    names = ("iou", "dice", "pointing", "energy")
    rows = [[words(name), *(measure(row[key]) for key in names)] for name, row in facts["localization"]["maps"].items()]
    return [f"## {TITLES['localization']}", _table(["map", *map(words, names)], rows)]


def _comparison(facts: Facts) -> list[str]:
    parts = []
    for found in facts["comparisons"]:
        parts.append(f"### {plain(found['first'])} less {plain(found['second'])}")
        if "reason" in found:
            parts.append(plain(found["reason"]))
            continue
        rows = [[words(name), measure({**row, "value": row["difference"]})] for name, row in found["measures"].items()]
        parts.append(_table(["measure", "difference"], rows))
    return [f"## {TITLES['comparison']}", *parts] if parts else []


def _missing(facts: Facts) -> list[str]:
    lines = [
        f"- {row['what']}{plain(' (' + row['damaged'] + ')') if 'damaged' in row else ''}: `{_code(row['command'])}`"
        for row in facts["missing"]
    ]
    return ["## Not in this run", "\n".join(lines)] if lines else []


def _checklist(facts: Facts) -> list[str]:
    rows = [[found.item.asks, found.item.claim, found.item.tripod, found.state] for found in answers(facts)]
    return [f"## {TITLES['checklist']}", _table(["item", "CLAIM 2024", "TRIPOD+AI", "state"], rows)]
