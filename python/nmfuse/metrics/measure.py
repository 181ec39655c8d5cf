"""The metrics of images as they are read from files or written to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nmfuse.images import Image
from nmfuse.images.luma import grey
from nmfuse.metrics.evaluate import METRICS, evaluate


def measure(
    fused: Image | np.ndarray,
    sources: Sequence[Image | np.ndarray],
    metrics: Sequence[str] | None = None,
    *,
    window: Any = None,
    data_range: float | tuple[float, float] | None = None,
) -> dict[str, float]:
    """Return the metrics of a fused image by luminance (BT.601).

    Parameters
    ----------
    fused : Image or array, shape (H, W) or (H, W, 3)
        As read or written. What an `Image` says is not valid counts as black.
    sources : sequence of images like `fused`
        Two or more; their dtypes may differ.
    metrics : sequence of str, optional
        Names in `METRICS`; by default all.
    window, data_range : optional
        See `evaluate`. By default the range of uint8 and uint16, and 0 to 1 of floats.

    Returns
    -------
    dict of str to float
        NaN for metrics that ask for larger images, or for exactly two sources where there are more.

    Raises
    ------
    TypeError, ValueError
        See `evaluate`; by default also for floats that are not within 0 to 1.

    Examples
    --------
    >>> image = np.eye(32, dtype=np.uint8) * 255
    >>> measure(image, [image, image], ["SSIM", "MS_SSIM"])
    {'SSIM': 1.0, 'MS_SSIM': nan}
    """
    images = [_grey(x) for x in (fused, *sources)]
    names = list(METRICS) if metrics is None else list(metrics)
    defined = [
        name for name in names if name not in METRICS or METRICS[name].defined(len(sources), min(images[0].shape))
    ]
    if window is None and data_range is None:
        if len({image.dtype for image in images}) > 1:
            window = [None if white_of([image]) is None else (0, 1) for image in images]
        else:
            data_range = white_of(images[1:])
    values = evaluate(images[0], images[1:], window=window, data_range=data_range, metrics=defined)
    return {name: float(values.get(name, np.nan)) for name in names}


def white_of(sources: Sequence[Image | np.ndarray]) -> float | None:
    """Return the value of white of sources as read: 1 for floats, None for integers, whose dtype says it.

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
