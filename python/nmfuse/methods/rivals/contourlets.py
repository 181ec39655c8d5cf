"""The nonsubsampled contourlet transform: pyramid and directional filter banks by mapped filters, periodic borders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from nmfuse.methods.base import Plane

Response = NDArray[np.float64]  # real frequency response, zero phase

# Low-pass filters of the 9-7 pair of Cohen, Daubechies & Feauveau 1992, from the centre outwards, of sum 1.
_NINE = (0.602949018236358, 0.266864118442872, -0.078223266528988, -0.016864118442875, 0.026748757410810)
_SEVEN = (0.557543526228500, 0.295635881557128, -0.028771763114250, -0.045635881557125)
# The ladder filter of Phoong, Kim, Vaidyanathan & Ansari 1995 ("pkva").
_LADDER = (0.6300, -0.1930, 0.0972, -0.0526, 0.0272, -0.0144)


def decompose(image: Plane, directions: Sequence[int] = (1, 1, 1, 1)) -> list[list[Plane]]:
    """Return the bands of an image, each as large as it is.

    Parameters
    ----------
    image : (H, W)
    directions : sequence of int
        From the coarsest to the finest scale, the base-2 logarithm of the number of directions: 0, 1 or 2.

    Returns
    -------
    list of lists of (H, W)
        ``[[low], [bands of the coarsest scale], ..., [bands of the finest]]``.

    References
    ----------
    da Cunha, Zhou & Do, IEEE TIP 15 (2006) 3089-3101: both filter banks by mapping one-dimensional filters. Here the
    filters are applied in the frequency domain; their toolbox mirrors the borders instead.
    """
    directions = check_directions(directions)
    low = np.fft.rfft2(image)
    bands: list[list[Plane]] = []
    for stage, logarithm in enumerate(reversed(directions)):
        pyramid = _pyramid(image.shape, stage)
        high, low = low * pyramid[1], low * pyramid[0]
        bands.append([_image(high * h, image.shape) for h, _ in _directional(image.shape, stage, logarithm)])
    bands.append([_image(low, image.shape)])
    return bands[::-1]


def check_directions(directions: Sequence[int]) -> tuple[int, ...]:
    """Return the directions, one number a scale, as a tuple; refuse any that is not 0, 1 or 2."""
    if not isinstance(directions, (tuple, list)):
        raise ValueError(f"directions: got {directions!r}; expected a number of 0, 1 or 2 for each scale")
    for logarithm in directions:
        if isinstance(logarithm, bool) or logarithm not in (0, 1, 2):
            raise ValueError(f"directions: got {logarithm!r}; expected 0, 1 or 2, the logarithm of their number")
    return tuple(directions)


def reconstruct(bands: Sequence[Sequence[Plane]]) -> Plane:
    """Return the image of `decompose`'s bands."""
    shape = bands[0][0].shape
    low = np.fft.rfft2(bands[0][0])
    for stage in range(len(bands) - 2, -1, -1):
        parts = bands[len(bands) - 1 - stage]
        filters = _directional(shape, stage, int(np.log2(len(parts))))
        high = sum(np.fft.rfft2(part) * g for part, (_, g) in zip(parts, filters, strict=True))
        pyramid = _pyramid(shape, stage)
        low = low * pyramid[2] + high * pyramid[3]
    return _image(low, shape)


def _image(spectrum: NDArray[np.complex128], shape: tuple[int, ...]) -> Plane:
    return np.asarray(np.fft.irfft2(spectrum, s=shape))


@lru_cache(maxsize=32)
def _pyramid(shape: tuple[int, int], stage: int) -> tuple[Response, ...]:
    """Return analysis low and high, synthesis low and high of one stage: 9-7 filters, upsampled by 2^stage."""
    rows, columns = _cosines(shape, 1 << stage)
    x = -0.5 + 0.5 * (rows + columns + rows * columns)  # McClellan's nearly circular mapping
    return (
        _mapped(_series(_NINE), x),
        _mapped(_series(_SEVEN), -x),
        _mapped(_series(_SEVEN), x),
        _mapped(_series(_NINE), -x),
    )


@lru_cache(maxsize=32)
def _directional(shape: tuple[int, int], stage: int, logarithm: int) -> list[tuple[Response, Response]]:
    """Return analysis and synthesis of each direction of one stage.

    Two directions are a pair of fan filters; four, these followed by the fans that a quincunx upsampling makes of
    them. The fans of a stage are upsampled with its pyramid.
    """
    one = np.ones((shape[0], shape[1] // 2 + 1))
    if logarithm == 0:
        return [(one, one)]
    step = 1 << stage
    rows, columns = _cosines(shape, step)
    first = _fans((columns - rows) / 2)
    if logarithm == 1:
        return first
    u, v = _frequencies(shape, step)
    second = _fans((np.cos(u + v) - np.cos(u - v)) / 2)
    return [(h * k, g * f) for h, g in first for k, f in second]


def _fans(x: Response) -> list[tuple[Response, Response]]:
    """Return the analysis and synthesis responses of both fans, from the mapping of their halfband ladder."""
    odd = np.zeros(2 * len(_LADDER))
    odd[1::2] = 2 * np.array(_LADDER)
    b = chebyshev.chebval(x, odd)
    return [((1 + b) / 2, (1 + b) * (2 - b) / 2), ((1 - b) * (2 + b) / 2, (1 - b) / 2)]


def _series(taps: Sequence[float]) -> NDArray[np.float64]:
    """Return the Chebyshev series in cos(w) of a symmetric filter."""
    return np.array([taps[0], *(2 * tap for tap in taps[1:])])


def _mapped(series: NDArray[np.float64], x: Response) -> Response:
    return np.asarray(chebyshev.chebval(x, series))


def _cosines(shape: tuple[int, int], step: int) -> tuple[Response, Response]:
    u, v = _frequencies(shape, step)
    return np.cos(u), np.cos(v)


def _frequencies(shape: tuple[int, int], step: int) -> tuple[Response, Response]:
    """Return the angular frequencies of rfft2's rows (H, 1) and columns (1, W // 2 + 1), times the step."""
    w = 2 * np.pi * step
    return np.asarray(w * np.fft.fftfreq(shape[0])[:, None]), np.asarray(w * np.fft.rfftfreq(shape[1])[None])
