"""The depth map of a focus stack: which of its images is the sharp one, pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from nmfuse.images.image import Image
from nmfuse.images.luma import luminance
from nmfuse.kernels import num_threads

_SIDE = 15  # pixels that are looked at together
_ROWS = 512  # that are worked on at a time, so that large images need little memory


def depth_map(fused: Image | np.ndarray, stack: Iterable[Image | np.ndarray]) -> np.ndarray:
    """Return the number of the image that a fused focus stack shows at each pixel.

    This is the image whose luminance has the greatest covariance with that of the fused image within 15 x 15 pixels,
    which is also how `nmfuse.Fuser.explain` computes the provenance. Where nothing varies the number is arbitrary.

    Parameters
    ----------
    fused : Image or array, shape (H, W) or (H, W, 3)
        The fused image that `nmfuse.fuse` made of the stack.
    stack : iterable of Image or array, shape (H, W) or (H, W, 3)
        The images in their order; each is read once. An image is not chosen where it is not valid.

    Returns
    -------
    uint16 array, shape (H, W)
        The numbers of the images, from 0, in the order of the stack.

    Raises
    ------
    ValueError
        If an image differs from `fused` in size, or if there is no image.

    Examples
    --------
    >>> sharp = np.random.default_rng(0).random((32, 32))
    >>> blurred = np.full_like(sharp, 0.5)
    >>> left = np.arange(32) < 16
    >>> depth = depth_map(sharp, [np.where(left, sharp, blurred), np.where(left, blurred, sharp)])
    >>> depth[16, 2], depth[16, 29]
    (np.uint16(0), np.uint16(1))
    """
    from scipy.ndimage import uniform_filter

    rows, columns = fused.shape[:2]
    strips = []  # of the fused image: its rows, those with a margin, and its luminance there and its means
    for start in range(0, rows, _ROWS):
        own = slice(start, min(start + _ROWS, rows))
        around = slice(max(0, start - _SIDE), min(own.stop + _SIDE, rows))
        x = _centred(fused, around)
        strips.append((own, around, x, uniform_filter(x, _SIDE)))
    best = np.full((rows, columns), -np.inf, np.float32)
    depth = np.zeros((rows, columns), np.uint16)

    def update(image: Image | np.ndarray, number: int, strip: Any) -> None:
        own, around, x, mean = strip
        y = _centred(image, around)
        share = uniform_filter(x * y, _SIDE) - mean * uniform_filter(y, _SIDE)  # the covariance
        share = share[own.start - around.start :][: own.stop - own.start]
        if isinstance(image, Image) and image.valid is not None:
            share = np.where(image.valid[own], share, -np.inf)
        better = share > best[own]
        best[own][better] = share[better]
        depth[own][better] = number

    count = 0
    for count, image in enumerate(stack, start=1):  # counted to its end
        if image.shape[:2] != (rows, columns):
            raise ValueError(f"stack: image {count - 1} is {image.shape[:2]}; expected {(rows, columns)} as fused")
        with ThreadPoolExecutor(num_threads()) as pool:
            list(pool.map(partial(update, image, count - 1), strips))
    if not count:
        raise ValueError("stack: holds no images; expected those that were fused")
    return depth


def _centred(image: Image | np.ndarray, rows: slice) -> np.ndarray:
    """Return the luminance of some rows, less its mean."""
    values = luminance((image.pixels if isinstance(image, Image) else image)[rows], np.float32)
    return values.astype(np.float32) - np.float32(values.mean(dtype=np.float64))
