"""Features of an image for classification: two views, Siamese branches, parts by NMF."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nmfuse import nets
from nmfuse.classify.images import crop_content, fit_square
from nmfuse.kernels import hannmean, nmf

SIDE = 96  # pixels: what the branches see
LEVELS = 3  # of the pyramid that the frozen branches look at
_FOREGROUND = 0.06  # of white: darker is background
_MIDDLE = 0.4  # what the median of the foreground becomes
_BRIGHTEST = 2.0
_PATCH = 4  # pixels: a part of the image itself, where no network looks
COLUMNS = 2**15  # of the maps: what the parts are learned from
_LIGHT = ((0.8, 1.25), (0.85, 1.2))  # gamma and gain of the augmentation
_POSES = ((0.0, 1.0, 1.0), (0.0, 1.0, -1.0), (0.2, 1.07, 1.0), (-0.2, 1.07, -1.0), (-0.2, 0.93, 1.0), (0.2, 0.93, -1.0))
_TINY = 1e-12


def prepare(image: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Return what the branches see of an image: its content, squared, resized, with a common brightness.

    Parameters
    ----------
    image : array, shape (H, W)
        From 0 to 1.
    side : int
        Height and width of the result.

    Returns
    -------
    array, shape (side, side)
        float32; the median of what is not background is 0.4, and nothing is above 2.

    Examples
    --------
    >>> prepare(np.full((90, 70), 0.8, np.float32)).max()
    np.float32(0.4)
    """
    square = fit_square(np.ascontiguousarray(crop_content(image, image > _FOREGROUND), np.float32), side)
    inside = square[square > _FOREGROUND]
    scale = _MIDDLE / float(np.median(inside)) if inside.size else 1.0
    lit: np.ndarray = np.minimum(np.maximum(square, 0) * np.float32(scale), np.float32(_BRIGHTEST))
    return lit


def two_views(images: Tensor, hannmean_size: int) -> Tensor:
    """Return the views of images (N, side, side): as they are and Hannmean-filtered, (N, 2, side, side).

    Pairs of images (N, 2, side, side) are two views already. ``hannmean_size=0`` gives the images twice.
    """
    if images.ndim == 4:
        return images
    return torch.stack([images, hannmean(images.contiguous(), hannmean_size) if hannmean_size else images], dim=1)


class FrozenBranches(nn.Module):
    """Siamese branches at the focus weights, which look at each level of the pyramid of both views.

    Parameters
    ----------
    cnn : bool
        False: no network, but the 4 x 4 patches of the views themselves.

    Examples
    --------
    >>> [tuple(maps.shape) for maps in FrozenBranches()(torch.rand(3, 2, 96, 96))]
    [(3, 128, 12, 12), (3, 128, 6, 6), (3, 128, 3, 3)]
    """

    def __init__(self, *, cnn: bool = True) -> None:
        super().__init__()
        self.net = copy.deepcopy(nets.load("lite")) if cnn else None
        if self.net is not None:
            del self.net.head  # of the focus task

    def forward(self, views: Tensor) -> list[Tensor]:
        """Return the non-negative maps (N, C, h, w) of each level; both views' side by side in C."""
        maps = []
        for level in range(LEVELS):
            x = functional.avg_pool2d(views, 2**level) if level else views
            if self.net is None:
                maps.append(functional.pixel_unshuffle(x, _PATCH))
            else:
                seen = self.net.features(x.flatten(0, 1)[:, None])
                maps.append(functional.avg_pool2d(seen.reshape(len(x), -1, *seen.shape[2:]), _PATCH))
        return maps


class DeepBranches(nn.Module):
    """Siamese branches to be fine-tuned: one `DeepBranch` sees both views.

    Parameters
    ----------
    pairs : bool
        The views are two images; otherwise the second is the Hannmean-filtered first, and is looked at in half size.

    Attributes
    ----------
    emphasis : Tensor (C,)
        What each map is multiplied by: how much it matters, so that the NMF spends its parts on what does.

    Examples
    --------
    >>> [tuple(maps.shape) for maps in DeepBranches()(torch.rand(3, 2, 96, 96))]
    [(3, 192, 12, 12)]
    """

    emphasis: Tensor

    def __init__(self, *, pairs: bool = False) -> None:
        super().__init__()
        self.pairs = pairs
        self.branch = nets.DeepBranch()
        self.register_buffer("emphasis", torch.ones(2 * self.branch.width))

    def forward(self, views: Tensor) -> list[Tensor]:
        """Return the non-negative maps (N, C, h, w) of the one level; both views' side by side in C."""
        first, second = views[:, :1], views[:, 1:]
        if self.pairs:
            maps = self.branch(first), self.branch(second)
        else:
            half = self.branch(functional.avg_pool2d(second, 2))
            maps = self.branch(first), half.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return [torch.cat(maps, dim=1) * self.emphasis[:, None, None]]


