"""HTML by construction: whatever is not markup already is escaped on its way in."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from pipelines.report.facts.missing import ABSENT, is_absent

VOID = ("img", "input", "path", "line", "circle", "polygon", "polyline")


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """Returns an element.

    Args:
        name: Of the element.
        *children: Markup, or text that is escaped; None is left out.
        **attributes: Their values are escaped; True stands alone, None and False are left out. A trailing underscore
            is dropped (`class_`), others become hyphens (`aria_label`).

    Example:
        >>> print(tag("a", "a < b", href='"', class_="x"))
        <a href="&#34;" class="x">a &lt; b</a>
    """
    words = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{words}/>")
    return Markup(f"<{name}{words}>{join(children)}</{name}>")


def join(children: Iterable[Any], between: str = "") -> Markup:
    """Returns children one after the other, each escaped unless it is markup.

    Example:
        >>> print(join(["a & b", tag("b", "c")], ", "))
        a &amp; b, <b>c</b>
    """
    return Markup(between).join(child for child in children if child is not None)


def number(value: float | None, digits: int = 3) -> Markup:
    """Returns a measure in so many decimals, with its whole value for machines.

    Example:
        >>> print(number(0.97345), number(None))
        <data value="0.97345">0.973</data> –
    """
    if is_absent(value):
        return Markup(ABSENT)
    said = str(value) if isinstance(value, int) else f"{value:.{digits}f}"
    return tag("data", said.replace("-", "\N{MINUS SIGN}"), value=repr(value))


def interval(found: Mapping[str, float | None] | None, digits: int = 3) -> Markup:
    """Returns a measure with its interval, if it has one.

    Example:
        >>> print(interval({"value": 0.5, "low": 0.4, "high": 0.6}, 1)[:52])
        <data value="0.5">0.5</data> <span class="interval">
    """
    if found is None or is_absent(found.get("value")):
        return Markup(ABSENT)
    ends = [found.get("low"), found.get("high")]
    if any(map(is_absent, ends)):
        return number(found["value"], digits)
    apart = tag("span", join((number(end, digits) for end in ends), " to "), class_="interval")
    return join([number(found["value"], digits), apart], " ")


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]], *, caption: str, numbers: int = 0) -> Markup:
    """Returns a table that scrolls within itself where it is wider than the page.

    Args:
        head: Of the columns.
        rows: Cells; the first one of each row names it.
        caption: What stands above.
        numbers: From which column on, counted from 0, cells are numbers; 0 for none.
    """
    kind = ["num" if numbers and k >= numbers else None for k in range(len(head))]
    top = tag("tr", *(tag("th", cell, scope="col", class_=c) for cell, c in zip(head, kind, strict=True)))
    lines = []
    for first, *rest in rows:
        cells = [tag("td", cell, class_=c) for cell, c in zip(rest, kind[1:], strict=True)]
        lines.append(tag("tr", tag("th", first, scope="row"), *cells))
    kind = "wide" if numbers and len(head) - numbers > 4 else None
    whole = tag("table", tag("caption", caption), tag("thead", top), tag("tbody", *lines), class_=kind)
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _attribute(key: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(value)}"'
