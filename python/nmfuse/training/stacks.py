"""Stacks of two to five registered images to learn fusion from: depths of focus, and exposures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]  # (H, W) luminance in [0, 1]
_NOISY = 0.2  # share of the stacks with noise that anybody sees
_SHAPES = 0.2  # share of the focus stacks of flat shapes rather than of photographs


@dataclass(frozen=True)
class Scene:
    """Sources (S, H, W), and what they are images of where that is known."""

    images: Image
    truth: Image | None = None


def focus_stack(x: Image, count: int, rng: np.random.Generator) -> Scene:
    """Take pictures of a scene of `count` depths, each sharp at one of them; the truth is sharp everywhere.

    Nearer things lie before farther ones, and what is out of focus spreads light over what lies beside it, as a lens
    does (of layers, back to front: Potmesil & Chakravarty, SIGGRAPH 1981).
    """
    if rng.random() < _SHAPES:
        x = _shapes(x.shape, rng)
    field = ndimage.gaussian_filter(rng.standard_normal(x.shape), rng.uniform(6, 40))
    depth = np.digitize(field, np.quantile(field, np.arange(1, count) / count))
    edge, step = rng.uniform(0.3, 1.5), 2 ** rng.uniform(0, 3)
    noise = rng.uniform(0, 0.01) if rng.random() > _NOISY else rng.uniform(0.02, 0.1)
    nearer = [ndimage.gaussian_filter((depth >= d).astype(np.float32), edge) for d in range(1, count)]
    # The edges of the layers are soft: the scene is what the layers make where all are sharp.
    images = []
    for focus in range(count):
        image = _blurred(x, step * focus)
        for d, shown in enumerate(nearer, 1):
            width = step * abs(d - focus)
            image = _blurred(x * shown, width) + (1 - _blurred(shown, width)) * image
        images.append(np.clip(image + noise * rng.standard_normal(x.shape), 0, 1))
    return Scene(np.stack(images).astype(np.float32), x)


def bracket(x: Image, count: int, rng: np.random.Generator) -> Scene:
    """Take pictures of a scene in `count` exposures, from too dark to too bright with its highlights cut."""
    dark, bright = rng.uniform(1, 3, 2)
    noise = rng.uniform(0, 0.01)
    images = [
        x ** (2 ** (dark * -t)) if t < 0 else (1 + 0.1 * t) * (1 - (1 - x) ** (2 ** (bright * t)))
        for t in np.linspace(-1, 1, count)
    ]
    return Scene(np.clip(np.stack(images) + noise * rng.standard_normal((count, *x.shape)), 0, 1).astype(np.float32))


def _blurred(x: Image, sigma: float) -> Image:
    return np.asarray(ndimage.gaussian_filter(x, sigma, truncate=3, mode="nearest") if sigma > 0 else x, np.float32)


def _shapes(shape: tuple[int, ...], rng: np.random.Generator) -> Image:
    """Return flat things before a flat ground, now and then black."""
    x = np.full(shape, rng.uniform(0, 1) * (rng.random() < 0.7))
    for _ in range(rng.integers(1, 6)):
        y, z = (rng.uniform(0, n) for n in shape)
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        inside = np.hypot(rows - y, columns - z) < rng.uniform(4, 40)
        x = np.where(inside, rng.random(), x)
    return np.asarray(ndimage.gaussian_filter(x, rng.uniform(0.3, 1)), np.float32)
