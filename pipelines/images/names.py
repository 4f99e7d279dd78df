"""What an image file is called, and of which kind it is by its name or its first bytes."""

import os
import re

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
DICOM_SUFFIX = re.compile(r"\.(dcm|dicom|ima)$", re.IGNORECASE)
UID_NAME = re.compile(r"^[^.]+$|\.\d+$")  # File names are often UIDs, which end in a number.


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
    if DICOM_SUFFIX.search(name):
        return True
    try:
        with open(path if UID_NAME.search(name) else os.devnull, "rb") as file:
            return file.read(132).endswith(b"DICM")
    except OSError:
        return False
