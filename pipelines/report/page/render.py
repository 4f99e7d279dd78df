"""The page: one HTML file that needs no other, and reaches for nothing outside itself."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2

from pipelines.report.page import sections_images, sections_made, sections_measured
from pipelines.report.page.parts import TITLES
from pipelines.report.page.pictures import Picture
from pipelines.report.page.svg import Chart

NOTICE = "For research. This is not a medical device, and this report does not show that it is fit for clinical use."


def render_page(
    facts: Mapping[str, Any],
    charts: Mapping[str, Sequence[Chart]],
    pictures: Sequence[Picture],
    *,
    note: str = "",
) -> str:
    """Returns the page as HTML.

    Args:
        facts: See `pipelines.report.facts.read.read_facts`; with `comparisons`, which is empty for a single run.
        charts: `ranking`, `decision`, `sureness` and `history`, as far as there are any.
        pictures: Of the gallery.
        note: What stands above the gallery.

    Example:
        >>> import tempfile
        >>> from pipelines.report.facts.read import read_facts
        >>> from pipelines.io.run_folder import RunFolder
        >>> run = RunFolder(tempfile.mkdtemp())
        >>> _ = run.write_config({"data": "phantom", "model": "focusnet2d"})
        >>> page = render_page(read_facts(run) | {"comparisons": []}, {}, [])
        >>> page[:15], "<title>focusnet2d on phantom</title>" in page
        ('<!doctype html>', True)
    """
    made = {
        "summary": sections_measured.summary(facts),
        "authors": sections_made.authors(facts),
        "data": sections_made.data(facts),
        "performance": sections_measured.performance(facts, charts),
        "decisions": sections_measured.decisions(facts),
        "sureness": sections_measured.sureness(facts, charts),
        "subgroups": sections_measured.subgroups(facts),
        "gallery": sections_images.gallery(facts, pictures, note),
        "localization": sections_measured.localization(facts),
        "training": sections_made.training(facts, charts),
        "comparison": sections_measured.comparison(facts) if facts["comparisons"] else None,
        "statements": sections_made.statements(facts),
        "checklist": sections_made.checklist(facts),
        "reproduce": sections_made.reproduce(facts),
    }
    script = _part("script.js")
    # Whatever is not markup already is escaped on its way into the page.
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(_part("template.html"))
    return page.render(
        title=facts["title"],
        policy=_policy(script),
        style=_part("style.css"),
        script=script,
        about=_about(facts),
        notice=NOTICE,
        titles=TITLES,
        sections={name: body for name, body in made.items() if body is not None},
    )


def _part(name: str) -> str:
    return (resources.files("pipelines.report.page") / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Returns the content security policy: no network, and no script but the page's own."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _about(facts: Mapping[str, Any]) -> str:
    found = facts["data"]
    names = ", ".join(found["class_names"][:6]) + (", …" if len(found["class_names"]) > 6 else "")
    says = [f"Run {facts['run']}", f"model {facts['model']['name']}", f"data {found['source']}"]
    return " · ".join([*says, *([names] if names else [])])
