"""Signal transfer: what becomes of a small signal that only one source shows, once the sources are fused."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nmfuse.images import Image
from nmfuse.images.luma import luminance
from nmfuse.kernels.checks import is_whole

SIGMAS = (1.5, 3.0, 6.0)  # pixels
CONTRAST = 50.0  # grey levels of 255
LOST, WRONG = 0.25, -0.1  # transfer below which a signal is lost, or shown with the wrong sign
CONTENT = 20.0  # grey levels: mean of 9 x 9 above which an image has content
_LEAST_CONTENT = 0.02  # share of the pixels below which content of any source will do
_BORDER = 20  # pixels
_LEAST_SPACING = 32  # pixels
SHIFTS = 8  # pixels to either side at which a matched filter meets what is no signal
LEAST_NOISE = 0.5  # grey levels
_DISC, _STRONG, _WEAK = 3.0, 80.0, 60.0  # radius and contrasts of signals that contradict each other

Plane = NDArray[np.float64]  # (H, W), grey levels of 255
Fuse = Callable[..., Any]


class _HasFuse(Protocol):
    @property
    def fuse(self) -> Fuse: ...


@dataclass(frozen=True)
class Signal:
    """A signal that was put into one source, and how much of it the fused image shows.

    Attributes
    ----------
    source, row, column : int
        The source and the position where the signal was put.
    sigma : float
        The standard deviation of the signal in pixels; for a contradiction the radius of its disc.
    contrast : float
        The contrast in grey levels of 255; negative if the signal is darker than its surroundings.
    transfer : float
        How much of the signal is shown: 1 if the fused image shows it as the source does, 0 if it is lost, and below 0
        if it is inverted.
    visibility : float
        The detectability d' of a non-prewhitening matched filter in the fused image, divided by that in the source.
    """

    source: int
    row: int
    column: int
    sigma: float
    contrast: float
    transfer: float
    visibility: float


@dataclass(frozen=True)
class Transfer:
    """How much a fused image shows of several signals; read all figures together, since a plain average loses nothing.

    Attributes
    ----------
    signals : tuple of Signal
        All signals that were measured.

    Examples
    --------
    >>> signals = [Signal(0, 30, 30, 3.0, 50.0, transfer, 1.0) for transfer in (-0.5, 0.1, 0.9, 1.1)]
    >>> result = Transfer(tuple(signals))
    >>> result.mean, result.lost, result.wrong
    (0.4, 0.5, 0.25)
    """

    signals: tuple[Signal, ...]

    @property
    def mean(self) -> float:
        """The mean transfer."""
        return float(np.mean(self._transfers))

    @property
    def p5(self) -> float:
        """The 5th percentile of the transfer."""
        return float(np.percentile(self._transfers, 5))

    @property
    def lost(self) -> float:
        """The share of the signals of which less than a quarter is left."""
        return float(np.mean(self._transfers < LOST))

    @property
    def wrong(self) -> float:
        """The share of the signals that are shown with the wrong sign (transfer below -0.1)."""
        return float(np.mean(self._transfers < WRONG))

    @property
    def visibility(self) -> float:
        """The median visibility."""
        return float(np.median([one.visibility for one in self.signals]))

    @property
    def faint(self) -> float:
        """The share of the signals that are at most half as visible as in their source."""
        return float(np.mean([one.visibility < 0.5 for one in self.signals]))

    def of(self, source: int) -> Transfer:
        """Return the signals of one source only."""
        return Transfer(tuple(one for one in self.signals if one.source == source))

    def summary(self) -> dict[str, float]:
        """Return mean, p5, lost, wrong, visibility and faint by name."""
        return {name: getattr(self, name) for name in ("mean", "p5", "lost", "wrong", "visibility", "faint")}

    @property
    def _transfers(self) -> Plane:
        return np.array([one.transfer for one in self.signals])


def transfer(
    method: Fuse | _HasFuse,
    sources: Sequence[Image | np.ndarray],
    *,
    places: int = 3,
    sigmas: Sequence[float] = SIGMAS,
    contrast: float = CONTRAST,
    seed: int = 0,
) -> Transfer:
    """Put small signals into one source at a time, and measure what a method of fusion shows of them.

    A Gaussian is added to one source, at a place where all sources have content (a mean of 9 x 9 pixels above 20 of
    255; if that is less than 2 % of the image, where any of them has content) and at least 20 pixels from the border.
    It is brighter than its surroundings if the source is dark there, and darker if it is bright; the sum is rounded and
    clipped to the range of the dtype. The sources are fused with it and without it. With the difference D of both
    results, and the signal s as it was added, ``transfer = <D, s> / <s, s>``. An average of two sources has 0.5
    everywhere.

    The output of the matched filter is ``<image, s>``. Its noise is the standard deviation of the output over shifts of
    up to 8 pixels in the image without the signal, and at least half a grey level. The detectability d' is the part of
    the output that is due to the signal, divided by that noise; ``visibility`` is d' in the fused image divided by d'
    in the source.

    Parameters
    ----------
    method : callable, or an object that has `fuse`
        The method, which takes the sources and returns the fused image, such as ``nmfuse.Fuser("laplacian")``.
    sources : sequence of images, shape (H, W) or (H, W, 3)
        Two or more registered images: uint8, uint16, or floats from 0 to 1. Of colour images the luminance is used.
    places : int
        The number of places for each width and source.
    sigmas : sequence of float
        The standard deviations of the signals, in pixels.
    contrast : float
        The contrast of the signals, in grey levels of 255.
    seed : int
        The seed of the random places.

    Returns
    -------
    Transfer

    Raises
    ------
    TypeError, ValueError
        For a method that cannot be called, for images of another kind, for fewer than two images, or if they are too
        small for a signal.

    References
    ----------
    Barrett & Myers, Foundations of Image Science, 2004, ch. 13 (model observers, the non-prewhitening matched filter).

    Examples
    --------
    >>> from nmfuse.data import brain_phantom
    >>> phantom = brain_phantom(96)
    >>> round(transfer(lambda a, b: (a + b) / 2, [phantom.t1, phantom.ct]).mean, 3)
    0.5
    """
    setup = _Setup.of(method, sources)
    rng = np.random.default_rng(seed)
    open_to = _places(setup.planes)
    signals = []
    for source, sigma in itertools.product(range(len(setup.planes)), sigmas):
        for _ in range(places):
            row, column = open_to[rng.integers(len(open_to))]
            one = setup.signal(source, row, column, sigma, contrast)
            added = one.contrast * _gaussian(setup.before.shape, one.row, one.column, one.sigma)
            signals.append(setup.measured(one, {source: added}))
    return _all(signals)


def contradiction(
    method: Fuse | _HasFuse, sources: Sequence[Image | np.ndarray], *, places: int = 8, seed: int = 0
) -> Transfer:
    """Put a bright disc into one source and a fainter dark one into another, and measure which of them is shown.

    The discs have a radius of 3, with +80 of 255 grey levels in the stronger source and -60 in the weaker, like a
    calcification in CT and MRI. For each two sources, either one is the stronger in turn; the discs are at places where
    neither is clipped, if there are any. The `transfer` is that of the stronger disc, and is above 0 if its sign is
    kept.

    Parameters
    ----------
    method, sources, places, seed
        See `transfer`; `places` is the number for each two sources and each choice of the stronger.

    Returns
    -------
    Transfer

    Raises
    ------
    TypeError, ValueError
        See `transfer`.

    Examples
    --------
    >>> from nmfuse.data import brain_phantom
    >>> phantom = brain_phantom(96)
    >>> found = contradiction(lambda a, b: (a + b) / 2, [phantom.t1, phantom.ct])
    >>> round(found.mean, 2), found.wrong
    (0.12, 0.0)
    """
    setup = _Setup.of(method, sources)
    rng = np.random.default_rng(seed)
    allowed = _places(setup.planes)
    means = [ndimage.uniform_filter(plane, 9) for plane in setup.planes]
    signals = []
    for strong, weak in itertools.permutations(range(len(means)), 2):
        rows, columns = allowed.T
        roomy = (means[strong][rows, columns] < 255 - _STRONG) & (means[weak][rows, columns] > _WEAK)
        open_to = allowed[roomy] if roomy.any() else allowed
        for _ in range(places):
            row, column = open_to[rng.integers(len(open_to))]
            disc = _disc(setup.before.shape, row, column, _DISC)
            one = Signal(strong, int(row), int(column), _DISC, _STRONG, 0.0, 0.0)
            signals.append(setup.measured(one, {strong: _STRONG * disc, weak: -_WEAK * disc}))
    return _all(signals)


def transfer_grid(
    method: Fuse | _HasFuse,
    sources: Sequence[Image | np.ndarray],
    *,
    spacing: int = 64,
    sigma: float = 3.0,
    contrast: float = CONTRAST,
) -> Transfer:
    """Put signals into one source at a time, all points of a grid at once, and measure how much of each is shown.

    Unlike `transfer`, this needs only one fusion for each source, and tells for every part of an image what would be
    lost there. The signals are so far apart that they hardly influence each other.

    Parameters
    ----------
    method, sources, contrast
        See `transfer`.
    spacing : int
        The distance from one signal to the next in pixels, at least 32.
    sigma : float
        The standard deviation of the signals, in pixels.

    Returns
    -------
    Transfer

    Raises
    ------
    TypeError, ValueError
        See `transfer`.

    Examples
    --------
    >>> from nmfuse.data import brain_phantom
    >>> phantom = brain_phantom(128)
    >>> len(transfer_grid(lambda a, b: (a + b) / 2, [phantom.t1, phantom.ct]).signals)
    8
    """
    if not is_whole(spacing) or spacing < _LEAST_SPACING:
        raise ValueError(f"spacing: got {spacing!r}; expected at least {_LEAST_SPACING} pixels")
    setup = _Setup.of(method, sources)
    shape = setup.before.shape
    axes = [range((n % spacing) // 2 + spacing // 2, n - _BORDER, spacing) for n in shape]
    reach = int(np.ceil(4 * sigma)) + SHIFTS  # what is looked at around each
    signals: list[Signal | None] = []
    for source, plane in enumerate(setup.planes):
        added = np.zeros(shape)
        placed = []
        for row, column in itertools.product(*axes):
            near = tuple(slice(max(0, at - reach), at + reach + 1) for at in (row, column))
            one = setup.signal(source, row, column, sigma, contrast)
            here = replace(one, row=row - near[0].start, column=column - near[1].start)
            added[near] += one.contrast * _gaussian(plane[near].shape, here.row, here.column, sigma)
            placed.append((one, here, near))
        difference, s = setup.fused_with({source: added}, source)
        for one, here, near in placed:
            found = _of(here, *(x[near] for x in (difference, s, setup.before, plane)))
            signals.append(found and replace(found, row=one.row, column=one.column))
    return _all(signals)


def _all(signals: Sequence[Signal | None]) -> Transfer:
    measured = tuple(one for one in signals if one is not None)
    if not measured:
        raise ValueError("sources: no place leaves room for a signal: all are white, or all are black")
    return Transfer(measured)


def _callable(method: Any) -> Fuse:
    fuse = getattr(method, "fuse", method)
    if not callable(fuse):
        raise TypeError(
            f"method: got {method!r}; expected a function of the sources, such as nmfuse.Fuser('laplacian')"
        )
    return fuse  # type: ignore[no-any-return]


def _taken(sources: Sequence[Image | np.ndarray]) -> tuple[list[Image], list[Plane]]:
    """Return the sources as images, and their luminances in grey levels of 255."""
    if isinstance(sources, (np.ndarray, Image)) or len(sources) < 2:
        raise ValueError("sources: expected a list of two or more images, such as [a, b]")
    images = [x if isinstance(x, Image) else Image(np.asarray(x)) for x in sources]
    planes = [_grey_levels(image, f"sources[{k}]") for k, image in enumerate(images)]
    if len({plane.shape for plane in planes}) > 1:
        raise ValueError(f"sources: sizes {[plane.shape for plane in planes]}; expected one, of registered images")
    if min(planes[0].shape) <= 2 * _BORDER or planes[0].ndim != 2:
        raise ValueError(
            f"sources: shape {planes[0].shape}; expected (H, W) or (H, W, 3) of more than {2 * _BORDER} pixels a side: "
            f"signals stay {_BORDER} from the border"
        )
    return images, planes


def _white(dtype: np.dtype[Any], name: str) -> float:
    if dtype.kind == "f":
        return 1.0
    if dtype not in (np.uint8, np.uint16):
        raise TypeError(f"{name}: dtype {dtype}; expected uint8, uint16, or floats of 0 to 1: bring it to one of them")
    return float(np.iinfo(dtype).max)


def _grey_levels(image: Image | np.ndarray, name: str) -> Plane:
    levels: Plane = np.asarray(luminance(image), np.float64) * (255 / _white(image.dtype, name))
    if image.dtype.kind == "f" and not (levels.min() >= 0 and levels.max() <= 255.001):
        raise ValueError(f"{name}: floats of {levels.min() / 255:g} to {levels.max() / 255:g}; expected 0 to 1")
    return levels


def _places(planes: Sequence[Plane]) -> NDArray[np.intp]:
    """Return rows and columns of where a signal may be put, (places, 2)."""
    content = np.stack([ndimage.uniform_filter(plane, 9) > CONTENT for plane in planes])
    inner = np.zeros(planes[0].shape, bool)
    inner[_BORDER:-_BORDER, _BORDER:-_BORDER] = True
    everywhere = content.all(0)
    chosen = (everywhere if everywhere.mean() >= _LEAST_CONTENT else content.any(0)) & inner
    return np.argwhere(chosen if chosen.any() else inner)


def _distances(shape: tuple[int, ...], row: int, column: int) -> Plane:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.asarray(np.hypot(rows - row, columns - column))


def _gaussian(shape: tuple[int, ...], row: int, column: int, sigma: float) -> Plane:
    return np.asarray(np.exp(-(_distances(shape, row, column) ** 2) / (2 * sigma**2)))


def _disc(shape: tuple[int, ...], row: int, column: int, radius: float) -> Plane:
    return np.clip(radius + 0.5 - _distances(shape, row, column), 0, 1)


def _shown(fuse: Fuse, images: Sequence[Image], shape: tuple[int, ...]) -> Plane:
    # Arrays where nothing else is known of them: a method need not know what an `Image` is.
    fused = fuse(*(image if image.valid is not None else image.pixels for image in images))
    levels = _grey_levels(fused if isinstance(fused, Image) else np.asarray(fused), "the fused image")
    if levels.shape != shape:
        raise ValueError(f"method: gave an image of shape {levels.shape} for sources of {shape}; expected theirs")
    return levels


def _with(image: Image, added: Plane) -> Image:
    """Add grey levels of 255 to every channel, rounded and kept in range."""
    white = _white(image.dtype, "sources")
    pixels = image.pixels + (added * (white / 255)).reshape(*added.shape, *[1] * (image.pixels.ndim - 2))
    if image.dtype.kind == "u":
        pixels = np.rint(pixels)
    return image.with_pixels(np.clip(pixels, 0, white).astype(image.dtype), image.valid)


@dataclass(frozen=True)
class _Setup:
    """What fuses, the sources, their luminances in grey levels of 255, and that of the fused image without signals."""

    fuse: Fuse
    images: list[Image]
    planes: list[Plane]
    before: Plane

    @classmethod
    def of(cls, method: Fuse | _HasFuse, sources: Sequence[Image | np.ndarray]) -> _Setup:
        fuse = _callable(method)
        images, planes = _taken(sources)
        return cls(fuse, images, planes, _shown(fuse, images, planes[0].shape))

    def signal(self, source: int, row: int, column: int, sigma: float, contrast: float) -> Signal:
        """Return a signal, yet to be measured, that is bright where its source is dark, and dark where it is bright."""
        dark = self.planes[source][row - 4 : row + 5, column - 4 : column + 5].mean() < 127.5
        return Signal(source, int(row), int(column), float(sigma), contrast if dark else -contrast, 0.0, 0.0)

    def fused_with(self, added: dict[int, Plane], source: int) -> tuple[Plane, Plane]:
        """Return what the fused image, and a source, have more once grey levels are added to some sources."""
        changed = [_with(image, added[k]) if k in added else image for k, image in enumerate(self.images)]
        more = _shown(self.fuse, changed, self.before.shape) - self.before
        return more, _grey_levels(changed[source], "sources") - self.planes[source]

    def measured(self, one: Signal, added: dict[int, Plane]) -> Signal | None:
        """Return the signal with what the fused image shows of it; None where its source had no room for it."""
        return _of(one, *self.fused_with(added, one.source), self.before, self.planes[one.source])


def _of(one: Signal, difference: Plane, s: Plane, before: Plane, plane: Plane) -> Signal | None:
    """Return a signal s of a source with what a difference of fused images shows of it; None where there is none."""
    energy = float((s * s).sum())
    if energy == 0:
        return None
    shown = float((difference * s).sum())
    clutter = [_clutter(image, s, one) for image in (before, plane)]
    return replace(one, transfer=shown / energy, visibility=shown / clutter[0] / (energy / clutter[1]))


def _clutter(image: Plane, s: Plane, one: Signal) -> float:
    """Return the standard deviation of a matched filter's output around a place of an image without the signal."""
    half = int(np.ceil(4 * one.sigma))
    window = [slice(max(0, at - half), at + half + 1) for at in (one.row, one.column)]
    template = s[window[0], window[1]]
    near = [
        (max(0, part.start - SHIFTS), min(part.stop + SHIFTS, n)) for part, n in zip(window, image.shape, strict=True)
    ]
    from scipy import signal  # which takes a second to load

    outputs = signal.fftconvolve(
        image[near[0][0] : near[0][1], near[1][0] : near[1][1]], template[::-1, ::-1], mode="valid"
    )
    return max(float(outputs.std()), LEAST_NOISE * float(np.abs(template).sum()))
