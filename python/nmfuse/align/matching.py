"""Exposure and white balance of one photograph brought to another's."""

from __future__ import annotations

import numpy as np

from nmfuse.images import Image

_CLIPPED = 0.02  # share of the range at either end that may be clipped
_SAMPLES = 200_000  # pixels that are looked at, about
_ROUNDS = 20


def match(image: Image, to: Image) -> Image:
    """Return a photograph with the exposure and white balance of another, by multiplying each channel by a gain.

    The gain of a channel is found by robust regression on the pixels that are valid in both photographs and clipped in
    neither.

    Parameters
    ----------
    image, to : Image
        The photograph to change, and the one whose exposure it is to have: on the same pixels, of integers, or of
        floats from 0 to 1, and both grey or both in colour.

    Returns
    -------
    Image
        The changed photograph, in the dtype of `image`. Values that the gain moves out of the range are clipped.

    Raises
    ------
    ValueError
        If the photographs differ in shape or dtype, or if too few pixels are clipped in neither.

    References
    ----------
    Holland & Welsch, "Robust regression using iteratively reweighted least-squares", Commun. Stat. 6 (1977).

    Examples
    --------
    >>> to = Image(np.arange(40, 240, dtype=np.uint8).reshape(10, 20))
    >>> match(Image(to.pixels // 2), to).pixels[5, :5], to.pixels[5, :5]
    (array([141, 141, 143, 143, 145], dtype=uint8), array([140, 141, 142, 143, 144], dtype=uint8))
    """
    name, other = image.name or "image", to.name or "to"
    if image.shape != to.shape or image.dtype != to.dtype:
        raise ValueError(
            f"{name}: {image.shape} of {image.dtype}, but {other} is {to.shape} of {to.dtype}; expected both alike"
        )
    pixels, axes = image.pixels, image.spatial
    limits = np.iinfo(pixels.dtype) if pixels.dtype.kind in "iu" else None
    low, high = (0.0, 1.0) if limits is None else (float(max(limits.min, 0)), float(limits.max))
    shown = np.ones(pixels.shape[:axes], bool)
    for each in (image, to):
        shown &= True if each.valid is None else each.valid
    flat = [each.pixels.reshape(shown.size, -1) for each in (image, to)]
    kept = np.flatnonzero(shown)
    kept = kept[:: max(1, len(kept) // _SAMPLES)]
    x, y = (each[kept].astype(np.float64) for each in flat)
    edge = _CLIPPED * (high - low)
    gains = np.array([_gain(x[:, k], y[:, k], low + edge, high - edge, name) for k in range(x.shape[1])])
    matched = pixels * (gains if pixels.ndim > axes else gains[0])
    matched = matched if limits is None else np.rint(matched)
    return image.with_pixels(matched.clip(low, high).astype(pixels.dtype), image.valid)


def _gain(x: np.ndarray, y: np.ndarray, low: float, high: float, name: str) -> float:
    """Return the gain from x to y, in logarithms: Tukey's biweight about their median."""
    seen = (x > low) & (x < high) & (y > low) & (y < high)
    if seen.sum() < 100:
        raise ValueError(f"{name}: {seen.sum()} pixels are clipped in neither image; expected 100 or more to match by")
    ratio = np.log(y[seen] / x[seen])
    gain = float(np.median(ratio))
    for _ in range(_ROUNDS):
        spread = max(1e-3, 1.4826 * float(np.median(np.abs(ratio - gain))))
        gain = float(np.average(ratio, weights=np.clip(1 - ((ratio - gain) / (4.685 * spread)) ** 2, 0, None) ** 2))
    return float(np.exp(gain))
