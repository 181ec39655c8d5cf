"""The metrics of images as they are read from files or written to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from nmfuse.images import Image
from nmfuse.images.luma import grey
from nmfuse.images.window import resolve
from nmfuse.metrics._input import windows_of
from nmfuse.metrics.evaluate import METRICS, evaluate


def measure(
    fused: Image | np.ndarray,
    sources: Sequence[Image | np.ndarray],
    metrics: Sequence[str] | None = None,
    *,
    window: Any = None,
    data_range: float | tuple[float, float] | None = None,
) -> dict[str, float]:
    """Return the metrics of a fused image, computed from luminances (BT.601).

    Parameters
    ----------
    fused : Image or array, shape (H, W) or (H, W, 3), or a volume (D, H, W)
        The fused image, as it is read or written. Pixels of an `Image` that are not valid count as black. Since metrics
        are defined for two axes, the value for a volume is the mean over those of its slices (axial ones, if it is read
        from a file) in which any source shows something. A window such as "auto" is computed from the whole volume.
    sources : sequence of images like `fused`
        Two or more sources; their dtypes may differ.
    metrics : sequence of str, optional
        The names of metrics in `METRICS`; by default all.
    window, data_range : optional
        See `evaluate`. The default is the range of the dtype for uint8 and uint16, and 0 to 1 for floats.

    Returns
    -------
    dict of str to float
        The value of each metric. It is NaN if the metric needs larger images, or exactly two sources and there are
        more.

    Raises
    ------
    TypeError, ValueError
        See `evaluate`; by default also for floats that are not within 0 to 1, and for volumes on different grids.

    Examples
    --------
    >>> image = np.eye(32, dtype=np.uint8) * 255
    >>> measure(image, [image, image], ["SSIM", "MS_SSIM"])
    {'SSIM': 1.0, 'MS_SSIM': nan}
    """
    images = [_grey(x) for x in (fused, *sources)]
    names = list(METRICS) if metrics is None else list(metrics)
    defined = [
        name for name in names if name not in METRICS or METRICS[name].defined(len(sources), min(images[0].shape[-2:]))
    ]
    if window is None and data_range is None:
        if len({image.dtype for image in images}) > 1:
            window = [None if white_of([image]) is None else (0, 1) for image in images]
        else:
            data_range = white_of(images[1:])
    if images[0].ndim == 3:
        values = _mean_over_slices(images, window=window, data_range=data_range, metrics=defined)
    else:
        values = evaluate(images[0], images[1:], window=window, data_range=data_range, metrics=defined)
    return {name: float(values.get(name, np.nan)) for name in names}


def _mean_over_slices(
    images: Sequence[Image], *, window: Any, data_range: Any, metrics: Sequence[str]
) -> dict[str, float]:
    """Return the means of metrics over the slices of volumes in which any source shows something."""
    first = images[0]
    for image in images[1:]:
        if image.shape != first.shape:
            raise ValueError(
                f"{image.name or 'a source'}: shape {image.shape}, and {first.name or 'fused'} has {first.shape}; "
                "metrics compare volumes on one grid: resample one of them"
            )
        if image.grid is not None and first.grid is not None and (said := image.grid.difference(first.grid)):
            raise ValueError(
                f"{image.name or 'a source'}: is not on the grid of {first.name or 'fused'}: {said}; resample one of "
                "them (nmfuse.align.resample)"
            )
    if window is not None:
        specs = windows_of(window, len(images))
        window = [resolve(spec, *map(_tensor, (x.pixels, x.valid))) for spec, x in zip(specs, images, strict=True)]
    rows: list[dict[str, float]] = []
    for k in range(first.shape[0]):
        each = [Image(x.pixels[k], None if x.valid is None else x.valid[k]) for x in images]
        if any(seen.size and seen.min() < seen.max() for seen in map(_seen, each[1:])):
            rows.append(evaluate(each[0], each[1:], window=window, data_range=data_range, metrics=metrics))
    return {name: float(np.mean([row[name] for row in rows])) if rows else np.nan for name in metrics}


def _tensor(array: Any) -> Any:
    return None if array is None else torch.as_tensor(array)


def white_of(sources: Sequence[Image | np.ndarray]) -> float | None:
    """Return the value that means white in sources as read: 1 for floats, None for integers, whose dtype defines it.

    Raises
    ------
    ValueError
        If floats are not within 0 to 1.

    Examples
    --------
    >>> white_of([np.zeros((2, 2), np.uint8)]), white_of([np.ones((2, 2))])
    (None, 1.0)
    """
    if sources[0].dtype.kind != "f":
        return None
    seen = [x for x in map(_seen, sources) if x.size]
    low, high = min((float(x.min()) for x in seen), default=0), max((float(x.max()) for x in seen), default=0)
    if low < 0 or high > 1:
        raise ValueError(
            f"sources: floats of {low:g} to {high:g}, whose white is not known; metrics expect 0 to 1: "
            "scale them, or say what is white (nmfuse evaluate --range)"
        )
    return 1.0


def _grey(image: Image | np.ndarray) -> Image:
    return image.with_pixels(grey(image), image.valid) if isinstance(image, Image) else Image(grey(image))


def _seen(image: Image | np.ndarray) -> np.ndarray:
    """Return the valid pixels."""
    if not isinstance(image, Image):
        return image
    pixels: np.ndarray = image.pixels if image.valid is None else image.pixels[image.valid]
    return pixels
