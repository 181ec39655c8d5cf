"""Registration: where each place of one image lies in another, found from their pixels."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
from scipy import ndimage, optimize

from nmfuse.align.edges import Plane, Positions, Shifts, block_shifts, edge_field, plane_of, whole_shift
from nmfuse.align.information import register_by_information
from nmfuse.align.models import MODELS, agrees, fit
from nmfuse.align.transform import Transform
from nmfuse.images import Image

METHODS = ("auto", "edges", "information")
_COARSE, _MIDDLE = 128, 512  # pixels along the longer side, at which the search and the first rounds take place
_SURE = 0.95  # share of blocks, by weight, that have to agree; otherwise whole images are compared
_TURNS = np.deg2rad(np.arange(-10, 11, 2))
_SCALES = np.arange(0.9, 1.101, 0.025)
_REACHES = (24, 12, 6, 4)  # pixels that blocks may be off, round by round
_BLOCK, _FINE = 128, 64  # pixels along a block at most; where a field bends
_ACROSS = 9  # blocks along a side at most
_NODES = 12  # of the field of a deformable transform along the longer side
_LEAST = 6  # blocks without which nothing is fitted


def register(moving: Image, fixed: Image, *, model: str | None = None, method: str = "auto") -> Transform:
    """Register an image with another, and return the transform between them.

    Parameters
    ----------
    moving, fixed : Image
        The image to be registered, and the one that it is registered with, with NumPy pixels. Of colour images the
        luminance is used. Either both have a grid, or both have two axes and no grid; without a grid they may differ in
        size. Pixels that are not valid are ignored.
    model : str, optional
        How the images may differ: by a "translation"; "rigid", which adds rotation; "similarity", which adds scale,
        such as that of a lens at different focus; "affine"; "homography", for a plane seen from two places; or
        "deformable", a smooth field in addition to an affine transform. The last two are for images without a grid
        only. The default is "similarity", and "rigid" for images with grids in mm, whose scale is known.
    method : str
        "edges" compares the orientation of edges, block by block, whatever their contrast; it is for photographs,
        exposures, infrared with visible, and MRI with MRI or CT. "information" maximizes the mutual information of the
        values; it is for PET and SPECT with MRI, and for everything that has a grid, and needs SimpleITK. "auto"
        chooses information if there is a grid, and edges otherwise.

    Returns
    -------
    Transform
        The transform, in mm if the images have a grid, and otherwise in pixels.

    Raises
    ------
    TypeError
        If an argument is not an `Image`.
    ValueError
        For an unknown model or method, if only one image has a grid, if the images are too small, or if too little of
        them has structure.
    ModuleNotFoundError
        If SimpleITK is needed and not installed.

    Notes
    -----
    A transform is always returned, also if the registration failed. `nmfuse.align.check` tells whether the registered
    images match.

    References
    ----------
    "edges": Fitch, Kadyrov, Christmas & Kittler, "Orientation correlation", BMVC 2002, with squared gradients as in
    Haber & Modersitzki, "Intensity gradient based registration and fusion of multi-modal images", MICCAI 2006.
    "information": Mattes, Haynor, Vesselle, Lewellen & Eubank, "PET-CT image registration in the chest using free-form
    deformations", IEEE Trans. Med. Imaging 22 (2003).

    Examples
    --------
    >>> from nmfuse.data import brain_phantom
    >>> t2, ct = brain_phantom(128).t2, brain_phantom(128).ct
    >>> moved = Image(np.roll(ct, (3, -2), (0, 1)))
    >>> register(moved, Image(t2), model="translation").matrix[:2, 2].round()
    array([ 3., -2.])
    """
    for name, image in (("moving", moving), ("fixed", fixed)):
        if not isinstance(image, Image) or not isinstance(image.pixels, np.ndarray):
            got = type(image).__name__ if not isinstance(image, Image) else f"Image of {type(image.pixels).__name__}"
            raise TypeError(f"{name}: got {got}; expected an nmfuse.Image of a NumPy array")
    if model is None:
        model = "similarity" if fixed.grid is None else "rigid"
    if model not in MODELS:
        raise ValueError(f"model: got {model!r}; expected one of {', '.join(MODELS)}")
    if method not in METHODS:
        raise ValueError(f"method: got {method!r}; expected one of {', '.join(METHODS)}")
    if (moving.grid is None) != (fixed.grid is None):
        names = [image.name or name for name, image in (("moving", moving), ("fixed", fixed))]
        with_one, without = names if moving.grid is not None else names[::-1]
        raise ValueError(f"{without}: has no grid in mm, but {with_one} has one; give both one, or neither")
    if moving.spatial != fixed.spatial or (fixed.grid is None and fixed.spatial != 2):
        raise ValueError(
            f"fixed: {fixed.spatial} axes, moving: {moving.spatial}; expected images of two axes, or volumes with grids"
        )
    by_information = method == "information" or (method == "auto" and fixed.grid is not None)
    if fixed.grid is not None and not by_information:
        raise ValueError("method: edges are for images without a grid; take information, or auto")
    if (by_information or fixed.grid is not None) and model in ("homography", "deformable"):
        raise ValueError(
            f"model: {model} is for images without a grid, by edges; expected one of {', '.join(MODELS[:4])}"
        )
    return (register_by_information if by_information else _register_by_edges)(moving, fixed, model)


def _register_by_edges(moving: Image, fixed: Image, model: str) -> Transform:
    """Search over shift, rotation and scale on small images; then fit the model to shifts of blocks, to full size."""
    a, b = plane_of(fixed), plane_of(moving)
    if min(*a.values.shape, *b.values.shape) < 32:
        raise ValueError(f"fixed: {a.values.shape}, moving: {b.values.shape}; expected at least 32 x 32 pixels")
    start = Transform.scaling(a.values.shape, b.values.shape)
    if model in ("translation", "rigid"):
        start = replace(start, matrix=_about_centres(a.values.shape, b.values.shape, 0.0, 1.0))
    whole = model in ("homography", "deformable")  # what is fitted at first, before the last rounds
    transform = replace(start, matrix=_searched(a, b, start, free=model != "translation", scales=model != "rigid"))
    for shape in _sizes(a.values.shape):
        for reach in _REACHES:
            shifts = _shifts_at(a, b, transform, shape, reach)
            if len(shifts.centres) < _LEAST:
                raise ValueError(
                    f"moving: {len(shifts.centres)} blocks have structure in common with fixed; expected {_LEAST} or "
                    "more, are they of one scene?"
                )
            step, errors = fit(
                "affine" if whole else model, shifts.centres, shifts.centres + shifts.shifts, shifts.weights**2
            )
            transform = replace(transform, matrix=transform.matrix @ step)
    small = max(a.values.shape) <= 2 * _MIDDLE  # of larger images, whole ones would have to be made too small
    if small and model == "rigid" and agrees(errors, shifts.weights**2, _LEAST)[1] < _SURE:
        return replace(transform, matrix=_of_whole_images(a, b, transform), model=model)
    if model == "homography":
        for _ in range(2):
            shifts = _shifts_at(a, b, transform, 1, _REACHES[-1])
            step, _ = fit(model, shifts.centres, shifts.centres + shifts.shifts, shifts.weights**2)
            transform = replace(transform, matrix=transform.matrix @ step)
    if model == "deformable":
        transform = _bent(a, b, transform)
    return replace(transform, model=model)


def _sizes(shape: tuple[int, ...]) -> list[int]:
    """Return by which factors images are made smaller, one after the other."""
    factor = max(1, round(max(shape) / _MIDDLE))
    return [factor] if factor == 1 else [factor, 1]


def _shifts_at(a: Plane, b: Plane, transform: Transform, factor: int, reach: int, size: int = _BLOCK) -> Shifts:
    """Return the shifts of blocks of images made smaller, in pixels of the images themselves."""
    to_full = _enlarged(factor)
    at = _between_sizes(transform, factor)
    found = block_shifts(
        a.smaller(factor), b.smaller(factor), at, size=size, reach=reach, across=_ACROSS * _BLOCK // size
    )
    return Shifts(found.centres * factor + to_full[0, 2], found.shifts * factor, found.weights)


def _enlarged(factor: int) -> np.ndarray:
    """Return what takes places of an image made smaller to those of the image itself."""
    matrix = np.diag([factor, factor, 1.0])
    matrix[:2, 2] = (factor - 1) / 2
    return matrix


def _between_sizes(transform: Transform, factor: int) -> Positions:
    offset = (factor - 1) / 2
    return lambda places: (transform(places * factor + offset) - offset) / factor


def _about_centres(fixed: tuple[int, ...], moving: tuple[int, ...], angle: float, scale: float) -> np.ndarray:
    """Return what turns and scales about the centre of the fixed image, and takes it to that of the moving one."""
    matrix = np.eye(3)
    matrix[:2, :2] = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix[:2, 2] = (np.array(moving) - 1) / 2 - matrix[:2, :2] @ (np.array(fixed) - 1) / 2
    return matrix


def _searched(a: Plane, b: Plane, start: Transform, *, free: bool, scales: bool) -> np.ndarray:
    """Return the best of many rotations, scales and all shifts, at a small size."""
    factor = max(1, round(max(a.values.shape) / _COARSE))
    small, other, to_full = a.smaller(factor), b.smaller(factor), _enlarged(factor)
    shape = small.values.shape
    taper = np.sqrt(np.outer(*(np.hanning(n + 2)[1:-1] for n in shape)))
    field = edge_field(small.values, small.valid) * taper
    places = np.indices(shape).astype(np.float64)
    best: tuple[float, np.ndarray] = (-1.0, start.matrix)
    for angle, scale in product(_TURNS if free else (0.0,), _SCALES if free and scales else (1.0,)):
        turned = start.matrix @ _about_centres(a.values.shape, a.values.shape, angle, scale)
        at = _between_sizes(replace(start, matrix=turned), factor)(places)
        values, valid = (ndimage.map_coordinates(x, at, order=1, cval=0.0) for x in (other.values, other.valid))
        shift, agreement = whole_shift(field, edge_field(values, (valid > 1 - 1e-4).astype(np.float32)) * taper)
        if agreement > best[0]:
            move = np.eye(3)
            move[:2, 2] = shift
            best = agreement, turned @ to_full @ move @ np.linalg.inv(to_full)
    return best[1]


def _of_whole_images(a: Plane, b: Plane, start: Transform) -> np.ndarray:
    """Return the rigid transform at which the edges of whole images agree best, near one that is known."""
    shape = a.values.shape
    factor = _sizes(shape)[0]
    small, other = a.smaller(factor), b.smaller(factor)
    fields = [edge_field(p.values, p.valid) for p in (small, other)]
    fixed, moving = (ndimage.gaussian_filter(x.real, 1) + 1j * ndimage.gaussian_filter(x.imag, 1) for x in fields)
    places = np.indices(fixed.shape).astype(np.float64)

    def moved(step: np.ndarray) -> np.ndarray:  # rows, columns, and pixels at the border by rotation
        down, right, turn = step
        ahead = _about_centres(shape, shape, 2 * turn / max(shape), 1.0)
        ahead[:2, 2] += down, right
        return np.asarray(start.matrix @ ahead)

    def disagreement(step: np.ndarray) -> float:
        matrix = moved(step)
        at = _between_sizes(replace(start, matrix=matrix), factor)(places)
        real, imag, seen = (
            ndimage.map_coordinates(x, at, order=1, cval=0.0) for x in (moving.real, moving.imag, other.valid)
        )
        there = (real + 1j * imag) * np.exp(2j * np.arctan2(matrix[1, 0], matrix[0, 0]))  # its edges are turned back
        here = fixed * (seen > 1 - 1e-4)
        most = np.linalg.norm(here) * np.linalg.norm(there)
        return -float((here * there.conj()).real.sum() / (most + 1e-20))

    simplex = np.vstack([np.zeros(3), 1.5 * factor * np.eye(3)])
    options = {"initial_simplex": simplex, "xatol": 0.02, "fatol": 1e-6, "maxfev": 300}
    return moved(optimize.minimize(disagreement, simplex[0], method="Nelder-Mead", options=options).x)


def _bent(a: Plane, b: Plane, transform: Transform) -> Transform:
    """Return the transform with a field: shifts of blocks, averaged over their neighbours by weight."""
    shape = a.values.shape
    step = max(shape) / _NODES
    nodes = np.stack(np.meshgrid(*(np.arange(int(np.ceil(n / step)) + 1) * step for n in shape), indexing="ij"))
    field = np.zeros(nodes.shape)
    for _ in range(3):
        bent = replace(transform, model="deformable", field=field, step=step)
        shifts = _shifts_at(a, b, bent, 1, _REACHES[1], _FINE)
        apart = ((nodes.reshape(2, 1, -1) - shifts.centres.T[:, :, None]) ** 2).sum(0)
        near = np.exp(-0.5 * apart / step**2) * (shifts.weights**2)[:, None]
        total = near.sum(0)
        field = field + ((shifts.shifts.T @ near) / (total + 1e-3)).reshape(nodes.shape)
    return replace(transform, model="deformable", field=field, step=step)
