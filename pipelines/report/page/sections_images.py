"""The gallery: images, their maps, and a control on each to compare the two; and the worst errors."""

from collections.abc import Sequence

from pipelines.report.page.markup import Markup, join, number, table, tag
from pipelines.report.page.parts import Facts, absent, is_damaged, paragraph, terms
from pipelines.report.page.pictures import GROUPS, Picture


def gallery(facts: Facts, pictures: Sequence[Picture], note: str) -> Markup:
    """Returns images with their maps, and a control on each to compare the two.

    Args:
        facts: Of the run.
        pictures: To show.
        note: What to say of the maps, or why there is no picture.
    """
    parts = [paragraph(note)]
    for group, title in GROUPS.items():
        own = [picture for picture in pictures if picture.group == group]
        if own:
            cards = [_card(picture, f"{group}-{k}") for k, picture in enumerate(own)]
            parts += [tag("h3", title), tag("div", *cards, class_="cards")]
        elif pictures and group == "wrong":
            parts += [tag("h3", title), paragraph("No image was decided wrongly.")]
    return join([*parts, _errors(facts)])


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
    name = join(picture.name.split("/"), "/<wbr>")
    return tag("figure", shown, *control, tag("figcaption", tag("strong", name), terms(picture.lines)), class_="card")


def _errors(facts: Facts) -> Markup | None:
    if is_damaged(facts, "errors"):
        return absent(facts, "errors")
    if not facts["errors"]:
        return None
    rows = [
        [row["id"], row["label"], row["decided"], number(row["probability_of_truth"])] for row in facts["errors"][:10]
    ]
    more = f" of {len(facts['errors'])}" if len(facts["errors"]) > 10 else ""
    caption = f"Worst errors, {len(rows)}{more}: the truth was given the least probability first"
    return table(["image", "true", "decided", "probability of the truth"], rows, caption=caption, numbers=3)