def pool(maps: list[Tensor]) -> Tensor:
    """Return the mean and the greatest value of each map: (N, 2 * levels * C)."""
    return torch.cat([torch.cat([m.mean((2, 3)), m.amax((2, 3))], dim=1) for m in maps], dim=1)


def some_columns(maps: list[Tensor], share: float, rng: np.random.Generator) -> Tensor:
    """Return V (C, n) of maps (N, C, h, w): a column for each place, or for a share of them drawn at random."""
    V = torch.cat([m.movedim(1, 0).flatten(1) for m in maps], dim=1)
    if share >= 1:
        return V
    drawn = rng.choice(V.shape[1], max(1, round(share * V.shape[1])), replace=False)
    return V[:, torch.from_numpy(np.sort(drawn)).to(V.device)]


def factorize(V: Tensor, rank: int, seed: int) -> Tensor:
    """Return W (m, r) of ``V ~ W H``, learned from all columns of V (m, n)."""
    W: Tensor = nmf(V.contiguous(), rank, max_iter=200, seed=seed)[0]
    return W


def coefficients(V: Tensor, W: Tensor, iterations: int = 100) -> Tensor:
    """Return H (r, n) of ``V ~ W H`` for a W that is given.

    Every column starts alike and makes as many steps: what it becomes depends on no other column.
    """
    start = V.new_ones(W.shape[1], V.shape[1])
    H: Tensor = nmf(V.contiguous(), fixed_W=W, init=(W, start), max_iter=1, inner_iter=iterations, tol=0)[1]
    return H


def part_maps(maps: list[Tensor], W: Tensor) -> list[Tensor]:
    """Return how much of each part of W (C, r) is where: the maps (N, r, h, w) of each level of maps (N, C, h, w)."""
    parts = []
    for m in maps:
        count, channels, height, width = m.shape
        H = coefficients(m.movedim(1, 0).reshape(channels, -1), W)
        parts.append(H.reshape(-1, count, height, width).movedim(0, 1))
    return parts


def poses(images: Tensor) -> list[Tensor]:
    """Return images (N, side, side) or pairs (N, 2, side, side) as they are, mirrored, and slightly turned and scaled.

    What is said of an image is the mean over its poses.
    """
    return [_move(images, _pose(pose).expand(len(images), 2, 3)) for pose in _POSES]


def unpose(heats: Tensor) -> Tensor:
    """Return maps (poses, side, side) laid back on the image, each value where it was seen; their sums stay."""
    moves = torch.stack([_pose(pose) for pose in _POSES]).to(heats)
    with torch.enable_grad():
        x = torch.zeros_like(heats)[:, None].requires_grad_()
        grid = functional.affine_grid(moves, list(x.shape), align_corners=False)
        seen = functional.grid_sample(x, grid, align_corners=False, padding_mode="border")
        laid: Tensor = torch.autograd.grad(seen, x, heats[:, None])[0]
    return laid[:, 0]


def augment(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Flip, rotate, scale, shift and re-light images (N, side, side) or pairs (N, 2, side, side), each at random."""
    count = len(images)
    angle, scale = rng.uniform(-0.35, 0.35, count), rng.uniform(0.85, 1.15, count)
    flip = rng.choice([-1.0, 1.0], count)
    shift = rng.uniform(-0.08, 0.08, (count, 2))
    moved = _move(images, torch.from_numpy(_moves(angle, scale, flip, shift)))
    sizes = count, *(1,) * (images.ndim - 1)
    gamma, gain = (torch.from_numpy(rng.uniform(low, high, sizes)).to(images) for low, high in _LIGHT)
    return moved.clamp_min(_TINY) ** gamma * gain


def shrink(images: Tensor, side: int) -> Tensor:
    """Return images (N, H, W) or pairs (N, 2, H, W) at side x side pixels."""
    planes = images if images.ndim == 4 else images[:, None]
    small = functional.interpolate(planes, size=(side, side), mode="bilinear", antialias=True)
    return small.reshape(*images.shape[:-2], side, side)


def _moves(angle: np.ndarray, scale: np.ndarray, flip: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return the affine matrices (N, 2, 3) that say where each pixel is taken from."""
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    return np.stack([np.stack([cos * flip, -sin, shift[:, 0]], 1), np.stack([sin * flip, cos, shift[:, 1]], 1)], 1)


def _pose(pose: tuple[float, float, float]) -> Tensor:
    angle, scale, flip = (np.array([value]) for value in pose)
    return torch.from_numpy(_moves(angle, scale, flip, np.zeros((1, 2))))[0]


def _move(images: Tensor, moves: Tensor) -> Tensor:
    planes = images if images.ndim == 4 else images[:, None]
    grid = functional.affine_grid(moves.to(planes), list(planes.shape), align_corners=False)
    return functional.grid_sample(planes, grid, align_corners=False).reshape(images.shape)
