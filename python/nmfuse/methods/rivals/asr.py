"""ASR: patches coded by the dictionary of their gradient orientation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nmfuse.kernels.checks import check_count
from nmfuse.methods.base import Plane, Planes, Rival, check_choice
from nmfuse.methods.rivals.rules import check_not_negative
from nmfuse.methods.rivals.sparse import (
    PATCH,
    dictionaries,
    fuse_patches,
    orthogonal_matching_pursuit,
    take_largest,
)

ORIENTATIONS = 6
_CLEAR = 1.5 / ORIENTATIONS  # share of the gradients in one orientation above which a patch has that orientation


@dataclass(frozen=True)
class Asr(Rival):
    """Adaptive sparse representation.

    Of the patches of all images at a place the one of the largest variance tells the orientation, and so which of seven
    dictionaries codes them all; the code of the largest 1-norm is taken. Overlaps are averaged. As in the code of the
    authors, the gradients are those of the patch with its mean before a border of zeros.

    Parameters
    ----------
    step : int
        Pixels between the 8 x 8 patches, at least 1.
    noise : float
        Its standard deviation on the scale 0 to 255; a code's error is ``8 * 1.15 * noise + 0.1``.
    mean : {"average", "source"}
        The mean of a fused patch: of all patches (multi-modal images), or that of the patch taken (multi-focus).
    dictionary : path, optional
        Folder of the authors' two files (``D_100000_256_8_0.mat``, ``D_100000_256_8_6.mat``; research use only); by
        default our own, of the same sizes.

    References
    ----------
    Liu & Wang, "Simultaneous image fusion and denoising with adaptive sparse representation", IET Image Process. 9
    (2015) 347-357, whose choices are the same for more images than two.

    Examples
    --------
    >>> Asr(step=4).fuse_planes(np.random.default_rng(0).random((3, 32, 24))).shape
    (32, 24)
    """

    step: int = 1
    noise: float = 0.0
    mean: str = "average"
    dictionary: str | Path | None = None

    def __post_init__(self) -> None:
        check_count("step", self.step, 1)
        check_not_negative("noise", self.noise)
        check_choice("mean", self.mean, ("average", "source"))

    def fuse_planes(self, x: Planes) -> Plane:
        """Return the fused luminance (H, W) of (S, H, W)."""
        return fuse_patches(x, self.step, self._code)

    def _code(self, patches: list[Tensor], means: Tensor) -> Tensor:
        own = self.dictionary is None
        general, oriented = dictionaries() if own else authors_dictionaries(Path(str(self.dictionary)))
        error = PATCH * 1.15 * self.noise + 0.1
        kind = orientation(_most_varied(patches, means))
        fused = torch.empty_like(patches[0])
        for k in range(ORIENTATIONS + 1):
            of = kind == k
            atoms = oriented[k] if k < ORIENTATIONS else general
            codes, magnitudes = zip(*(orthogonal_matching_pursuit(p[of], atoms, error) for p in patches), strict=True)
            if self.mean == "source":
                codes = tuple(code + mean[of] for code, mean in zip(codes, means, strict=True))
            fused[of] = take_largest(magnitudes, codes)
        return fused if self.mean == "source" else fused + means.sum(0) / len(means)


def _most_varied(patches: list[Tensor], means: Tensor) -> Tensor:
    """Return of each place the patch of the largest variance, with its mean: (N, 64)."""
    chosen, most = patches[0] + means[0], patches[0].square().sum(1)
    for patch, mean in zip(patches[1:], means[1:], strict=True):
        energy = patch.square().sum(1)
        chosen = torch.where((energy > most)[:, None], patch + mean, chosen)
        most = torch.maximum(most, energy)
    return chosen


def orientation(patches: Tensor) -> Tensor:
    """Return the dominant orientation of patches (N, 64): 0 to 5 in steps of 30 degrees, 6 where none is clear.

    Sobel gradients with a zero border, their angles weighted by magnitude; a step has its upper end.
    """
    x = patches.reshape(-1, 1, PATCH, PATCH)
    sobel = x.new_tensor([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    kernels = torch.stack([sobel, sobel.T])[:, None]
    dx, dy = torch.nn.functional.conv2d(x, kernels, padding=1).flatten(2).unbind(1)
    angle = torch.atan(dy / dx).nan_to_num(0.0) * (180 / math.pi)
    angle = torch.where(angle < 0, angle + 180, angle)
    which = (angle / (180 / ORIENTATIONS)).ceil().long().sub(1).clamp_min(0)
    histogram = x.new_zeros(len(x), ORIENTATIONS).scatter_add(1, which, (dx**2 + dy**2).sqrt())
    most, best = histogram.max(dim=1)
    return torch.where(most > _CLEAR * histogram.sum(1), best, ORIENTATIONS)


@lru_cache(maxsize=1)
def authors_dictionaries(folder: Path) -> tuple[Tensor, Tensor]:
    """Return the general and the six oriented dictionaries of the authors, pixels rows first."""
    from scipy.io import loadmat

    general = loadmat(folder / "D_100000_256_8_0.mat")["D"]
    oriented = loadmat(folder / "D_100000_256_8_6.mat")["Dn"]

    def rows_first(d: np.ndarray) -> Tensor:
        d = d.reshape(PATCH, PATCH, -1).swapaxes(0, 1).reshape(PATCH * PATCH, -1)  # MATLAB's patches: columns first
        return torch.from_numpy(np.ascontiguousarray(d)).float()

    return rows_first(general), rows_first(oriented).reshape(PATCH * PATCH, ORIENTATIONS, -1).movedim(1, 0).contiguous()
