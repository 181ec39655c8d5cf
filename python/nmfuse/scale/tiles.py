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
from nmfuse.images import Image, rounding, stack, validity, window
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
_UP = 5  # levels above which what stands in for invalid pixels is found for the whole image at once
_SEEN = 2 * ALIGNED  # pixels around a part on which that depends up to there
_MANY_SETS = 4  # of sources that are valid together somewhere

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
    nodata: float | Sequence[float | None] | None = None,
    fill: float | None = None,
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
        fused. They are of shape (H, W) or (H, W, 3) and on one grid. Pixels that are NaN, or have a value that stands
        for nothing, are not valid.
    target : path
        The file of the result: .zarr, which is written as OME-Zarr with a pyramid, or .tif, which is written in tiles.
    method : str or Fuser
        The method: "learned", "learned-all", "average", "maximum", "laplacian" or "contrast". Other methods need the
        whole image.
    window, data_range, output, balance
        The same as for `nmfuse.fuse`; `output` is the dtype of the result.
    nodata : float, or one for each source, optional
        The value of pixels that show nothing, besides NaN and that which a file names.
    fill : float, optional
        The value of pixels that are valid in no source; by default NaN, and an error if the result has integers.
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
        For a method that needs the whole image, images that differ in size or grid, or other formats; where more than
        four different sets of sources are valid together; and for the same reasons as `nmfuse.fuse`.
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
    images = _opened(sources, _of_each(nodata, len(sources)))
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
        "nothing": repr((nodata, fill)),
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
        run = _Run(fuser.options, images, tile, output, balance, fill, journal, report)
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


def _of_each(nodata: float | Sequence[float | None] | None, count: int) -> list[float | None]:
    each = list(nodata) if isinstance(nodata, Sequence) else [nodata] * count
    if len(each) != count:
        raise ValueError(f"nodata: got {len(each)} values; expected one, or one for each of the {count} sources")
    return each


def _opened(sources: Sequence[Any], nodata: Sequence[float | None]) -> list[Image]:
    """Return the sources, their pixels where they are; refuse what does not fit together."""
    paths = [f"sources[{place}]" if _is_dask(source) else source for place, source in enumerate(sources)]
    images = []
    for path, source, nothing in zip(paths, sources, nodata, strict=True):
        if not _is_dask(source):
            images.append(open_image(source, nodata=nothing))
        elif nothing is not None:
            raise ValueError(f"{path}: is a dask array; give it NaN where it shows nothing, not nodata={nothing:g}")
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


@dataclass(frozen=True)
class _Tile:
    """A tile: the sources around it, its stack with the colours, and where it is valid.

    Attributes
    ----------
    part : Part
    stack : Stack
    valid : list of Tensor (h, w)
        Where in the tile each source is valid, in the order of the part's planes; None: everywhere.
    """

    part: Part
    stack: Stack
    valid: list[Tensor | None]

    def seen(self) -> Tensor | None:
        """Return where any source is valid; None: everywhere."""
        masks = [mask for mask in self.valid if mask is not None]
        return reduce(torch.logical_or, masks) if len(masks) == len(self.valid) else None


