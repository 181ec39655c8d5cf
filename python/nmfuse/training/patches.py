"""Pairs of clear and blurred 16 x 16 patches from photographs, after Liu et al., FUSION 2017."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from nmfuse.io import list_images, suffixes
from nmfuse.nets.siamese import PATCH

LEAST_VARIANCE = 25  # of a clear patch, on the 0..255 scale: flat patches cannot tell sharp from blurred
BLUR_LEVELS = 5
_SIGMA, _RADIUS = 2.0, 3  # of the Gaussian, repeated once per level; support 7 x 7


def find_images(images: Path | Sequence[Path]) -> list[Path]:
    """Return the image files of a folder and its subfolders, or those of a list, sorted by path.

    Raises
    ------
    FileNotFoundError
        If the folder or a listed file does not exist.
    ValueError
        If there are fewer than two images: one must be held out.
    """
    if isinstance(images, Path):
        if not images.is_dir():
            raise FileNotFoundError(f"images: {images} is not a folder; give a folder of photographs")
        paths = list_images(images, below=True)
    else:
        paths = sorted(set(images))
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise FileNotFoundError(f"images: there is no file {missing[0]}")
    if len(paths) < 2:
        where = f" in {images}" if isinstance(images, Path) else ""
        raise ValueError(
            f"images: found {len(paths)}{where}; expected two at least ({', '.join(suffixes())}), one is held out"
        )
    return sorted(paths)


def hash_files(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of the files' names and contents, in this order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def read_grey(path: Path) -> NDArray[np.uint8]:
    """Read a photograph as 8-bit grey (ITU-R BT.601 luma), (H, W).

    Raises
    ------
    ValueError
        If it is not a readable 8-bit image or is smaller than 16 x 16.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "RGB", "P", "LA", "RGBA", "1", "CMYK", "YCbCr"):
                raise ValueError(f"mode {image.mode}")
            grey = np.asarray(image.convert("L"))
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error, ...
        raise ValueError(f"{path}: not a readable 8-bit image ({error}); repair or remove it") from error
    if min(grey.shape) < PATCH:
        raise ValueError(f"{path}: is {grey.shape[1]} x {grey.shape[0]}; expected 16 x 16 at least, remove it")
    return grey


def blur_levels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image blurred once, twice, ... `BLUR_LEVELS` times: (H, W) -> (BLUR_LEVELS, H, W), rounded."""
    blurred = image.astype(np.float32)
    levels = []
    for _ in range(BLUR_LEVELS):
        blurred = ndimage.gaussian_filter(blurred, _SIGMA, radius=_RADIUS)
        levels.append(np.rint(blurred).astype(np.uint8))
    return np.stack(levels)


def patch_variance(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the variance of the patch that starts at each pixel: (H, W) -> (H - 15, W - 15)."""
    x = image.astype(np.float64)
    mean, mean_square = _box_mean(x), _box_mean(x * x)
    variance: NDArray[np.float64] = mean_square - mean * mean
    return variance


def _box_mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.pad(x, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)  # whole numbers: exact in float64
    box = total[PATCH:, PATCH:] - total[:-PATCH, PATCH:] - total[PATCH:, :-PATCH] + total[:-PATCH, :-PATCH]
    mean: NDArray[np.float64] = box / PATCH**2
    return mean


def patch_pairs(image: NDArray[np.uint8], per_level: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw pairs of patches (clear, blurred) from the same places of a photograph.

    Parameters
    ----------
    image : array (H, W)
    per_level : int
        Places drawn for each blur level; all of them where fewer have a variance above 25.

    Returns
    -------
    array (n, 2, 16, 16), n <= 5 per_level
        The clear patch first.
    """
    places = np.argwhere(patch_variance(image) > LEAST_VARIANCE)
    pairs = [np.empty((0, 2, PATCH, PATCH), np.uint8)]
    for blurred in blur_levels(image):
        both = np.stack([image, blurred])
        chosen = rng.permutation(len(places))[:per_level]
        windows = np.lib.stride_tricks.sliding_window_view(both, (PATCH, PATCH), axis=(1, 2))
        pairs.append(windows[:, places[chosen, 0], places[chosen, 1]].swapaxes(0, 1))
    return np.concatenate(pairs)


def pool_of_pairs(paths: Sequence[Path], per_level: int, seed: int) -> NDArray[np.uint8]:
    """Return the pairs of all photographs: (n, 2, 16, 16). Each photograph has its own stream of random numbers."""
    return np.concatenate(
        [
            patch_pairs(read_grey(path), per_level, np.random.default_rng([seed, index]))
            for index, path in enumerate(paths)
        ]
    )


def augment(pairs: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """Turn pairs into float32 in [0, 1] as scanners of all kinds would show them.

    Flips, transpositions, negatives, gamma 0.5 to 2 and contrast down to a quarter: alike for both patches of a pair,
    so that which one is blurred does not change.

    Parameters
    ----------
    pairs : array (n, 2, 16, 16)

    Returns
    -------
    array (n, 2, 16, 16)
    """
    n = len(pairs)
    x = pairs.astype(np.float32) / 255

    def some() -> NDArray[np.bool_]:
        return rng.random((n, 1, 1, 1)) < 0.5

    def uniform(low: float, high: float) -> NDArray[np.float32]:
        return rng.uniform(low, high, (n, 1, 1, 1)).astype(np.float32)

    x = np.where(some(), x[:, :, ::-1], x)
    x = np.where(some(), x[..., ::-1], x)
    x = np.where(some(), x.swapaxes(2, 3), x)
    x = np.where(some(), 1 - x, x)
    x = x ** np.exp2(uniform(-1, 1))
    gain = np.exp2(uniform(-2, 0))
    return np.asarray(x * gain + (1 - gain) * uniform(0, 1), np.float32)
