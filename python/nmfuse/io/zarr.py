"""Zarr (versions 2 and 3) and OME-Zarr (0.4 and 0.5; written is 0.5) by zarr: folders of chunks.

What is asked for is read, and no more. OME-Zarr is written as a pyramid: each level has half the rows and columns of
the one before, so that viewers need not read an image to show it.

References
----------
Moore et al., "OME-Zarr: a cloud-optimized bioimaging file format", Histochem. Cell Biol. 160 (2023) 223-251;
https://ngff.openmicroscopy.org/0.5.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from nmfuse.images import Grid, Image
from nmfuse.io.arrays import check_kind, chosen_name
from nmfuse.io.chunks import bounded
from nmfuse.io.lazy import LazyPixels
from nmfuse.io.limits import refuse_too_large
from nmfuse.io.tiff import DTYPES

FLOATS = ("float16", "float32", "float64")
CHUNK = 1024  # rows and columns of those that are written
_LEAST = 512  # pixels along the longer side of the last level, at most
_PAGE = re.compile(r"(?P<name>.*)\[(?P<page>[0-9]+)\]", re.DOTALL)
_DEPTH = 8  # groups within groups that are looked into
_IN_MM = {  # the units of length that the standard names, and people use
    "kilometer": 1e6,
    "meter": 1e3,
    "decimeter": 1e2,
    "centimeter": 10.0,
    "inch": 25.4,
    "millimeter": 1.0,
    "micrometer": 1e-3,
    "nanometer": 1e-6,
    "angstrom": 1e-7,
    "picometer": 1e-9,
}
_COLOURS = ("FF0000", "00FF00", "0000FF")  # of channels that together are one image in colour

log = logging.getLogger("nmfuse.io")


@dataclass(frozen=True)
class Header:
    """What OME-Zarr says of where pixels lie: the axes of space, and the place of a pixel along each, in their units.

    Attributes
    ----------
    axes : list of dict
    scale, translation : list of float
    """

    axes: list[dict[str, Any]]
    scale: list[float]
    translation: list[float]


def open_zarr(path: Path, name: int | str | None = None) -> Image:
    """Return an image of a Zarr folder, its pixels still there; see `nmfuse.io.open_image`.

    Of OME-Zarr the whole image is taken, and not the reduced ones. Its axes of space are those of the image, with the
    places of pixels in mm where it says a unit; points in time and channels are pages, of which the last axis counts
    fastest, but three channels that are red, green and blue are one image in colour.

    Parameters
    ----------
    path : Path
        The folder.
    name : int or str, optional
        The number of a page, or the path of an array or image within the folder, which may end in that: "/0/1[2]".

    Raises
    ------
    ValueError
        For a group without arrays, or with several of which none is chosen; chunks that are missing where the file says
        nothing of what they hold; and as `nmfuse.io.read_image`.
    """
    import zarr

    name, page = (None, name) if isinstance(name, int) else _split(name)
    node: Any = zarr.open(path, mode="r")
    found = chosen_name(path, name, list(_images(node)))
    node = node[found] if found else node
    ome = _multiscale(node)
    array = node if ome is None else node[_first_level(path, ome)["path"]]
    if not isinstance(array, zarr.Array):
        raise ValueError(f"{path}: {array.path or '/'} is no array; expected one as the first level of an image")
    _check_array(path, array)
    array = bounded(array)
    if ome is not None:
        return _ome_image(path, array, ome, page, _has_colours(node))
    if page is not None:
        raise ValueError(f"{path}: {array.name} is a plain array, which has no pages; leave out [{page}]")
    check_kind(path, array.shape, array.dtype)
    return Image(LazyPixels(path, array))


def read(path: Path, name: int | str | None = None) -> Image:
    """Return the image of a Zarr folder; see `open_zarr` and `nmfuse.io.read_image`."""
    image = open_zarr(path, name)
    refuse_too_large(path, math.prod(image.shape[: image.spatial]))
    return replace(image, pixels=np.asarray(image.pixels))


def _split(name: str | None) -> tuple[str | None, int | None]:
    found = _PAGE.fullmatch(name or "")
    return (found["name"].strip("/") or None, int(found["page"])) if found else (name, None)


def _images(node: Any, below: int = 0) -> Iterator[str]:
    """Yield the paths of arrays and of images of several levels, but not of their levels; "" of the node itself."""
    if not hasattr(node, "members") or _multiscale(node) is not None:
        yield node.path
    elif below < _DEPTH:
        for _, member in sorted(node.members(), key=lambda each: each[0]):
            yield from _images(member, below + 1)


def _multiscale(node: Any) -> dict[str, Any] | None:
    """Return what a group says of its levels; of 0.5 under "ome", of 0.4 without."""
    attributes = dict(node.attrs)
    found = attributes.get("ome", attributes)
    levels = found.get("multiscales") if isinstance(found, dict) and hasattr(node, "members") else None
    return levels[0] if isinstance(levels, list) and levels and isinstance(levels[0], dict) else None


def _has_colours(node: Any) -> bool:
    attributes = dict(node.attrs)
    channels = (attributes.get("ome", attributes).get("omero") or {}).get("channels") or []
    return tuple(str(channel.get("color")).upper() for channel in channels) == _COLOURS


def _first_level(path: Path, ome: dict[str, Any]) -> dict[str, Any]:
    levels = ome.get("datasets")
    if not levels or not isinstance(levels[0], dict) or "path" not in levels[0]:
        raise ValueError(f"{path}: says that it has several levels, and names none; expected datasets with a path")
    level: dict[str, Any] = levels[0]
    return level


def _check_array(path: Path, array: Any) -> None:
    """Refuse pixels that nothing takes, and chunks that are too large, or missing where nothing says what they hold."""
    if array.dtype.newbyteorder("=").name not in DTYPES:
        raise ValueError(f"{path}: pixels are {array.dtype}; convert them to one of {', '.join(DTYPES)}")
    refuse_too_large(path, math.prod(array.chunks))
    stored = getattr(array, "shards", None) or array.chunks
    expected = math.prod(-(-n // chunk) for n, chunk in zip(array.shape, stored, strict=True))
    folder = path / array.path
    there = sum(not name.startswith((".z", "zarr.json")) for *_, files in os.walk(folder) for name in files)
    if there < expected:
        if array.fill_value is None:
            raise ValueError(f"{path}: {expected - there} of {expected} chunks are missing, and it says no fill_value")
        log.warning(
            "%s: %d of %d chunks are not there; by its fill_value their pixels are %s",
            path,
            expected - there,
            expected,
            array.fill_value,
        )


def _ome_image(path: Path, array: Any, ome: dict[str, Any], page: int | None, coloured: bool) -> Image:
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in ome.get("axes", ())]
    names = [str(axis.get("name")) for axis in axes]
    space = sum(axis.get("type") == "space" or axis.get("name") in ("z", "y", "x") for axis in axes)
    if len(axes) != array.ndim or names[-2:] != ["y", "x"] or space not in (2, 3) or 0 in array.shape:
        raise ValueError(
            f"{path}: axes {', '.join(names) or 'none'} of shape {array.shape}; expected those of space last, y and x, "
            "or z, y and x"
        )
    before = array.shape[:-space]
    flat = space == 3 and array.shape[-3] == 1  # one plane is an image
    kept = 2 if flat else space
    pages = math.prod(before)
    colours = coloured and pages == 3 and before[-1:] == (3,)
    said = ", ".join(f"{name} of {n}" for name, n in zip(names, before, strict=False))
    if page is None and pages > 1 and not colours:
        raise ValueError(
            f"{path}: has {pages} pages (axes {said}; the last counts fastest); choose one by its number, "
            f"{path}[0] to {path}[{pages - 1}]"
        )
    if page is not None and page >= pages:
        raise ValueError(f"{path}: has no page {page}; it has {pages}, the first is {path}[0]")
    first: tuple[Any, ...] = np.unravel_index(page or 0, before) if before else ()
    colours = colours and page is None
    first = tuple(int(k) for k in first)[: -1 if colours else None]
    if colours and flat:
        raise ValueError(f"{path}: axes {', '.join(names)} with one plane in colour; store it without z")
    pixels = LazyPixels(path, array, (*first, 0) if flat else first, colours)
    shape = pixels.shape[:kept]
    return Image(pixels, grid=_grid(path, shape, _header(ome, axes[-kept:], kept)))


def _header(ome: dict[str, Any], axes: list[dict[str, Any]], kept: int) -> Header:
    """Return where pixels lie: by the transforms of the level, and then those of all levels."""
    scale, translation = np.ones(kept), np.zeros(kept)
    steps = [*ome["datasets"][0].get("coordinateTransformations", ()), *ome.get("coordinateTransformations", ())]
    for step in steps:
        if step.get("type") == "scale" and "scale" in step:
            scale, translation = (x * np.array(step["scale"][-kept:], float) for x in (scale, translation))
        elif step.get("type") == "translation" and "translation" in step:
            translation = translation + np.array(step["translation"][-kept:], float)
    return Header(axes, scale.tolist(), translation.tolist())


def _grid(path: Path, shape: tuple[int, ...], header: Header) -> Grid | None:
    """Return the grid in mm, where the units are lengths; rows of its affine are x, y (and z)."""
    units = [str(axis.get("unit")) for axis in header.axes]
    if not all(unit in _IN_MM for unit in units):
        return None
    n, to_mm = len(shape), np.array([_IN_MM[unit] for unit in units])
    affine = np.zeros((n + 1, n + 1))
    affine[:n, :n] = np.diag(np.array(header.scale) * to_mm)[::-1]
    affine[:n, n] = (np.array(header.translation) * to_mm)[::-1]
    affine[n, n] = 1
    try:
        return Grid(shape, affine, header)
    except ValueError as error:
        raise ValueError(f"{path}: its scale is {header.scale}, which gives no pixel a place ({error})") from error


def write(path: Path, image: Image) -> None:
    """Write an image as OME-Zarr 0.5, with its pyramid; pixels that are not valid as NaN, which floats alone have."""
    pixels = image.pixels
    spatial = image.spatial
    if image.valid is not None:
        shown = image.valid if pixels.ndim == spatial else image.valid[..., None]
        pixels = np.where(shown, pixels, np.array(np.nan, pixels.dtype))
    levels = create(path, image)
    levels[0][...] = np.moveaxis(pixels, -1, 0) if pixels.ndim > spatial else pixels
    for finer, coarser in pairwise(levels):
        for rows in range(0, coarser.shape[-2], CHUNK):
            for columns in range(0, coarser.shape[-1], CHUNK):
                halve(finer, coarser, slice(rows, rows + CHUNK), slice(columns, columns + CHUNK))


def create(path: Path, image: Image, chunk: int = CHUNK) -> list[Any]:
    """Make an OME-Zarr folder for an image, and return the arrays of its levels, (3,) + spatial in colour, all empty.

    Of `image` only shape, dtype, grid and name are looked at; `chunk` is the side of chunks.
    """
    import zarr

    spatial = image.spatial
    shapes = [image.shape[:spatial]]
    while max(shapes[-1][-2:]) > _LEAST:
        shapes.append((*shapes[-1][:-2], *(-(-n // 2) for n in shapes[-1][-2:])))
    first = (3,) if image.ndim > spatial else ()
    group = zarr.open_group(path, mode="w-", zarr_format=3)
    named = ["c"] * len(first) + ["z", "y", "x"][-spatial:]
    levels = [
        group.create_array(
            str(number),
            shape=(*first, *shape),
            chunks=(*first, *(1,) * (spatial - 2), *(min(chunk, n) for n in shape[-2:])),
            dtype=image.dtype,
            dimension_names=named,
            config={"write_empty_chunks": True},  # so that a chunk that is lost is known to be
        )
        for number, shape in enumerate(shapes)
    ]
    header = _header_to_write(image)
    axes = [{"name": "c", "type": "channel"}] * len(first) + header.axes
    datasets = []
    for number in range(len(levels)):
        factor = np.array([1] * (spatial - 2) + [2**number] * 2)
        scale = np.array(header.scale) * factor
        shift = np.array(header.translation) + np.array(header.scale) * (factor - 1) / 2  # centres of pixels
        transforms = [
            {"type": "scale", "scale": [1.0] * len(first) + scale.tolist()},
            {"type": "translation", "translation": [0.0] * len(first) + shift.tolist()},
        ]
        datasets.append({"path": str(number), "coordinateTransformations": transforms})
    ome: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [{"name": image.name, "axes": axes, "datasets": datasets, "type": "mean of 2 x 2"}],
    }
    if first:
        top = 1.0 if image.dtype.kind == "f" else float(np.iinfo(image.dtype).max)
        window = {"min": 0.0, "max": top, "start": 0.0, "end": top}
        labels = zip(("red", "green", "blue"), _COLOURS, strict=True)
        channels = [{"label": label, "color": code, "active": True, "window": window} for label, code in labels]
        ome["omero"] = {"channels": channels, "rdefs": {"model": "color"}}
    group.attrs["ome"] = ome
    return levels


def _header_to_write(image: Image) -> Header:
    grid, n = image.grid, image.spatial
    names = ["z", "y", "x"][-n:]
    plain = [{"name": name, "type": "space"} for name in names]
    if grid is None:
        return Header(plain, [1.0] * n, [0.0] * n)
    if isinstance(grid.header, Header):
        return grid.header
    along = np.array(grid.affine[:n, :n])[::-1]
    axes = [{**axis, "unit": "millimeter"} for axis in plain]
    if (along == np.diag(np.diag(along))).all() and (np.diag(along) > 0).all():
        return Header(axes, np.diag(along).tolist(), grid.affine[:n, n][::-1].tolist())
    log.warning("%s: OME-Zarr has no place for directions; spacing is written, and no place", image.name or "image")
    return Header(axes, list(grid.spacing), [0.0] * n)


def halve(finer: Any, coarser: Any, rows: slice, columns: slice) -> None:
    """Write some rows and columns of a level: the mean of 2 x 2 pixels of the one before, its last ones repeated."""
    there = tuple(slice(part.start, min(part.stop, n)) for part, n in _sides(coarser.shape, rows, columns))
    block = np.asarray(finer[(..., *(slice(2 * part.start, 2 * part.stop) for part in there))])
    odd = [2 * (part.stop - part.start) - n for part, n in zip(there, block.shape[-2:], strict=True)]
    block = np.pad(block, [(0, 0)] * (block.ndim - 2) + [(0, more) for more in odd], mode="edge").astype(np.float64)
    mean = (block[..., ::2, :] + block[..., 1::2, :]) / 2
    mean = (mean[..., ::2] + mean[..., 1::2]) / 2
    coarser[(..., *there)] = (mean if coarser.dtype.kind == "f" else np.rint(mean)).astype(coarser.dtype)


def _sides(shape: Sequence[int], rows: slice, columns: slice) -> Iterator[tuple[slice, int]]:
    yield from zip((rows, columns), shape[-2:], strict=True)
