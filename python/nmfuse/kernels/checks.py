"""Checks that several front doors make of their arguments."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np


def is_whole(value: Any) -> TypeGuard[int]:
    """Return whether it is a whole number, of Python or NumPy; True and False are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether it is a real number, of Python or NumPy; True and False are none."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def check_count(name: str, value: Any, least: int) -> None:
    """Refuse an argument that is no whole number of at least `least`."""
    if not is_whole(value) or value < least:
        raise ValueError(f"{name}: got {value!r}; expected an int of at least {least}")


def check_spatial(spatial: int) -> None:
    """Refuse a number of axes that the kernels do not filter."""
    if not is_whole(spatial) or spatial not in (2, 3):
        raise ValueError(f"spatial: got {spatial!r}; expected 2 (images) or 3 (volumes)")
