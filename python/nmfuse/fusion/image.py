"""Images at the pipeline's door: kind, layout, dtype, range and colour, taken apart and put back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

LEAST_SIDE = 16  # pixels: one patch of the Siamese network
_AT_ONCE = 1 << 22  # values converted together
_NEAR = 0.1  # grey levels: what is nearer than this to a level or a source is taken for it
_TIE = 1e-5  # of logarithms of counts

# Liu's and the field's analogue YUV; the inverse is the exact matrix inverse, so grey stays grey.
_YUV = torch.tensor([[0.299, 0.587, 0.114], [-0.147, -0.289, 0.436], [0.615, -0.515, -0.100]], dtype=torch.float64)
_RGB = torch.linalg.inv(_YUV)


@dataclass(frozen=True)
class ImageFormat:
    """What is needed to give a result back as the images came: library, dtype, device, layout and range."""

    is_tensor: bool
    dtype: str
    channels: int  # 1 or 3
    layout: str  # "HW", "HWC" or "CHW"
    low: float
    high: float
    device: torch.device


def take_pair(a: Any, b: Any, data_range: tuple[float, float] | None) -> tuple[Tensor, Tensor, ImageFormat]:
    """Check a pair and return both as float32 (C, H, W) in [0, 1], with the format to give the result back in."""
    planes, layouts = zip(*(_planes(x, name) for x, name in ((a, "a"), (b, "b"))), strict=True)
    if isinstance(a, Tensor) != isinstance(b, Tensor):
        raise TypeError(f"b: is a {type(b).__name__} and a is a {type(a).__name__}; pass two of the same kind")
    if a.dtype != b.dtype:
        raise TypeError(f"b: dtype {b.dtype}, but a is {a.dtype}; convert one of them")
    if planes[0].device != planes[1].device:
        raise ValueError(f"b: is on {planes[1].device}, but a is on {planes[0].device}; move one of them")
    if planes[0].shape[-2:] != planes[1].shape[-2:]:
        raise ValueError(
            f"b: size {_size(planes[1])}, but a is {_size(planes[0])} (rows x columns); register and resample one "
            "to the other's grid first"
        )
    if min(planes[0].shape[-2:]) < LEAST_SIDE:
        raise ValueError(f"a, b: size {_size(planes[0])}; expected at least {LEAST_SIDE} x {LEAST_SIDE} pixels")
    low, high = _range(planes, data_range)
    colour = max(range(2), key=lambda i: planes[i].shape[0])
    dtype = str(a.dtype).removeprefix("torch.")
    form = ImageFormat(
        isinstance(a, Tensor), dtype, planes[colour].shape[0], layouts[colour], low, high, planes[0].device
    )
    if planes[0].dtype == torch.float32 and (low, high) == (0.0, 1.0):
        return planes[0], planes[1], form  # the caller's own memory, which is only read
    scaled = [_by_rows(x, lambda rows: (rows.double() - low) / (high - low), torch.float32) for x in planes]
    return scaled[0], scaled[1], form


def give_back(image: Tensor, form: ImageFormat) -> Any:
    """Return a (C, H, W) image in [0, 1] as the sources came: range, dtype, layout and library."""

    def unscaled(rows: Tensor) -> Tensor:
        values = rows.double() * (form.high - form.low) + form.low
        return values.round().clamp(0, np.iinfo(form.dtype).max) if form.dtype.startswith("uint") else values

    values = _by_rows(image, unscaled, getattr(torch, form.dtype))
    if form.layout == "HWC":
        values = values.movedim(0, -1)
    elif form.layout == "HW":
        values = values[0]
    values = values.contiguous()
    return values if form.is_tensor else values.numpy()


def round_informed(y: Tensor, a: Tensor, b: Tensor, low: float = 0.0, high: float = 255.0) -> Tensor:
    """Return a fused luminance (H, W) of 8-bit images in whole grey levels, chosen to tell more of both sources.

    `low` and `high` are the levels of 0 and 1. Of the two levels that a value lies between it gets the one that is more
    common among the pixels of the same levels in the sources, for how common it is at all: a step up the gradient of
    I(A; F) + I(B; F) + H(F) from the nearest levels. Ties and what is within 0.1 of a level go to the nearest; what
    is within 0.1 of a source, which in colour may lie between two levels, is that.
    """

    def levels(image: Tensor) -> Tensor:
        return (image * (high - low) + low).clamp(0, 255)

    joint = torch.zeros(2, 256 * 256, device=y.device)
    for rows in _rows(y[None]):
        nearest = levels(y[rows]).round().int()
        for count, source in zip(joint, (a, b), strict=True):
            cells = levels(source[rows]).round().int().mul_(256).add_(nearest)
            count += torch.bincount(cells.flatten(), minlength=len(count))
    joint = joint.reshape(2, 256, 256)
    told = torch.log1p(joint) - 1.5 * torch.log1p(joint.sum(1, keepdim=True))
    gain = functional.pad(told.diff(dim=2), (0, 1)).flatten(1)  # of the next level
    rounded = torch.empty_like(y)
    for rows in _rows(y.expand(3, -1, -1)):
        value, *sources = (levels(image[rows]) for image in (y, a, b))
        lower, nearest = value.floor(), value.round()
        up = torch.zeros_like(value)
        for each, source in zip(gain, sources, strict=True):
            cells = source.round().mul_(256).add_(lower).int()
            up += each.index_select(0, cells.flatten()).reshape(up.shape)
        decided = (up.abs() > _TIE) & ((value - nearest).abs() > _NEAR)
        level = torch.where(decided, lower + (up > 0), nearest)
        for source in sources:
            level = torch.where((value - source).abs() < _NEAR, source, level)
        rounded[rows] = (level - low) / (high - low)
    return rounded


def luminance(image: Tensor) -> Tensor:
    """Return the luminance (H, W) of a grey or RGB image (C, H, W), BT.601."""
    return image[0] if image.shape[0] == 1 else _combine(_YUV[0], image)


def chroma(a: Tensor, b: Tensor) -> Tensor | None:
    """Return the chroma (2, H, W) of the fused image, or None where both sources are grey.

    One source in colour gives its chroma as it is. Two are averaged, each weighted by its own distance from grey, per
    channel: ``U = (U_a |U_a| + U_b |U_b|) / (|U_a| + |U_b|)`` (Prabhakar et al., ICCV 2017), the more vivid one wins.
    """
    parts = [_combine(_YUV[1:], x) for x in (a, b) if x.shape[0] == 3]
    if len(parts) < 2:
        return parts[0] if parts else None
    u, v = parts
    total = u.abs() + v.abs()
    return torch.where(total > 0, (u * u.abs() + v * v.abs()) / total.clamp_min(1e-12), torch.zeros_like(u))


def with_chroma(y: Tensor, uv: Tensor | None) -> Tensor:
    """Return the image (C, H, W) of a luminance (H, W) and a chroma (2, H, W), clipped to [0, 1]."""
    if uv is None:
        return y[None].clamp(0, 1)
    return _combine(_RGB, torch.cat([y[None], uv])).clamp(0, 1)


def _combine(matrix: Tensor, channels: Tensor) -> Tensor:
    """Apply a colour matrix (or one row of it) to an image (C, H, W)."""
    result: Tensor = torch.tensordot(matrix.to(channels), channels, dims=1)
    return result


def _planes(x: Any, name: str) -> tuple[Tensor, str]:
    """Return any accepted image as (C, H, W), in its own dtype, and its layout."""
    if isinstance(x, np.ma.MaskedArray) or not isinstance(x, (np.ndarray, Tensor)):
        raise TypeError(f"{name}: got {type(x).__name__}; expected a NumPy array or a torch tensor")
    is_tensor = isinstance(x, Tensor)
    dtype = str(x.dtype).removeprefix("torch.")
    if dtype not in ("uint8", "uint16", "float32", "float64"):
        raise TypeError(f"{name}: dtype {dtype} is not supported; convert it to uint8, uint16, float32 or float64")
    shape = tuple(x.shape)
    if 0 in shape:
        raise ValueError(f"{name}: shape {shape} is empty; expected an image")
    tensor = x.detach() if isinstance(x, Tensor) else torch.from_numpy(_native_order(x))
    if len(shape) == 2:
        planes, layout = tensor[None], "HW"
    elif len(shape) == 3 and is_tensor and shape[0] in (1, 3):
        planes, layout = tensor, "CHW"
    elif len(shape) == 3 and not is_tensor and shape[2] in (1, 3):
        planes, layout = tensor.movedim(-1, 0), "HWC"
    else:
        wanted = "(H, W), (1, H, W) or (3, H, W)" if is_tensor else "(H, W), (H, W, 1) or (H, W, 3)"
        raise ValueError(f"{name}: shape {shape}; expected {wanted}, one pair at a time")
    if dtype.startswith("float") and not bool(torch.isfinite(planes).all()):
        raise ValueError(f"{name}: contains NaN or inf; replace them first, for example with numpy.nan_to_num")
    return planes, layout


def _native_order(x: np.ndarray) -> np.ndarray:
    """Return the array as torch can view it: native byte order, no negative strides, writable (it is not written)."""
    return np.require(x, x.dtype.newbyteorder("="), ["C", "W"])


def _range(planes: tuple[Tensor, ...], data_range: tuple[float, float] | None) -> tuple[float, float]:
    """Return the values that mean black and white, one range for both images."""
    least = min(float(x[:, rows].double().min()) for x in planes for rows in _rows(x))
    greatest = max(float(x[:, rows].double().max()) for x in planes for rows in _rows(x))
    if data_range is not None:
        low, high = (float(value) for value in data_range)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"data_range: got {data_range!r}; expected (low, high) with low < high")
        if least < low or greatest > high:
            raise ValueError(
                f"data_range: got {data_range!r}, but the images span {least:g} to {greatest:g}; widen it or clip them"
            )
        return low, high
    if planes[0].dtype == torch.uint8:
        return 0.0, 255.0
    if planes[0].dtype.is_floating_point and least >= 0 and greatest <= 1:
        return 0.0, 1.0
    low = min(0.0, least)
    return low, max(greatest, low + 1e-30)


def _rows(x: Tensor) -> Iterator[slice]:
    """Yield the rows of an image (C, H, W), so many at a time that a copy of them is small."""
    step = max(1, _AT_ONCE // (x.shape[0] * x.shape[2]))
    for start in range(0, x.shape[1], step):
        yield slice(start, start + step)


def _by_rows(x: Tensor, function: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Tensor:
    """Return the function of an image (C, H, W) as a new one of another type, some rows at a time."""
    result = torch.empty(x.shape, dtype=dtype, device=x.device)
    for rows in _rows(x):
        result[:, rows] = function(x[:, rows])
    return result


def _size(x: Tensor) -> str:
    return f"{x.shape[-2]} x {x.shape[-1]}"
