"""One page about one fused image: what it shows of each source, where it comes from, and what it would lose."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nmfuse.fuser import Explanation, Fuser
from nmfuse.images import Image
from nmfuse.io import new_file
from nmfuse.io.html import data_uri, render
from nmfuse.metrics import Signal, Transfer, transfer_grid
from nmfuse.metrics.transfer import CONTRAST, LOST

_SIGMA = 3.0
_ALONG = 12  # signals along the longer side, at most
_LEAST_SHOWN, _MOST_SHOWN = 512, 1024  # pixels across the picture on the page


def write_page(
    path: Path,
    fuser: Fuser,
    explanation: Explanation,
    names: Sequence[str],
    *,
    overwrite: bool,
    options: dict[str, Any],
) -> None:
    """Write a page that needs no other file: sources, fused image, provenance, conflict, and transfer on a grid.

    `options` are those of `nmfuse.Fuser.fuse` that apply to sources brought to 0 to 1.
    """
    steps = explanation.steps
    planes, fused = steps["sources"], steps["luminance"]
    height, width = fused.shape
    hues = [colorsys.hsv_to_rgb(k / len(names) + 0.08, 0.85, 1.0) for k in range(len(names))]
    found, why = _grid(fuser, planes, options)
    sources = []
    for k, (name, plane, share, hue) in enumerate(zip(names, planes, steps["provenance"], hues, strict=True)):
        mine = None if found is None else found.of(k)
        sources.append(
            {
                "name": name,
                "image": _picture(plane),
                "share": _picture(share),
                "colour": f"rgb({', '.join(str(round(255 * x)) for x in hue)})",
                "found": mine,
                "signals": [] if mine is None else [_mark(one) for one in mine.signals],
            }
        )
    colours = np.tensordot(np.moveaxis(steps["provenance"], 0, -1), np.array(hues), 1) * (
        0.25 + 0.75 * fused[..., None]
    )
    page = render(
        "nmfuse.cli",
        "page.html.j2",
        title=" + ".join(names),
        method=fuser.method,
        width=width,
        height=height,
        shown=min(max(width, _LEAST_SHOWN), _MOST_SHOWN),
        sources=sources,
        fused=_picture(_displayed(explanation.fused, fused)),
        provenance=_picture(colours),
        conflict=_picture(4 * steps["conflict"]),
        sigma=f"{_SIGMA:g}",
        contrast=f"{CONTRAST:g}",
        no_signals=why,
    )
    with new_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _grid(fuser: Fuser, planes: np.ndarray, options: dict[str, Any]) -> tuple[Transfer | None, str]:
    """Return what is shown of signals on a grid, or why that cannot be said."""
    spacing = max(64, -(-max(planes.shape[1:]) // _ALONG))
    images = [np.clip(plane, 0, 1).astype(np.float32) for plane in planes]
    try:
        return transfer_grid(lambda *x: fuser.fuse(*x, **options), images, spacing=spacing, sigma=_SIGMA), ""
    except ValueError as error:
        return None, f"none: {error}"


def _mark(one: Signal) -> dict[str, Any]:
    colour = "#d33" if one.transfer < LOST else "#e90" if one.transfer < 2 * LOST else "#2a5"
    return {**vars(one), "colour": colour}


def _displayed(fused: Any, luminance: np.ndarray) -> np.ndarray:
    """Return the fused image in colour as it is, and of anything else the luminance, which is from 0 to 1."""
    pixels = np.asarray(fused.pixels if isinstance(fused, Image) else fused)
    if pixels.ndim == 3 and pixels.dtype == np.uint8:
        return pixels[..., :3] / 255
    return luminance


def _picture(values: np.ndarray) -> str:
    """Return 0 to 1, grey or RGB, as a PNG in a data URI: every pixel as it is."""
    from PIL import Image as Pillow

    picture = Pillow.fromarray(np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8))
    return data_uri(picture, "png", optimize=True)
