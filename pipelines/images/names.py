"""What an image file is called."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def is_image(name: str) -> bool:
    """Says whether a file name has the suffix of an image, in any letter case.

    Example:
        >>> is_image("a/B.PNG"), is_image("notes.txt")
        (True, False)
    """
    return name.lower().endswith(IMAGE_SUFFIXES)
