"""Sparse codes of many patches at once, and the fusion of images patch by patch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.resources import as_file, files

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nmfuse.methods.base import Plane, Planes

PATCH = 8  # pixels
SCALE = 255.0  # error bounds are on this scale
DICTIONARIES = "dictionaries.npz"
_PIECE = 1024  # patches at a time: their bases fit the cache


def orthogonal_matching_pursuit(x: Tensor, dictionary: Tensor, error: float) -> tuple[Tensor, Tensor]:
    """Approximate each vector by few atoms until ``|x - D a| <= error``, all vectors at once.

    Each step takes the atom that correlates most with the residual, orthogonalises it against those taken, and
    projects the residual; the codes follow from one triangular solution at the end.

    Parameters
    ----------
    x : Tensor (N, P)
        Vectors, float32 or float64.
    dictionary : Tensor (P, K)
        Atoms of unit length.
    error : float
        Greatest length of a residual; at most P atoms are taken.

    Returns
    -------
    approximation : Tensor (N, P)
    magnitude : Tensor (N,)
        Sum of the absolute codes.

    References
    ----------
    Pati, Rezaiifar & Krishnaprasad, Asilomar 1993.
    """
    pieces = [_pursue(piece, dictionary, error) for piece in torch.split(x, _PIECE)]
    if not pieces:
        return x.clone(), x.new_zeros(0)
    return torch.cat([piece[0] for piece in pieces]), torch.cat([piece[1] for piece in pieces])


def _pursue(x: Tensor, dictionary: Tensor, error: float) -> tuple[Tensor, Tensor]:
    count, size = x.shape
    residual, magnitude = x.clone(), x.new_zeros(count)
    active = (x.norm(dim=1) > error).nonzero()[:, 0]  # rows of x that are still worked on, or wait to be put away
    rest = x[active]
    n = len(active)
    basis = x.new_zeros(n, size, size)  # (vector, atom, pixel): orthonormal, zero once a vector is done
    triangle = torch.eye(size, dtype=x.dtype).repeat(n, 1, 1)  # the atoms in terms of the basis
    along = x.new_zeros(n, size)  # the vectors in terms of the basis
    going = torch.ones(n, dtype=torch.bool)
    atoms_first = dictionary.T.contiguous()

    def put_away(which: Tensor, steps: int) -> None:
        upper = triangle[which, :steps, :steps]
        codes = torch.linalg.solve_triangular(upper, along[which, :steps, None], upper=True)
        magnitude[active[which]] = codes.abs().sum((1, 2))
        residual[active[which]] = rest[which]

    step = 0
    while step < size and bool(going.any()):
        atoms = atoms_first[(rest @ dictionary).abs_().argmax(dim=1)]
        known = basis[:, :step]
        shares = torch.einsum("nkp,np->nk", known, atoms)
        direction = atoms - torch.einsum("nk,nkp->np", shares, known)
        length = direction.norm(dim=1)
        going &= length > 1e-4  # an atom that adds nothing ends the pursuit of its vector
        triangle[:, :step, step] = torch.where(going[:, None], shares, 0.0)
        triangle[:, step, step] = torch.where(going, length, 1.0)
        direction *= torch.where(going, 1 / length.clamp_min(1e-4), 0.0)[:, None]
        basis[:, step] = direction
        along[:, step] = (direction * rest).sum(1)
        rest = rest - along[:, step, None] * direction
        going &= rest.norm(dim=1) > error
        step += 1
        if 2 * int(going.sum()) < len(going):  # half of them are done: the others go on among themselves
            put_away(~going, step)
            active, rest, basis, triangle, along = (z[going] for z in (active, rest, basis, triangle, along))
            going = going[going]
    put_away(torch.ones_like(going), step)
    return x - residual, magnitude


def fuse_patches(x: Planes, step: int, rule: Callable[[list[Tensor], Tensor], Tensor]) -> Plane:
    """Fuse all 8 x 8 patches of S images, `step` pixels apart, and average where they overlap.

    `rule` takes each image's patches without their means, S times (N, 64), rows first, and the means (S, N, 1), and
    returns the fused patches (N, 64) with theirs. Pixels that no patch covers are averaged.
    """
    images = [torch.from_numpy(np.array(source)).float()[None, None] * SCALE for source in x]
    patches = [torch.nn.functional.unfold(image, PATCH, stride=step)[0].T for image in images]
    means = torch.stack([p.mean(1, keepdim=True) for p in patches])
    fused = rule([p - mean for p, mean in zip(patches, means, strict=True)], means)
    both = torch.stack([fused.T, torch.ones_like(fused.T)])
    total, cover = torch.nn.functional.fold(both, x.shape[1:], PATCH, stride=step)[:, 0]
    average = torch.cat(images)[:, 0].sum(0) / len(images)
    result = torch.where(cover > 0, total / cover.clamp_min(1), average)
    return np.asarray(result.double().numpy() / SCALE)


def take_largest(magnitudes: Sequence[Tensor], *terms: Sequence[Tensor]) -> Tensor:
    """Return the sum of the terms of the source of the largest magnitude; ties give their mean.

    Parameters
    ----------
    magnitudes : S tensors (N,)
        1-norms of codes.
    terms : each S tensors (N, P) or (N, 1)
        What belongs to them, to be added up.

    Returns
    -------
    Tensor (N, P)
    """
    stacked = torch.stack(list(magnitudes))
    best = (stacked == stacked.amax(0))[..., None]  # (S, N, 1)
    taken = [torch.where(which, part, 0.0) for term in terms for which, part in zip(best, term, strict=True)]
    total = taken[0]
    for part in taken[1:]:
        total = total + part
    return total / best.sum(0)


@lru_cache(maxsize=1)
def dictionaries() -> tuple[Tensor, Tensor]:
    """Return the shipped dictionaries: the general one (64, 256), and those of six orientations (6, 64, 256).

    `nmfuse train dictionaries` learned them; each column has length 1 and no mean, pixels rows first.
    """
    with as_file(files("nmfuse.methods.rivals") / DICTIONARIES) as path, np.load(path) as stored:
        return _unit(stored["general"]), _unit(stored["oriented"])


def _unit(atoms: NDArray[np.int8]) -> Tensor:
    d = torch.from_numpy(atoms.astype(np.float32))
    unit: Tensor = d / torch.linalg.vector_norm(d, dim=-2, keepdim=True).clamp_min(1e-12)
    return unit
