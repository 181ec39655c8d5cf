"""Colour profiles of several sources: brought to the first's."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np

from nmfuse.images import Image
from nmfuse.io.carried import log

_RGB = b"RGB "


def to_profile_of(image: Image, first: Image) -> Image:
    """Return an image converted to the ICC profile of another, if both have one and they differ; this is logged.

    Parameters
    ----------
    image : Image
        The image to convert. It is converted if it is uint8 of shape (H, W, 3); in other dtypes it is left unchanged,
        which is logged as well.
    first : Image
        The image that has the profile. If one of the images has no profile, nothing is converted.

    Returns
    -------
    Image
        The image with the profile of `first`, or `image` itself.

    Raises
    ------
    ValueError
        If one of the profiles cannot be used.

    Examples
    --------
    >>> from PIL import ImageCms
    >>> srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    >>> image = Image(np.zeros((4, 4, 3), np.uint8), carried={"icc_profile": srgb})
    >>> to_profile_of(image, image) is image
    True
    """
    from PIL import Image as Pillow
    from PIL import ImageCms

    source, target = (each.carried.get("icc_profile", b"") for each in (image, first))
    if source == target or not (source[16:20] == target[16:20] == _RGB) or image.ndim != 3:
        return image
    name, of = image.name or "image", first.name or "the first image"
    if image.dtype != np.uint8:
        log.warning("%s: has another colour profile than %s, and is of %s: not converted", name, of, image.dtype)
        return image
    try:
        converted = ImageCms.profileToProfile(Pillow.fromarray(image.pixels), io.BytesIO(source), io.BytesIO(target))
    except (ImageCms.PyCMSError, OSError) as error:
        raise ValueError(f"{name}: cannot be converted to the colour profile of {of} ({error}); remove one") from error
    log.warning("%s: is converted from its colour profile to that of %s", name, of)
    return replace(image, pixels=np.asarray(converted), carried={**image.carried, "icc_profile": target})