@dataclass
class _Run:
    """One fusion of large images, in a folder of its own."""

    method: Method
    images: list[Image]
    tile: int
    output: str | None
    balance: Sequence[float] | None
    fill: float | None
    journal: Journal
    report: Report

    def survey(self, windows: Any, data_range: Any) -> None:
        """Find the windows, the order of the sources, what stands in for invalid pixels, and what the method asks."""
        path = self.journal.folder / "survey.npz"
        wanted = stack.check_balance(self.balance, len(self.images))
        self.above: dict[str, Tensor] = {}
        if not self.journal.has("survey"):
            self.windows = self._ranges(windows, data_range)
            self.order = [place for place, share in enumerate(wanted) if share > 0]
            self.order, sets = self._order()
            self._check_sets(sets)
            if len(sets) > 1:
                self._extend(alone=() in sets)
            shape = self.images[0].shape[:2]
            arrays: dict[str, Any] = {"windows": np.array(self.windows), "order": np.array(self.order)}
            arrays |= {f"above {name}": value.numpy() for name, value in self.above.items()}
            for chosen in self._subsets(wanted, sets):
                known = self.method.survey(partial(self._parts_of, chosen), (shape[0], shape[1]))
                arrays |= {f"known {' '.join(map(str, chosen))}": np.zeros(0)}
                arrays |= {f"known {' '.join(map(str, chosen))} {name}": x.numpy() for name, x in known.items()}
            with new_file(path, overwrite=True) as temporary, temporary.open("wb") as file:
                np.savez(file, **arrays)
            self.journal.add("survey")
        with np.load(path) as saved:  # in either case: the same bits
            self.windows = [(float(low), float(high)) for low, high in saved["windows"]]
            self.order = [int(place) for place in saved["order"]]
            self.sets = stack.balanced_sets([wanted[place] for place in self.order])
            self.known: dict[tuple[int, ...], dict[str, Tensor]] = {}
            for name in saved.files:
                what, _, rest = name.partition(" ")
                if what == "above":
                    self.above[rest] = torch.from_numpy(saved[name])
                elif what == "known":
                    chosen = tuple(int(word) for word in rest.split() if word.isdecimal())
                    of_set = self.known.setdefault(chosen, {})
                    if not rest.split()[-1].isdecimal():
                        of_set[rest.split()[-1]] = torch.from_numpy(saved[name])

    def _check_sets(self, sets: set[tuple[int, ...]]) -> None:
        """Refuse too many sets of sources that are valid together, and a result that cannot say where none is."""
        if len(several := [one for one in sets if len(one) > 1]) > _MANY_SETS:
            raise ValueError(
                f"sources: {len(several)} different sets of them are valid together somewhere, and images are fused in "
                f"tiles for up to {_MANY_SETS}; give fewer images at once"
            )
        form = stack.form_of(self.images, self.output, self.balance)
        if () in sets and self.fill is None and form.dtype.kind != "f":
            raise ValueError(
                f"fill: not given, and some pixels are valid in no source, which {form.dtype} cannot say; pass fill=0 "
                "(or another value), or output='float32', which has NaN"
            )

    def _subsets(self, wanted: Sequence[float], sets: set[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Return all sets of sources, by their places in the order, that are fused with each other somewhere."""
        balanced = stack.balanced_sets([wanted[place] for place in self.order])
        found = {tuple(k for k in chosen if k in one) for _, chosen in balanced for one in sets}
        return sorted(one for one in found if len(one) > 1)

    def _extend(self, *, alone: bool) -> None:
        """Find what stands in for invalid pixels `_UP` levels up, where it depends on the whole image.

        First beside other sources, and then, with the help of that, where no source is valid.
        """
        size = tuple(-(-n // ALIGNED) for n in self.images[0].shape[:2])
        for step in ("beside others", "alone")[: 1 + alone]:
            low: dict[str, Tensor] = {}
            known: dict[str, Tensor] = {}
            for place in self._reported("valid"):
                there = _coarse(place)
                for name, (x, some) in self._coarser(place, step).items():
                    low.setdefault(name, torch.zeros(size))[there] = x
                    known.setdefault(name, torch.zeros(size, dtype=torch.bool))[there] = some
            self.above |= {name: validity.extend(x, known[name]) for name, x in low.items()}

    def _coarser(self, place: Place, step: str) -> dict[str, tuple[Tensor, Tensor]]:
        """Return what is to be continued in a step, `_UP` levels up in a part, and where it is known."""
        wide, found = self._around(place, _SEEN), {}

        def note(name: str, x: Tensor, known: Tensor) -> Tensor:
            if not name.endswith(step):  # the other step, which is known already or comes next
                return self._go_on(wide, name, x, known) if name in self.above else x
            plane = x
            for _ in range(_UP):
                x, known = validity.coarser(x, known)
            inner = _within(_coarse(place), _coarse(wide))
            found[name] = x[inner], known[inner]
            return torch.zeros_like(plane)

        planes, masks, _ = self._taken(wide)
        validity.filled(planes, _given(planes, masks), go_on=note, always=step == "alone")
        return found

    def _go_on(self, wide: Place, name: str, x: Tensor, known: Tensor) -> Tensor:
        """Continue a plane of a part as that of the whole image is continued."""
        return validity.extend(x, known, self.above[name][_coarse(wide)], _UP)

    def _fused(self, tile: _Tile) -> Tensor:
        """Return the fused luminance of a tile, each source as much as it is wanted and, where it is valid, seen."""
        total, weight = torch.zeros(()), torch.zeros(())
        for share, chosen in self.sets:
            y, seen = self._of_some(tile, chosen)
            if len(self.sets) == 1:
                return y
            counts = torch.full_like(y, share) if seen is None else share * seen
            total, weight = total + counts * y, weight + counts
        return total / torch.where(weight > 0, weight, 1.0)

    def _of_some(self, tile: _Tile, chosen: list[int]) -> tuple[Tensor, Tensor | None]:
        """Fuse at each pixel the sources that are valid there; also return where there are any (None: everywhere)."""
        sets, which = validity.patterns([tile.valid[k] for k in chosen])
        if which is None:
            return self._of_set(tile.part, tuple(chosen)), None
        y = torch.zeros(which.shape)
        for number, places in enumerate(sets):
            if places:
                y = torch.where(which == number, self._of_set(tile.part, tuple(chosen[k] for k in places)), y)
        return y, None if [] not in sets else which != sets.index([])

    def _of_set(self, part: Part, chosen: tuple[int, ...]) -> Tensor:
        some = replace(part, planes=[part.planes[k] for k in chosen])
        return self.method.fuse_part(some, self.known[chosen]) if len(chosen) > 1 else some.planes[0][part.inner]

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
        for tile in self._unfinished("fuse"):
            y = self._fused(tile)
            if informed:
                luminance[tile.part.there] = y.numpy()
            else:
                self._write(levels[0], tile, y)
        if informed:
            gain = rounding.gains(self._counts(luminance))
            for tile in self._unfinished("round", margin=0):
                y, form = torch.from_numpy(luminance[tile.part.there]), tile.stack.form
                y = rounding.round_by(gain, y, tile.part.planes, form.low, form.high)
                self._write(levels[0], tile, y)
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
            extremes.append(replace(image, pixels=shown, valid=None, grid=None))
        return stack.ranges(extremes, windows=None if windows is None else each, data_range=data_range)

    def _extremes(self, image: Image) -> tuple[Any, Any]:
        """Return the least and the greatest value of an image."""
        ends = []
        for place in self._reported("window"):
            pixels = _valid(image, place)
            if pixels.size:
                ends.append((pixels.min(), pixels.max()))
        if not ends:
            raise ValueError(f"{image.name}: has no valid pixel")
        return min(low for low, _ in ends), max(high for _, high in ends)

    def _sample(self, image: Image) -> np.ndarray:
        """Return those values of an image, evenly spread, that a window "auto" is taken of."""
        rows, columns = image.shape[:2]
        colours = 3 if image.ndim == 3 else 1
        step = -(-rows * columns * colours // window.SAMPLED)
        found = []
        for place in self._reported("window"):
            pixels = image.pixels[place].reshape(place[0].stop - place[0].start, -1, colours)
            shown = np.ones(pixels.shape[:2], bool) if image.valid is None else image.valid[place]
            number = np.arange(place[0].start, place[0].stop)[:, None] * columns
            number = number + np.arange(place[1].start, place[1].stop)
            for colour in range(colours):
                chosen = ((number + colour * rows * columns) % step == 0) & shown
                found.append(pixels[..., colour][chosen])
        return np.concatenate(found)

    def _order(self) -> tuple[list[int], set[tuple[int, ...]]]:
        """Return the places of the sources from the brightest to the darkest, and which are valid together somewhere.

        Ties of brightness are decided by the parts. The sets are of places in the order, () where none is valid.
        """
        sums: dict[int, list[float]] = {place: [] for place in self.order}
        found: set[tuple[int, ...]] = set()
        for place in self._reported("order"):
            planes, masks, _ = self._taken(place)
            for of_source, plane in zip(sums.values(), planes, strict=True):
                values = plane.double()
                ramp = torch.arange(1, values.numel() + 1, dtype=torch.float64).reshape(values.shape)
                of_source += [-float(values.sum()), -float((values * ramp).mean())]
            sets, _ = validity.patterns(masks)
            found |= {tuple(self.order[k] for k in one) for one in sets or [list(range(len(self.order)))]}
        order = sorted(self.order, key=lambda place: [sum(sums[place][::2]), *sums[place]])
        return order, {tuple(k for k, place in enumerate(order) if place in one) for one in found}

    def _counts(self, luminance: Any) -> Tensor:
        total = torch.zeros(len(self.order), 256 * 256, dtype=torch.float64)
        for place in self._reported("count"):
            tile = self._tile(place, 0)
            y, form = torch.from_numpy(luminance[place]), tile.stack.form
            total += rounding.count_levels(y, tile.part.planes, form.low, form.high)
        return total.float()

    def _reported(self, what: str) -> Iterator[Place]:
        places = _places(self.images[0].shape[:2], self.tile)
        for number, place in enumerate(places):
            self.report(number, len(places), what)
            yield place
        self.report(len(places), len(places), what)

    def _parts_of(self, chosen: Sequence[int], margin: int) -> Iterator[Part]:
        """Yield all parts of some of the sources."""
        for place in self._reported("survey"):
            part = self._tile(place, margin).part
            yield replace(part, planes=[part.planes[k] for k in chosen])

    def _unfinished(self, what: str, margin: int | None = None) -> Iterator[_Tile]:
        """Yield the tiles that are not finished; one is finished when the next is asked for."""
        for place in self._reported(what):
            piece = f"{what} {place[0].start} {place[1].start}"
            if not self.journal.has(piece):
                yield self._tile(place, (self.method.margin or 0) if margin is None else margin)
                self.journal.add(piece)

    def _around(self, place: Place, margin: int) -> Place:
        rows, columns = (
            slice(max(0, span.start - margin), min(span.stop + margin, n))
            for span, n in zip(place, self.images[0].shape, strict=False)
        )
        return rows, columns

    def _taken(self, place: Place) -> tuple[list[Tensor], list[Tensor | None], Stack]:
        """Return the luminances of a part, in the order of the sources, where they are valid, and all of its stack."""
        crops = [
            replace(x, pixels=x.pixels[place], valid=None if x.valid is None else x.valid[place], grid=None)
            for x in self.images
        ]
        taken = stack.take(crops, windows=self.windows, output=self.output, balance=self.balance)
        given = dict(zip(taken.order, zip(taken.planes, taken.valid, strict=True), strict=True))
        planes, masks = zip(*(given[number] for number in self.order), strict=True)
        return list(planes), list(masks), taken

    def _tile(self, place: Place, margin: int) -> _Tile:
        """Return a tile with a margin around it, in which something stands in for pixels that are not valid."""
        around = wide = self._around(place, margin)
        if self.above:
            wide = self._around(place, -(-margin // ALIGNED) * ALIGNED + _SEEN)
        planes, masks, taken = self._taken(wide)
        if self.above:
            planes = validity.filled(planes, _given(planes, masks), go_on=partial(self._go_on, wide))
            planes = [plane[_within(around, wide)] for plane in planes]
        inner = _within(place, wide)
        valid = [None if mask is None or bool(mask[inner].all()) else mask[inner] for mask in masks]
        chroma = None if taken.chroma is None else taken.chroma[(slice(None), *inner)]
        return _Tile(Part(planes, _within(place, around), place), replace(taken, chroma=chroma), valid)

    def _write(self, level: Any, tile: _Tile, y: Tensor) -> None:
        pixels = stack.give_back(y, tile.stack, tile.seen(), self.fill).pixels
        level[(..., *tile.part.there)] = np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels


def _within(place: Place, around: Place) -> Place:
    """Return where rows and columns are in others around them."""
    rows, columns = (
        slice(span.start - seen.start, span.stop - seen.start) for span, seen in zip(place, around, strict=True)
    )
    return rows, columns


def _coarse(place: Place) -> Place:
    """Return where rows and columns, from a multiple of 32 on, are `_UP` levels up."""
    rows, columns = (slice(span.start // ALIGNED, -(-span.stop // ALIGNED)) for span in place)
    return rows, columns


def _given(planes: Sequence[Tensor], masks: Sequence[Tensor | None]) -> list[Tensor]:
    """Return masks for all sources: one that is valid in a part may not be so elsewhere."""
    return [
        torch.ones_like(plane, dtype=torch.bool) if x is None else x for plane, x in zip(planes, masks, strict=True)
    ]


def _valid(image: Image, place: Place) -> np.ndarray:
    """Return the values of a part of an image that are valid, in one row."""
    pixels = image.pixels[place]
    values: np.ndarray = pixels.ravel() if image.valid is None else pixels[image.valid[place]].ravel()
    return values[~np.isnan(values)] if values.dtype.kind == "f" else values


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
