"""Checks that several front doors make of their arguments."""

from __future__ import annotations


def check_spatial(spatial: int) -> None:
    """Refuse a number of axes that the kernels do not filter."""
    if isinstance(spatial, bool) or spatial not in (2, 3):
        raise ValueError(f"spatial: got {spatial!r}; expected 2 (images) or 3 (volumes)")
