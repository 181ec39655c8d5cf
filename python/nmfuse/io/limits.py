"""How many pixels a file may say it has; one limit for all formats whose files can say more than they hold."""

from __future__ import annotations

import os
from pathlib import Path

MAX_PIXELS = 2**27  # 1.3e8: more than cameras have; 0.8 GB of 16-bit colour
VARIABLE = "NMFUSE_MAX_PIXELS"


def max_pixels() -> int:
    """Return the limit: `MAX_PIXELS`, or what the environment variable says.

    Raises
    ------
    ValueError
        If that is no number.

    Examples
    --------
    >>> max_pixels()
    134217728
    """
    text = os.environ.get(VARIABLE, "")
    if text and not text.isdecimal():
        raise ValueError(f"{VARIABLE}: got {text!r}; expected a number of pixels such as 1600000000")
    return int(text) if text else MAX_PIXELS


def refuse_too_large(path: Path, pixels: int) -> None:
    """Refuse a file that says it has more pixels than the limit, before any of them is decoded.

    Raises
    ------
    ValueError
        If it has; it says how to raise the limit.

    Examples
    --------
    >>> refuse_too_large(Path("x.png"), 40000 * 40000)
    Traceback (most recent call last):
    ...
    ValueError: x.png: has 1600000000 pixels, more than 134217728, which may be an attack; ...
    """
    limit = max_pixels()
    if pixels > limit:
        raise ValueError(
            f"{path}: has {pixels} pixels, more than {limit}, which may be an attack; "
            f"set the environment variable {VARIABLE}={pixels} if you trust it"
        )
