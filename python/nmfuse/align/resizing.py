"""The same picture with more or fewer pixels."""

from __future__ import annotations

import numpy as np

from nmfuse.align.resampling import Finished, sampled, working_dtype
from nmfuse.images import Image

_PROPORTIONS = 0.01  # share by which those of two images may differ


def resize(image: Image, like: Image) -> Image:
    """Return an image resized to the size of another one with the same proportions; nothing is registered.

    The interpolation is cubic; if the image becomes smaller, it is smoothed as much as that requires.

    Parameters
    ----------
    image : Image
        The image to resize, without a grid, of shape (H, W) or (H, W, 3), with NumPy pixels of any dtype that
        `nmfuse.fuse` takes.
    like : Image
        An image that has the wanted size.

    Returns
    -------
    Image
        The resized image, in the dtype of `image` and with its metadata.

    Raises
    ------
    ValueError
        If one of them is a volume or has a grid in mm, or if their proportions differ by more than 1 %.

    References
    ----------
    Keys, "Cubic convolution interpolation for digital image processing", IEEE Trans. Acoust. Speech Signal Process. 29
    (1981).

    Examples
    --------
    >>> resize(Image(np.full((8, 12), 7, np.uint8)), Image(np.zeros((4, 6)))).pixels[0]
    array([7, 7, 7, 7, 7, 7], dtype=uint8)
    """
    name, other = image.name or "image", like.name or "like"
    if image.spatial != 2 or like.spatial != 2 or image.grid is not None:
        raise ValueError(
            f"{name}: is a volume, or has a grid in mm; put it on that of {other} (resample, --resample-to)"
        )
    (h, w), shape = image.shape[:2], like.shape[:2]
    if (h, w) == shape:
        return image
    if abs(h * shape[1] - w * shape[0]) > _PROPORTIONS * max(h * shape[1], w * shape[0]):
        raise ValueError(
            f"{name}: is {h} x {w}, and {other} is {shape[0]} x {shape[1]}, of other proportions; crop one, or "
            "register them (register, --align similarity)"
        )

    def take(pixels: np.ndarray, valid: np.ndarray | None, finished: Finished) -> tuple[np.ndarray, np.ndarray | None]:
        import torch
        from torch.nn import functional

        values = pixels.astype(working_dtype(pixels.dtype))
        planes = torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.atleast_3d(values), 2, 0)))[None]
        found = functional.interpolate(planes, shape, mode="bicubic", antialias=True)
        resized = finished(found[0].movedim(0, -1).reshape(*shape, *pixels.shape[2:]).numpy())
        if valid is None:
            return resized, None
        mask = torch.from_numpy(valid[None, None].astype(np.uint8))
        return resized, functional.interpolate(mask, shape, mode="nearest-exact")[0, 0].numpy() > 0

    return sampled(image, take, like.spacing, like.grid, "it")
