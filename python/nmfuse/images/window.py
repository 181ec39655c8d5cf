"""Windows: which values of an image mean black and white."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nmfuse.images.rows import AT_ONCE

_ROBUST = (0.1, 99.9)  # per cent of the valid pixels that "auto" leaves below and above
SAMPLED = 1 << 22  # valid pixels that percentiles are taken of, evenly spread, where there are more


@dataclass(frozen=True)
class Preset:
    """A window that has a name: black, white, the unit of both, and who uses it."""

    low: float
    high: float
    unit: str
    source: str


_RADIOPAEDIA = "Murphy & Feger, 'Windowing (CT)', Radiopaedia"

PRESETS: MappingProxyType[str, Preset] = MappingProxyType(
    {
        "ct-brain": Preset(0, 80, "HU", f"width 80, level 40; {_RADIOPAEDIA}"),
        "ct-subdural": Preset(-25, 175, "HU", f"width 200, level 75; {_RADIOPAEDIA}"),
        "ct-soft": Preset(-150, 250, "HU", f"width 400, level 50; {_RADIOPAEDIA}"),
        "ct-bone": Preset(-500, 1300, "HU", f"width 1800, level 400; {_RADIOPAEDIA}"),
        "ct-lung": Preset(-1350, 150, "HU", f"width 1500, level -600; {_RADIOPAEDIA}"),
        "suv": Preset(0, 10, "SUV", "Barrington et al., J. Clin. Oncol. 32 (2014) 3048-3058: fixed display of 0 to 10"),
    }
)


def resolve(spec: Any, values: Tensor, valid: Tensor | None = None, name: str = "the image") -> tuple[float, float]:
    """Return the values that mean black and white.

    Parameters
    ----------
    spec : None, (low, high), "minmax", "auto" or the name of a preset
        None: the range of an integer dtype; 0 to 1 for floats within it, else from 0 (or the least value below it) to
        the greatest. "auto": from the 0.1st to the 99.9th percentile of the valid pixels.
    values : Tensor (..., *spatial)
        The image, in its own dtype; NaN counts as invalid.
    valid : bool Tensor, broadcast to `values`, optional
        False where the image shows nothing.
    name : str
        What a message calls the image.

    Returns
    -------
    (low, high) : float
        low < high.

    Raises
    ------
    TypeError, ValueError
        If `spec` is none of these.

    Examples
    --------
    >>> resolve("ct-brain", torch.zeros(2, 2))
    (0.0, 80.0)
    >>> resolve(None, torch.zeros(2, 2, dtype=torch.int16))
    (-32768.0, 32767.0)
    """
    if isinstance(spec, str):
        if spec in PRESETS:
            return float(PRESETS[spec].low), float(PRESETS[spec].high)
        if spec not in ("minmax", "auto"):
            raise ValueError(f"window: got {spec!r}; expected 'minmax', 'auto', {', '.join(PRESETS)}, or (low, high)")
        low, high = extent(values, valid) if spec == "minmax" else _percentiles(values, valid, name)
        return (low, high) if low < high else (low, low + max(1.0, abs(low)))
    if spec is None:
        if (implied := range_of(values.dtype)) is not None:
            return implied
        return float_range(*extent(values, valid))
    return check_range(spec, "window")


def check_range(spec: Any, name: str) -> tuple[float, float]:
    """Return a (low, high) as floats, or refuse it."""
    try:
        low, high = (float(value) for value in spec)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: got {spec!r}; expected (low, high), the values of black and white") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{name}: got {spec!r}; expected (low, high) with low < high")
    return low, high


def range_of(dtype: torch.dtype) -> tuple[float, float] | None:
    """Return the range of an integer dtype (0 to 1 of bool); None for floats, which have none of their own."""
    if dtype == torch.bool:
        return 0.0, 1.0
    if dtype.is_floating_point:
        return None
    info = torch.iinfo(dtype)
    return float(info.min), float(info.max)


def float_range(least: float, greatest: float) -> tuple[float, float]:
    """Return the range of floats with these extremes: 0 to 1 if within it, else from 0, or what is less, to the top."""
    if least >= 0 and greatest <= 1:
        return 0.0, 1.0
    low = min(0.0, least)
    return low, greatest if greatest > low else low + max(1e-30, abs(low))


def extent(values: Tensor, valid: Tensor | None = None) -> tuple[float, float]:
    """Return the least and the greatest valid value; (0, 0) where there is none."""
    least, greatest = math.inf, -math.inf
    for piece in _valid_pieces(values, valid):
        if piece.numel():
            least, greatest = min(least, float(piece.min())), max(greatest, float(piece.max()))
    return (least, greatest) if least <= greatest else (0.0, 0.0)


def _percentiles(values: Tensor, valid: Tensor | None, name: str) -> tuple[float, float]:
    pieces = [piece.cpu() for piece in _valid_pieces(values, valid)]
    every = torch.cat(pieces) if pieces else values.new_empty(0, dtype=torch.float64)
    if not every.numel():
        raise ValueError(f"window: 'auto' of {name}, which has no valid pixel; give (low, high)")
    step = -(-every.numel() // SAMPLED)
    low, high = np.percentile(every[::step].numpy(), _ROBUST)
    return float(low), float(high)


def _valid_pieces(values: Tensor, valid: Tensor | None) -> Iterator[Tensor]:
    """Yield the valid values, as float64, some rows at a time."""
    flat = values.detach().reshape(-1, values.shape[-1])
    mask = None if valid is None else valid.expand(values.shape).reshape(-1, values.shape[-1])
    step = max(1, AT_ONCE // max(1, values.shape[-1]))
    for start in range(0, len(flat), step):
        piece = flat[start : start + step].double()
        if mask is not None:
            piece = piece[mask[start : start + step]]
        if values.dtype.is_floating_point:
            known = ~piece.isnan()
            piece = piece.flatten() if bool(known.all()) else piece[known]
        yield piece.flatten()
