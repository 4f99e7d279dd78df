"""Which kind of image a file is: by its name, or for DICOM by its first bytes where the name is silent."""

import os
import re

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
VOLUME_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr")
DICOM_NAMED = re.compile(r"\.(dcm|dicom|ima)$", re.IGNORECASE)
DICOM_UNNAMED = re.compile(r"^[^.]+$|\.\d+$")  # File names are often UIDs, which end in a number.


def is_image(name: str) -> bool:
    """Says whether a file name has the suffix of an image, in any letter case.

    Example:
        >>> is_image("a/B.PNG"), is_image("notes.txt")
        (True, False)
    """
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_volume(name: str) -> bool:
    """Says whether a file name has the suffix of a volume, in any letter case.

    Example:
        >>> is_volume("a/B.NII.gz"), is_volume("a.gz")
        (True, False)
    """
    return name.lower().endswith(VOLUME_SUFFIXES)


def is_dicom(path: str | os.PathLike) -> bool:
    """Says whether a file is DICOM: by its suffix, or by its content where it has none or a number.

    Example:
        >>> is_dicom("a/B.DCM"), is_dicom("notes.txt")
        (True, False)
    """
    name = os.path.basename(path)
    if DICOM_NAMED.search(name):
        return True
    try:
        with open(path if DICOM_UNNAMED.search(name) else os.devnull, "rb") as file:
            return file.read(132).endswith(b"DICM")
    except OSError:
        return False


def stem_of(path: str) -> str:
    """Returns a path without its suffix; that of a volume may be double.

    Example:
        >>> stem_of("a/b.nii.gz"), stem_of("a/b.c.png"), stem_of("a/b")
        ('a/b', 'a/b.c', 'a/b')
    """
    volume = next((s for s in (".nii.gz", *VOLUME_SUFFIXES) if path.lower().endswith(s)), None)
    return path[: -len(volume)] if volume else os.path.splitext(path)[0]
