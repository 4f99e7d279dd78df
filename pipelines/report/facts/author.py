"""What only the authors of a run can say: `report.yaml` in the run folder."""

from typing import Any

from medkeras.errors import InputError, perhaps
from pipelines.io.run_folder import RunFolder
from pipelines.io.yaml_file import read_yaml

NAME = "report.yaml"
FIRST = ("question", "intended_use", "limitations")  # What a reader must know before any figure.
FIELDS = {
    "title": "a title that names the method and the task",
    "question": "the clinical question that the model shall help to answer",
    "intended_use": "who shall use it, for whom, at which step of care, and for what it is not meant",
    "population": "which patients, where and when; why others were left out",
    "acquisition": "scanners, protocols and settings of the images",
    "reference_standard": "who decided what is true, by which rule, and how far they agreed",
    "deidentification": "how the images were stripped of identity",
    "sample_size": "why there are as many images as there are",
    "ethics": "approval of the ethics committee, and consent",
    "involvement": "how patients and the public took part",
    "limitations": "what the figures do not show",
    "harms": "what a wrong answer does to a patient, and known inequalities in care",
    "registration": "registration and protocol of the study",
    "availability": "where code, model and data can be had",
    "funding": "who paid, and what part they had",
    "conflicts": "conflicts of interest",
    "contact": "whom to ask",
}


def read_author(run: RunFolder) -> dict[str, list[str] | None]:
    """Returns what the authors wrote of each of `FIELDS`, in paragraphs; None where they did not.

    Raises:
        ValueError: If `report.yaml` is no table of known fields, each a text or a list of texts.

    Example:
        >>> read_author(RunFolder("no-such-run"))["intended_use"] is None
        True
    """
    path = run / NAME
    given = read_yaml(path, may_be_empty=True) if path.is_file() else {}
    for key in given:
        if key not in FIELDS:
            known = f"{', '.join(FIELDS)}{perhaps(key, FIELDS)}"
            raise InputError(f"{NAME} has fields of {known}. Received: {path} with {key}")
    return {name: _paragraphs(given.get(name), name, path) for name in FIELDS}


def _paragraphs(value: Any, name: str, path: Any) -> list[str] | None:
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(part, (dict, list)) for part in parts):
        raise InputError(f"A field of {NAME} is a text or a list of texts. Received: {path} with {name}={value!r}")
    found = [str(part).strip() for part in parts if part is not None and str(part).strip()]
    return found or None
