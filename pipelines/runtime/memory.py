"""Freed memory is kept, so that the next batch finds it."""

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # Parameters of glibc's `mallopt`.
LIMITS = (2**30, 2**25)  # Older versions allow no more than the second.


def keep_freed_memory() -> bool:
    """Has blocks of up to 1 GiB, in older versions 32 MiB, reused when they are freed, where the C library is glibc.

    By default glibc gives each freed batch back to the system, which clears its pages before it lends them
    again: up to a third of the time of a compiled augmentation. What is kept is at most what was once in use.

    Returns:
        Whether it was done; on other systems nothing changes.

    Reference:
        `mallopt(3)`, M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.

    Example:
        >>> keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
        True
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(any(mallopt(parameter, limit) for limit in LIMITS) for parameter in (TRIM_THRESHOLD, MMAP_THRESHOLD))
