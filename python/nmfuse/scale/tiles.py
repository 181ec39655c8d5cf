"""Fusion of images that are larger than memory, tile by tile."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nmfuse.fuser import Fuser
from nmfuse.images import Image, rounding, stack, window
from nmfuse.images.part import ALIGNED, Part, Place
from nmfuse.images.stack import Stack
from nmfuse.io import check_output, new_file, open_image, tiff, zarr
from nmfuse.io.formats import format_of, split_page
from nmfuse.io.lazy import LazyPixels
from nmfuse.io.locks import locked
from nmfuse.io.output import put_in_place, remove
from nmfuse.kernels.checks import is_whole
from nmfuse.methods import METHODS, make
from nmfuse.methods.base import Method
from nmfuse.nets.siamese import PATCH
from nmfuse.scale.journal import Journal, identity
from nmfuse.version import __version__

if TYPE_CHECKING:
    from dask.array import Array as DaskArray

TILE = 2048  # rows and columns

Report = Callable[[int, int, str], None]


def fuse_tiles(
    sources: Sequence[str | Path | DaskArray],
    target: str | Path,
    *,
    method: str | Fuser = "learned",
    window: Any = None,
    data_range: tuple[float, float] | None = None,
    output: str | None = None,
    balance: Sequence[float] | None = None,
    overwrite: bool = False,
    tile: int = TILE,
    report: Report = lambda _done, _all, _what: None,
    **options: Any,
) -> None:
    """Fuse registered images that are larger than memory, and write the result.

    What the method needs to know about the whole images is computed first, in passes over all tiles. Then each tile is
    fused together with as much of its surroundings as the method needs. The result is that of `nmfuse.fuse`, up to the
    rounding of floats: if the fused value of an integer image is equally far from two levels to six digits, it may
    become the other one. An interrupted run is continued if the function is called again with the same sources and
    options: until the result is complete, it is kept in a folder beside it, ``.NAME.part``.

    Parameters
    ----------
    sources : sequence of paths or dask arrays
        Two or more images that `nmfuse.io.open_image` opens, or dask arrays, whose tiles are computed when they are
        fused. They are of shape (H, W) or (H, W, 3) and on one grid, and all their pixels are valid.
    target : path
        The file of the result: .zarr, which is written as OME-Zarr with a pyramid, or .tif, which is written in tiles.
    method : str or Fuser
        The method: "learned", "learned-all", "average", "maximum", "laplacian" or "contrast". Other methods need the
        whole image.
    window, data_range, output, balance
        The same as for `nmfuse.fuse`; `output` is the dtype of the result.
    overwrite : bool
        Whether `target` may be replaced.
    tile : int
        The number of rows and columns of a tile: a multiple of 32, and of 1024 if it is larger than that. Larger tiles
        need more memory.
    report : callable
        A function that is called during the work with what is done, the total, and a description.
    **options
        The options of the method; see `nmfuse.Fuser`.

    Raises
    ------
    ValueError
        For a method that needs the whole image, images that differ in size or grid, pixels that are not valid, or other
        formats; and for the same reasons as `nmfuse.fuse`.
    TypeError, FileExistsError, FileNotFoundError, PermissionError, ModuleNotFoundError
        For the same reasons as `nmfuse.fuse`, `nmfuse.io.open_image` and `nmfuse.io.write_image`.
    RuntimeError
        If another process is making the same result.

    Examples
    --------
    >>> import tempfile, nmfuse
    >>> folder = Path(tempfile.mkdtemp())
    >>> phantom = nmfuse.data.brain_phantom(64)
    >>> for name, pixels in (("mri.zarr", phantom.t2), ("ct.zarr", phantom.ct)):
    ...     nmfuse.io.write_image(folder / name, pixels)
    >>> fuse_tiles([folder / "mri.zarr", folder / "ct.zarr"], folder / "fused.zarr", method="laplacian")
    >>> nmfuse.io.open_image(folder / "fused.zarr").pixels[20:40, 30:].shape
    (20, 34)
    """
    fuser = method if isinstance(method, Fuser) else Fuser(method, **options)
    paths, target = [Path(source) for source in sources if not _is_dask(source)], Path(target)
    _check(fuser, len(sources), target, tile)
    check_output(target, overwrite=overwrite, sources=paths)
    images = _opened(sources)
    result = stack.form_of(images, output, balance)
    kind = {"dtype": result.dtype, "ndim": result.ndim, "colour": result.ndim == 3}
    check_output(target, overwrite=overwrite, sources=paths, **kind)
    work = {
        "version": __version__,
        "sources": identity(split_page(path)[0] for path in paths),
        "pages": [str(split_page(path)[1]) for path in paths],
        "computed": [getattr(source, "name", "") if _is_dask(source) else "" for source in sources],
        "method": repr(fuser),
        "window": repr((window, data_range, output)),
        "balance": repr(balance),
        "tile": tile,
    }
    with locked(target.parent, target.name, wait=False) as held, torch.no_grad():
        if not held:
            raise RuntimeError(f"{target}: is being made by another process; wait for it, or choose another file name")
        folder = target.with_name(f".{target.name}.part")
        journal = Journal(folder, work)
        if journal.has("made") and not (folder / "result.zarr").exists():  # it was put in place before, by its last run
            remove(folder)
            journal = Journal(folder, work)
        run = _Run(fuser.options, images, tile, output, balance, journal, report)
        run.survey(window, data_range)
        made = run.fuse(result)
        _put(made, result, target, overwrite=overwrite, report=report)
        remove(journal.folder)


def tiling_methods() -> list[str]:
    """Return the names of the methods that fuse tile by tile.

    Examples
    --------
    >>> tiling_methods()
    ['learned', 'learned-all', 'average', 'maximum', 'laplacian', 'contrast']
    """
    return [name for name, row in METHODS.items() if not row.missing and make(name).margin is not None]


def _check(fuser: Fuser, count: int, target: Path, tile: int) -> None:
    if fuser.options.margin is None:
        raise ValueError(
            f"method: {fuser!r} looks at the whole image, which cannot be larger than memory; choose one of "
            f"{', '.join(tiling_methods())}, by their usual options"
        )
    if count < 2:
        raise ValueError(f"sources: got {count}; expected two or more images")
    if not is_whole(tile) or tile < ALIGNED or tile % ALIGNED or (tile > zarr.CHUNK and tile % zarr.CHUNK):
        raise ValueError(f"tile: got {tile!r}; expected a multiple of {ALIGNED}, and of {zarr.CHUNK} from there on")
    if format_of(target).name not in ("Zarr", "TIFF"):
        raise ValueError(f"{target}: images larger than memory are written as .zarr or .tif; choose one")
    format_of(target.with_suffix(".zarr")).check_installed(target)  # in which they are made


def _is_dask(source: Any) -> bool:
    return hasattr(source, "__dask_graph__")


def _opened(sources: Sequence[Any]) -> list[Image]:
    """Return the sources, their pixels where they are; refuse what does not fit together."""
    paths = [f"sources[{place}]" if _is_dask(source) else source for place, source in enumerate(sources)]
    images = []
    for path, source in zip(paths, sources, strict=True):
        if not _is_dask(source):
            images.append(open_image(source))
        elif any(math.isnan(n) for n in source.shape):
            raise ValueError(f"{path}: has chunks of unknown sizes; call compute_chunk_sizes() first")
        else:
            images.append(Image(LazyPixels(Path(path), source), name=path))
    images = list(stack.on_one_grid(images))
    first = images[0]
    for path, image in zip(paths, images, strict=True):
        if image.spatial != 2:
            raise ValueError(f"{path}: is a volume of shape {image.shape}; images are fused in tiles, take one slice")
        if image.shape[:2] != first.shape[:2]:
            sizes = [" x ".join(map(str, x.shape[:2])) for x in (image, first)]
            raise ValueError(
                f"{path}: size {sizes[0]}, but {paths[0]} is {sizes[1]} (rows x columns); images fused in tiles "
                "are neither resized nor registered: bring one to the grid of the other first"
            )
        profiles = [x.carried.get("icc_profile") for x in (image, first)]
        if all(profiles) and profiles[0] != profiles[1]:
            raise ValueError(f"{path}: has another colour profile than {paths[0]}; convert one of them first")
    if min(first.shape[:2]) < PATCH:
        raise ValueError(f"{paths[0]}: shape {first.shape}; expected at least {PATCH} x {PATCH} pixels")
    return images


@dataclass
class _Run:
    """One fusion of large images, in a folder of its own."""

    method: Method
    images: list[Image]
    tile: int
    output: str | None
    balance: Sequence[float] | None
    journal: Journal
    report: Report

    def survey(self, windows: Any, data_range: Any) -> None:
        """Find the windows, the order of the sources, and what the method has to know of all of them."""
        path = self.journal.folder / "survey.npz"
        wanted = stack.check_balance(self.balance, len(self.images))
        if not self.journal.has("survey"):
            self.windows = self._ranges(windows, data_range)
            self.order = [place for place, share in enumerate(wanted) if share > 0]
            self.order = self._order()
            shape = self.images[0].shape[:2]
            arrays: dict[str, Any] = {"windows": np.array(self.windows), "order": np.array(self.order)}
            for number, (_, chosen) in enumerate(self._sets(wanted)):
                if len(chosen) > 1:
                    look = partial(self._parts_of, chosen)
                    known = self.method.survey(look, (shape[0], shape[1]))
                    arrays |= {f"known{number}_{name}": value.numpy() for name, value in known.items()}
            with new_file(path, overwrite=True) as temporary, temporary.open("wb") as file:
                np.savez(file, **arrays)
            self.journal.add("survey")
        with np.load(path) as saved:  # in either case: the same bits
            self.windows = [(float(low), float(high)) for low, high in saved["windows"]]
            self.order = [int(place) for place in saved["order"]]
            self.sets = self._sets(wanted)
            self.known: list[dict[str, Tensor]] = [{} for _ in self.sets]
            for of_set in saved.files:
                number, _, name = of_set.removeprefix("known").partition("_")
                if number.isdecimal():
                    self.known[int(number)][name] = torch.from_numpy(saved[of_set])

    def _sets(self, wanted: Sequence[float]) -> list[tuple[float, list[int]]]:
        """Return the sets of sources that are fused, by their places in the order, and the share of each."""
        return stack.balanced_sets([wanted[place] for place in self.order])

    def _fused(self, part: Part) -> Tensor:
        """Return the fused luminance of a part, each source as much as it is wanted."""
        fused = []
        for (share, chosen), known in zip(self.sets, self.known, strict=True):
            some = replace(part, planes=[part.planes[k] for k in chosen])
            y = self.method.fuse_part(some, known) if len(chosen) > 1 else some.planes[0][part.inner]
            fused.append(y if len(self.sets) == 1 else share * y)
        return reduce(torch.add, fused)

    def fuse(self, result: Image) -> Path:
        """Make the result, as a folder of OME-Zarr, and return where it is."""
        import zarr as zarr_package

        folder, journal = self.journal.folder, self.journal
        made, luminances, chunk = folder / "result.zarr", folder / "luminance.zarr", min(self.tile, zarr.CHUNK)
        informed = getattr(self.method, "rounding", "nearest") == "informed" and result.dtype == np.uint8
        if not journal.has("made"):
            for path in (made, luminances):
                remove(path)
            zarr.create(made, result, chunk)
            if informed:  # its levels depend on all of the fused image, which waits here
                shape = result.shape[:2]
                sides = tuple(min(chunk, n) for n in shape)
                zarr_package.create_array(luminances, shape=shape, chunks=sides, dtype=np.float32)
            journal.add("made")
        group: Any = zarr_package.open_group(made, mode="r+")
        levels = [group[str(number)] for number in range(len(list(group.array_keys())))]
        luminance: Any = zarr_package.open_array(luminances, mode="r+") if informed else None
        for part, sources in self._unfinished("fuse"):
            y = self._fused(part)
            if informed:
                luminance[part.there] = y.numpy()
            else:
                self._write(levels[0], part, sources, y)
        if informed:
            gain = rounding.gains(self._counts(luminance))
            for part, sources in self._unfinished("round", margin=0):
                y = torch.from_numpy(luminance[part.there])
                y = rounding.round_by(gain, y, part.planes, sources.form.low, sources.form.high)
                self._write(levels[0], part, sources, y)
        for number, (finer, coarser) in enumerate(pairwise(levels), 1):
            for rows, columns in _places(coarser.shape[-2:], chunk):
                piece = f"level {number} {rows.start} {columns.start}"
                if not journal.has(piece):
                    zarr.halve(finer, coarser, rows, columns)
                    journal.add(piece)
        return made

    def _ranges(self, windows: Any, data_range: Any) -> list[tuple[float, float]]:
        """Return what means black and white in each source, as `nmfuse.fuse` takes it."""
        count = len(self.images)
        if windows is None or isinstance(windows, str) or stack.is_range(windows):
            each = [windows] * count
        else:
            each = list(windows)
        extremes, plain = [], all(image.dtype == np.uint8 for image in self.images)
        for place, (image, spec) in enumerate(zip(self.images, each, strict=False)):
            implied = spec is None and (image.dtype.kind == "f" or (windows is None and not plain))
            found = (0, 0)
            if spec == "auto":
                sample = torch.from_numpy(self._sample(image))
                each[place] = window.resolve(spec, sample, None, image.name)
            elif spec == "minmax" or implied or data_range is not None:
                found = self._extremes(image)
            shown = np.array([found], image.dtype)
            extremes.append(replace(image, pixels=shown, grid=None))
        return stack.ranges(extremes, windows=None if windows is None else each, data_range=data_range)

    def _extremes(self, image: Image) -> tuple[Any, Any]:
        """Return the least and the greatest value of an image."""
        ends = []
        for place in self._reported("window"):
            pixels = image.pixels[place]
            ends.append((pixels.min(), pixels.max()))
        return min(low for low, _ in ends), max(high for _, high in ends)

    def _sample(self, image: Image) -> np.ndarray:
        """Return those values of an image, evenly spread, that a window "auto" is taken of."""
        rows, columns = image.shape[:2]
        colours = 3 if image.ndim == 3 else 1
        step = -(-rows * columns * colours // window.SAMPLED)
        found = []
        for place in self._reported("window"):
            pixels = image.pixels[place].reshape(place[0].stop - place[0].start, -1, colours)
            number = np.arange(place[0].start, place[0].stop)[:, None] * columns
            number = number + np.arange(place[1].start, place[1].stop)
            for colour in range(colours):
                chosen = (number + colour * rows * columns) % step == 0
                found.append(pixels[..., colour][chosen])
        return np.concatenate(found)

    def _order(self) -> list[int]:
        """Return the places of the sources from the brightest to the darkest; ties are decided by their parts."""
        sums: dict[int, list[float]] = {place: [] for place in self.order}
        for part in self._parts(0, "order"):
            for of_source, plane in zip(sums.values(), part.planes, strict=True):
                values = plane.double()
                ramp = torch.arange(1, values.numel() + 1, dtype=torch.float64).reshape(values.shape)
                of_source += [-float(values.sum()), -float((values * ramp).mean())]
        return sorted(self.order, key=lambda place: [sum(sums[place][::2]), *sums[place]])

    def _counts(self, luminance: Any) -> Tensor:
        total = torch.zeros(len(self.order), 256 * 256, dtype=torch.float64)
        for place in self._reported("count"):
            part, sources = self._part(place, 0)
            y = torch.from_numpy(luminance[place])
            total += rounding.count_levels(y, part.planes, sources.form.low, sources.form.high)
        return total.float()

    def _reported(self, what: str) -> Iterator[Place]:
        places = _places(self.images[0].shape[:2], self.tile)
        for number, place in enumerate(places):
            self.report(number, len(places), what)
            yield place
        self.report(len(places), len(places), what)

    def _parts(self, margin: int, what: str) -> Iterator[Part]:
        for place in self._reported(what):
            yield self._part(place, margin)[0]

    def _parts_of(self, chosen: Sequence[int], margin: int) -> Iterator[Part]:
        """Yield all parts of some of the sources."""
        for part in self._parts(margin, "survey"):
            yield replace(part, planes=[part.planes[k] for k in chosen])

    def _unfinished(self, what: str, margin: int | None = None) -> Iterator[tuple[Part, Stack]]:
        """Yield the parts that are not finished, each with its sources; it is finished when the next is asked for."""
        for place in self._reported(what):
            piece = f"{what} {place[0].start} {place[1].start}"
            if not self.journal.has(piece):
                yield self._part(place, self.method.margin if margin is None else margin)
                self.journal.add(piece)

    def _part(self, place: Place, margin: int | None) -> tuple[Part, Stack]:
        """Return a part with a margin around it, as luminances in the order of the sources, and all of its stack."""
        margin = margin or 0
        around = [
            slice(max(0, span.start - margin), min(span.stop + margin, n))
            for span, n in zip(place, self.images[0].shape, strict=False)
        ]
        crops = [replace(x, pixels=x.pixels[tuple(around)], grid=None) for x in self.images]
        taken = stack.take(crops, windows=self.windows, output=self.output, balance=self.balance)
        for number, valid in zip(taken.order, taken.valid, strict=True):
            if valid is not None:
                raise ValueError(
                    f"{self.images[number].name}: has pixels that are not valid (NaN), and images are fused in tiles "
                    "where all are; give them a value first, that of the other image there, as docs/large.md says"
                )
        given = dict(zip(taken.order, taken.planes, strict=True))
        planes = [given[number] for number in self.order]
        inner = tuple(
            slice(span.start - seen.start, span.stop - seen.start) for span, seen in zip(place, around, strict=True)
        )
        chroma = None if taken.chroma is None else taken.chroma[(slice(None), *inner)]
        return Part(planes, (inner[0], inner[1]), place), replace(taken, chroma=chroma)

    def _write(self, level: Any, part: Part, sources: Stack, y: Tensor) -> None:
        pixels = stack.give_back(y, sources).pixels
        level[(..., *part.there)] = np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels


def _places(shape: Sequence[int], side: int) -> list[Place]:
    spans = [[slice(at, min(at + side, n)) for at in range(0, n, side)] for n in shape]
    return list(itertools.product(spans[0], spans[1]))


def _put(made: Path, result: Image, target: Path, *, overwrite: bool, report: Report) -> None:
    """Put the result, a folder of OME-Zarr, where it belongs, in the format that is asked for."""
    if format_of(target).name == "Zarr":
        check_output(target, overwrite=overwrite)
        put_in_place(made, target)
        return
    stored = zarr.open_zarr(made)
    shown = LazyPixels(target, np.broadcast_to(np.zeros((), result.dtype), result.shape))
    places = _places(result.shape[:2], tiff.TILE)

    def tiles() -> Iterator[np.ndarray]:
        for number, place in enumerate(places, 1):
            tile = stored.pixels[place]
            more = [(0, tiff.TILE - n) for n in tile.shape[:2]] + [(0, 0)] * (tile.ndim - 2)
            yield np.pad(tile, more, mode="edge")
            report(number, len(places), "write")

    with new_file(target, overwrite=overwrite) as temporary:
        tiff.write(temporary, replace(result, pixels=shown), tiles())
