"""Small signals, put into the sources of a training step: what the fused image must not lose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from nmfuse.metrics.transfer import CONTENT, LEAST_NOISE, SHIFTS

Images = NDArray[np.float32]  # (S, N, H, W), 0 to 1
_CELL = 64  # pixels along the square that each signal has for itself
_LEAST, _MOST = 10 / 255, 80 / 255  # contrast
_CONTRADICTING = 0.3  # share of signals that a second source shows with the other sign, fainter
_IN_ROOM = 0.8  # share of signals that are bright on dark and dark on bright
_LEAST_LEFT = 0.5  # share of a signal's energy that must be left once it is cut to 0 and 1
_WANTED, _WANTED_OF_CONTRADICTING = 1.0, 0.8  # transfer


@dataclass(frozen=True)
class Inserted:
    """A signal as it was added to a source of one of N scenes.

    Attributes
    ----------
    scene : int
    place : tuple of slice
        Rows and columns of `shape`, and nearly all of the signal.
    shape : array (h, w)
        What the source has more than before.
    clutter : float
        Standard deviation of its matched filter's output in the source without it.
    wanted : float
        The transfer that is enough.
    """

    scene: int
    place: tuple[slice, slice]
    shape: NDArray[np.float32]
    clutter: float
    wanted: float


def insert_signals(images: Images, rng: np.random.Generator) -> tuple[Images, list[Inserted]]:
    """Return S sources of N scenes with a signal in each cell that has content, and what was inserted.

    A signal is a Gaussian, a disc, a ring, a line or a grain, of a random size and of a contrast of 10 to 80 grey
    levels of 255, in one source; or in one and, fainter and with the other sign, in another.
    """
    changed, inserted = images.copy(), list[Inserted]()
    sources, scenes, height, width = images.shape
    content = ndimage.uniform_filter(images, (1, 1, 9, 9)) > CONTENT / 255
    for scene in range(scenes):
        for top in range(0, height - _CELL + 1, _CELL):
            for left in range(0, width - _CELL + 1, _CELL):
                place = slice(top, top + _CELL), slice(left, left + _CELL)
                at = (top + int(rng.integers(16, _CELL - 16)), left + int(rng.integers(16, _CELL - 16)))
                shape = _shape(at[0] - top, at[1] - left, rng)
                order, contrast = rng.permutation(sources), rng.uniform(_LEAST, _MOST)
                contradicts, in_room, fainter = rng.random() < _CONTRADICTING, rng.random(), rng.uniform(0.3, 0.8)
                there = content[:, scene, at[0], at[1]]
                if not there.all() and not (there[order[0]] and rng.random() < 0.5):
                    continue
                one = changed[order[0], scene][place]
                dark = one[at[0] - top - 4 : at[0] - top + 5, at[1] - left - 4 : at[1] - left + 5].mean() < 0.5
                if in_room > _IN_ROOM:
                    dark = not dark
                signal = (contrast if dark else -contrast) * shape
                added = np.rint(255 * np.clip(one + signal, 0, 1)) / np.float32(255) - one
                if (added**2).sum() < _LEAST_LEFT * (signal**2).sum():
                    continue
                changed[order[0], scene][place] = one + added
                if contradicts:
                    other = changed[order[1], scene][place]
                    other[:] = np.rint(255 * np.clip(other - fainter * signal, 0, 1)) / np.float32(255)
                wanted = _WANTED_OF_CONTRADICTING if contradicts else _WANTED
                s = torch.from_numpy(added.astype(np.float32))
                clutter = float(_clutter(torch.from_numpy(images[order[0], scene]), s, place))
                inserted.append(Inserted(scene, place, s.numpy(), clutter, wanted))
    return changed, inserted


def shortfalls(without: Tensor, with_signals: Tensor, inserted: list[Inserted]) -> tuple[Tensor, Tensor]:
    """Return what fused images (N, H, W) lack of the signals: mean squares of what is missing in transfer and in d'.

    The transfer of a signal is what it should at least be; its detectability d' by a matched filter
    (`nmfuse.metrics.transfer`) what it is in its source. Both are 0 where there are no signals.
    """
    if not inserted:
        return without.new_zeros(()), without.new_zeros(())
    missing, faint = [], []
    difference = with_signals - without
    for one in inserted:
        s = torch.from_numpy(one.shape).to(without)
        energy = (s * s).sum()
        shown = (difference[one.scene][one.place] * s).sum() / energy
        missing.append((one.wanted - shown).clamp_min(0))
        clutter = _clutter(without[one.scene], s, one.place)
        faint.append((1 - shown * one.clutter / clutter).clamp(0, 1))
    return torch.stack(missing).square().mean(), torch.stack(faint).square().mean()


def _clutter(image: Tensor, s: Tensor, place: tuple[slice, slice]) -> Tensor:
    """Return the standard deviation of a matched filter's output around a place of an image (H, W)."""
    rows, columns = (
        slice(max(0, part.start - SHIFTS), min(part.stop + SHIFTS, n))
        for part, n in zip(place, image.shape, strict=True)
    )
    outputs = torch.nn.functional.conv2d(image[None, None, rows, columns], s[None, None])
    least = LEAST_NOISE / 255 * s.abs().sum()
    return torch.sqrt(outputs.var(correction=min(1, outputs.numel() - 1)) + least * least)


def _shape(row: int, column: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a signal of height one in a cell."""
    y, x = np.ogrid[:_CELL, :_CELL]
    y, x = y - row, x - column
    distance, size = np.hypot(y, x), 2 ** rng.uniform(0.3, 2.8)
    kind = rng.random()
    if kind < 0.5:
        shape = np.exp(-(distance**2) / (2 * size**2))
    elif kind < 0.7:
        shape = np.clip((size + 1 - distance) / rng.uniform(0.7, 2), 0, 1)
    elif kind < 0.8:
        shape = np.exp(-((distance - 1.5 * size) ** 2) / (2 * rng.uniform(0.7, 1.5) ** 2))
    elif kind < 0.9:
        angle = rng.uniform(0, np.pi)
        along, across = np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
        shape = np.exp(-(across**2) / (2 * rng.uniform(0.6, 1.5) ** 2) - (along / (2 * size)) ** 4)
    else:
        grain = ndimage.gaussian_filter(rng.standard_normal((_CELL, _CELL)), rng.uniform(0.6, 2))
        shape = np.exp(-(distance**2) / (2 * (2 * size) ** 2)) * grain / (2 * grain.std())
    return np.asarray(shape, np.float32)
