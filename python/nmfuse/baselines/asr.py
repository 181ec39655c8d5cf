"""ASR: patches coded by the dictionary of their gradient orientation."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nmfuse.baselines.rules import Image
from nmfuse.baselines.sparse import PATCH, dictionaries, fuse_patches, orthogonal_matching_pursuit

ORIENTATIONS = 6
_CLEAR = 1.5 / ORIENTATIONS  # share of the gradients in one orientation above which a patch has that orientation


def fuse(
    a: Image,
    b: Image,
    step: int = 1,
    noise: float = 0.0,
    mean: str = "average",
    dictionary: str | Path | None = None,
) -> Image:
    """Fuse by adaptive sparse representation.

    Of each pair of patches the one of larger variance tells the orientation, and so which of seven dictionaries codes
    both; the code of larger 1-norm is taken. Overlaps are averaged. As in the code of the authors, the gradients are
    those of the patch with its mean before a border of zeros.

    Parameters
    ----------
    a, b : (H, W)
    step : int
        Pixels between the 8 x 8 patches.
    noise : float
        Its standard deviation on the scale 0 to 255; a code's error is ``8 * 1.15 * noise + 0.1``.
    mean : {"average", "source"}
        The mean of a fused patch: of both patches (multi-modal images), or that of the patch taken (multi-focus).
    dictionary : path, optional
        Folder of the authors' two files (``D_100000_256_8_0.mat``, ``D_100000_256_8_6.mat``; research use only); by
        default our own, of the same sizes.

    References
    ----------
    Liu & Wang, "Simultaneous image fusion and denoising with adaptive sparse representation", IET Image Process. 9
    (2015) 347-357.
    """
    if mean not in ("average", "source"):
        raise ValueError(f"mean: got {mean!r}; expected 'average' or 'source'")
    general, oriented = dictionaries() if dictionary is None else authors_dictionaries(Path(dictionary))
    error = PATCH * 1.15 * noise + 0.1

    def rule(x: Tensor, y: Tensor, mean_x: Tensor, mean_y: Tensor) -> Tensor:
        kind = orientation(torch.where((x.square().sum(1) >= y.square().sum(1))[:, None], x + mean_x, y + mean_y))
        fused = torch.empty_like(x)
        for k in range(ORIENTATIONS + 1):
            of = kind == k
            atoms = oriented[k] if k < ORIENTATIONS else general
            (p, l1_p), (q, l1_q) = (orthogonal_matching_pursuit(z[of], atoms, error) for z in (x, y))
            won = torch.sign(l1_p - l1_q)[:, None]
            if mean == "source":
                p, q = p + mean_x[of], q + mean_y[of]
            fused[of] = torch.where(won > 0, p, torch.where(won < 0, q, (p + q) / 2))
        return fused if mean == "source" else fused + (mean_x + mean_y) / 2

    return fuse_patches(a, b, step, rule)


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
