"""Sources in, one image out: S images of any kind become luminances in [0, 1]; what is fused becomes as they came."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from nmfuse.images import colour, window
from nmfuse.images.grid import Grid
from nmfuse.images.image import Image
from nmfuse.images.order import canonical_order
from nmfuse.images.rows import by_rows, pieces
from nmfuse.images.scratch import Scratch
from nmfuse.kernels._array import take as kernel_array
from nmfuse.kernels.checks import is_number, is_whole

_log = logging.getLogger(__name__)

DTYPES = ("bool", "uint8", "int16", "uint16", "int32", "float16", "float32", "float64")
_SMALL = (torch.bool, torch.uint8, torch.int16, torch.uint16)
_EXACT = 2.0**22  # integers below it, and their differences, are exact in single precision
_ALIKE = 0.5  # share of the common range that each image spans where floats share one without a word
_FILLED = 1 / 8  # share of an integer dtype's range, under which a window may have been forgotten


@dataclass(frozen=True)
class Form:
    """What is needed to give a result back: library, dtype, layout, range, and what it carries."""

    kind: str  # "numpy", "masked", "torch", "pil" or "foreign"
    dtype: str
    layout: str  # "HW", "HWC" or "CHW", whatever the number of spatial axes
    low: float
    high: float
    channels: int = 1  # 1 or 3
    has_alpha: bool = False
    slice_axis: int = 0
    namespace: Any = None  # of a foreign array: what its library is called by the array API standard
    carrier: Image | None = None  # the source, where it is an Image, without its pixels; of a result, the first one


@dataclass
class Stack:
    """S sources as fusion works on them, in the canonical order.

    Attributes
    ----------
    planes : list of Tensor (*spatial)
        Luminances, float32 in [0, 1]; invalid pixels hold any finite value.
    valid : list of (bool Tensor (*spatial) or None)
        None: valid everywhere.
    chroma : Tensor (2, *spatial) or None
        Of the fused image; None where all sources are grey.
    order : list of int
        ``planes[k]`` is the source that was given at place ``order[k]``.
    form : Form
    scratch : Scratch
        Memory for what does not fit in memory.
    balance : list of float, optional
        How much of each is wanted, above 0; None: all alike. Sources that are not wanted are not in the stack.
    """

    planes: list[Tensor]
    valid: list[Tensor | None]
    chroma: Tensor | None
    order: list[int]
    form: Form
    scratch: Scratch
    balance: list[float] | None = None


@dataclass
class _Source:
    """One source taken apart, its pixels still in their own dtype."""

    name: str
    planes: Tensor  # (C, *spatial), C 1 or 3
    valid: Tensor | None
    form: Form  # of its own kind and dtype; its range is filled in when the window is known
    grid: Grid | None = None


_OnGrid = TypeVar("_OnGrid", _Source, Image)


def take(
    sources: Iterable[Any],
    *,
    spatial: int | None = None,
    slice_axis: int = 0,
    windows: Any = None,
    data_range: Any = None,
    output: str | None = None,
    balance: Any = None,
    least_side: int = 1,
) -> Stack:
    """Check the sources, one after the other, and bring each to [0, 1] by its own window; see `nmfuse.fuse`."""
    first, sources = _first_of(sources)
    if spatial is None:
        spatial = first[0].spatial if first and isinstance(first[0], Image) else 2
    if not is_whole(spatial) or spatial not in (2, 3):
        raise ValueError(f"spatial: got {spatial!r}; expected 2 for images or 3 for volumes")
    if not is_whole(slice_axis) or slice_axis not in range(spatial) or (spatial == 2 and slice_axis != 0):
        raise ValueError(f"slice_axis: got {slice_axis!r}; expected 0, 1 or 2, an axis of a volume (spatial=3)")
    specs = _Windows(windows, data_range)
    scratch = Scratch()
    planes: list[Tensor] = []
    chromas: list[Tensor | None] = []
    valid: list[Tensor | None] = []
    forms: list[Form] = []
    taken = (_take_one(x, place, spatial, slice_axis) for place, x in enumerate(_again(first, sources)))
    for source in specs.ready(on_one_grid(taken)):
        if min(source.planes.shape[-2:]) < least_side:
            size = _size(source.planes)
            raise ValueError(f"{source.name}: size {size}; expected at least {least_side} x {least_side} pixels")
        low, high = specs.of(source, len(planes))
        values = _scaled(source.planes, low, high, clip=specs.clip)
        if source.valid is not None:  # what is not seen is black and has no colour, whatever lies there
            values = torch.where(source.valid, values, 0.0)
        uv = colour.chroma(values)
        planes.append(scratch.keep(colour.luminance(values), len(planes)))
        chromas.append(None if uv is None else scratch.keep(uv, len(chromas)))
        valid.append(source.valid)
        forms.append(replace(source.form, low=low, high=high))
        del source, values, uv
    if len(planes) < 2:
        raise ValueError(f"sources: got {len(planes)}; expected two or more images")
    specs.check_count(len(planes))
    wanted = check_balance(balance, len(planes))
    order = canonical_order(planes, list(zip(chromas, valid, strict=True)), scratch.release)
    order = [k for k in order if wanted[k] > 0]
    chroma = _fused_chroma([chromas[k] for k in order], [wanted[k] for k in order], scratch.release)
    if chroma is None and any(uv is not None for uv in chromas):  # those in colour are not wanted
        chroma = torch.zeros_like(torch.stack([planes[0], planes[0]]))
    return Stack(
        planes=[planes[k] for k in order],
        valid=[valid[k] for k in order],
        chroma=chroma,
        order=order,
        form=_form_of_result(forms, [share > 0 for share in wanted], output),
        scratch=scratch,
        balance=None if len({wanted[k] for k in order}) == 1 and len(order) > 1 else [wanted[k] for k in order],
    )


def _fused_chroma(
    chromas: Sequence[Tensor | None], balance: Sequence[float], release: Callable[[], None]
) -> Tensor | None:
    """Return the mean of the chromas of the sets of sources that are fused (`balanced_sets`); None if all are grey."""
    total = None
    for share, chosen in balanced_sets(balance):
        uv = colour.mix_chroma([part for k in chosen if (part := chromas[k]) is not None], release)
        if uv is not None:
            uv = uv if share == 1 else share * uv
            total = uv if total is None else total + uv
    return total


def form_of(images: Sequence[Image], output: str | None, balance: Any = None) -> Image:
    """Return an image of the shape, dtype and all that the result of (H, W) or (H, W, 3) images carries, in zeros.

    It takes no memory; `output` is the dtype that is asked for, and `balance` how much of each is wanted.
    """
    coloured = any(x.ndim == 3 for x in images)
    like = [x.with_pixels(np.zeros((1, 1, 3) if x.ndim == 3 else (1, 1), x.dtype)) for x in images]
    taken = take([replace(x, grid=None) for x in like], windows=[(0, 1)] * len(like), output=output, balance=balance)
    dtype = np.dtype(taken.form.dtype)
    shape = (*images[0].shape[:2], 3) if coloured else images[0].shape[:2]
    assert taken.form.carrier is not None  # of an Image
    return replace(taken.form.carrier, pixels=np.broadcast_to(np.zeros((), dtype), shape), grid=images[0].grid)


def ranges(extremes: Iterable[Image], *, windows: Any = None, data_range: Any = None) -> list[tuple[float, float]]:
    """Return what `take` would take for black and white in each source, by images of its least and greatest values.

    A window "auto" is of more than these, and has to be one of numbers.
    """
    specs = _Windows(windows, data_range)
    taken = (_take_one(x, place, 2, 0) for place, x in enumerate(extremes))
    found: list[tuple[float, float]] = []
    for source in specs.ready(taken):
        found.append(specs.of(source, len(found)))
    specs.check_count(len(found))
    return found


def _first_of(sources: Iterable[Any]) -> tuple[list[Any], Iterator[Any]]:
    """Return the first source, in a list that `_again` empties so that nobody holds it, and the others."""
    rest = iter(sources)
    return list(itertools.islice(rest, 1)), rest


def _again(first: list[Any], rest: Iterator[Any]) -> Iterator[Any]:
    while first:
        yield first.pop()
    yield from rest


def check_balance(balance: Any, sources: int) -> list[float]:
    """Return how much of each source is wanted."""
    if balance is None:
        return [1.0] * sources
    given = list(balance) if isinstance(balance, (Sequence, np.ndarray)) and not isinstance(balance, str) else None
    if given is None or len(given) != sources:
        raise ValueError(f"balance: got {balance!r}; expected {sources} numbers from 0 to 1, one for each source")
    if not all(is_number(x) and 0 <= x <= 1 for x in given) or not any(given):
        raise ValueError(f"balance: got {balance!r}; expected numbers from 0 to 1, at least one of them above 0")
    return [float(x) for x in given]


def balanced_sets(balance: Sequence[float]) -> list[tuple[float, list[int]]]:
    """Return the sets of sources whose fusions make up a balanced one, and the share of each; shares sum to 1.

    The fusions of all, of all but the least wanted, and so on, count by how much more the next ones are wanted
    (Choquet, Annales de l'institut Fourier 5, 1954).

    Examples
    --------
    >>> balanced_sets([1.0, 0.25, 1.0])
    [(0.25, [0, 1, 2]), (0.75, [0, 2])]
    """
    wanted = sorted(set(balance))
    return [
        ((least - less) / wanted[-1], [k for k, value in enumerate(balance) if value >= least])
        for less, least in itertools.pairwise([0.0, *wanted])
    ]


def give_back(y: Tensor, stack: Stack, seen: Tensor | None = None, fill: float | None = None) -> Any:
    """Return the fused luminance (*spatial) as the first source came, with the sources' chroma.

    `seen` is False where no source is valid; there the result is `fill`, or invalid: NaN, masked, transparent.
    """
    form = stack.form
    target = getattr(torch, form.dtype)
    limits = window.range_of(target)

    def finished(rows: slice) -> Tensor:
        image = colour.with_chroma(y[rows], None if stack.chroma is None else stack.chroma[:, rows])
        values = image.double() * (form.high - form.low) + form.low
        values = values if limits is None else values.round().clamp(*limits)
        if seen is not None:
            values = torch.where(seen[rows], values, values.new_tensor(_value_of_nothing(form, limits, fill)))
        if form.has_alpha:
            opaque = torch.full_like(values[:1], 1.0 if limits is None else limits[1])
            values = torch.cat([values, opaque if seen is None or fill is not None else opaque * seen[rows]])
        return values

    channels = (1 if stack.chroma is None else 3) + form.has_alpha
    if y.requires_grad:
        values = finished(slice(None)).to(target)
    else:
        values = torch.empty((channels, *y.shape), dtype=target, device=y.device)
        for rows in pieces(y.expand(channels, *y.shape)):
            values[:, rows] = finished(rows)
    if y.dim() == 3:
        values = values.movedim(1, 1 + form.slice_axis)
        seen = None if seen is None else seen.movedim(0, form.slice_axis)
    if form.layout == "HWC":
        values = values.movedim(0, -1)
    elif form.layout == "HW":
        values = values[0]
    return _in_kind(values.contiguous(), None if fill is not None else seen, form)


def check_fill(fill: Any, stack: Stack) -> None:
    """Refuse a `fill` that the result cannot hold."""
    if fill is None:
        return
    low, high = window.range_of(getattr(torch, stack.form.dtype)) or (-np.inf, np.inf)
    if not is_number(fill) or (np.isfinite(high) and not low <= fill <= high):
        raise ValueError(f"fill: got {fill!r}; expected a number that {stack.form.dtype} can hold")


def _value_of_nothing(form: Form, limits: tuple[float, float] | None, fill: float | None) -> float:
    """Return what a pixel becomes that no source shows; refuse where the result could not say so."""
    if fill is not None:
        return float(fill)
    if limits is None:
        return float("nan")
    if form.kind != "masked" and not form.has_alpha and form.carrier is None:
        raise ValueError(
            f"fill: not given, and some pixels are valid in no source, which {form.dtype} cannot say; pass fill=0 "
            "(or another value), or output='float32', which has NaN"
        )
    return min(max(form.low, limits[0]), limits[1])


def _in_kind(values: Tensor, seen: Tensor | None, form: Form) -> Any:
    """Return the values in the library of the first source."""
    if form.kind == "torch":
        return values if form.carrier is None else form.carrier.with_pixels(values, seen)
    array = values.numpy()
    shown = None if seen is None else seen.numpy()
    if form.kind == "pil":
        from PIL import Image as Pillow

        picture = Pillow.fromarray(array)
        return picture if form.carrier is None else form.carrier.with_pixels(picture, shown)
    if form.namespace is not None:
        array = form.namespace.from_dlpack(array)
    if form.carrier is not None:
        return form.carrier.with_pixels(array, shown)
    if form.kind == "masked":
        mask = np.zeros(array.shape, bool)
        if shown is not None:
            mask |= ~shown[..., None] if form.layout == "HWC" else ~shown
        return np.ma.MaskedArray(array, mask)
    return array


def _take_one(x: Any, place: int, spatial: int, slice_axis: int) -> _Source:
    """Return one source taken apart, checked by itself."""
    name = f"sources[{place}]"
    carrier, valid, grid = None, None, None
    if isinstance(x, Image):
        grid = x.grid
        name = x.name or name
        carrier = x.with_pixels(None)  # the pixels of a source are not kept
        if x.valid is not None:
            valid = x.valid.bool() if isinstance(x.valid, Tensor) else torch.from_numpy(np.array(x.valid, bool))
        x = x.pixels
    kind, namespace = "numpy", None
    if isinstance(x, np.ma.MaskedArray):
        kind, x, mask = "masked", x.data, np.ma.getmaskarray(x)
        valid = torch.from_numpy(~(mask if mask.ndim == spatial else mask.any(-1)))
    elif isinstance(x, Tensor):
        kind = "torch"
    elif hasattr(x, "getbands") and hasattr(x, "mode"):  # a PIL image, without importing Pillow
        kind, x = "pil", _from_pillow(x, name)
    elif not isinstance(x, np.ndarray):
        if not hasattr(x, "__dlpack__"):
            raise TypeError(
                f"{name}: got {type(x).__name__}; expected a NumPy array, a torch tensor, another array with "
                "__dlpack__, a PIL image or a nmfuse Image"
            )
        held = kernel_array(x, name)
        kind, x, namespace = "foreign", held.to_host(), held.namespace
    dtype = str(x.dtype).removeprefix("torch.") if kind == "torch" else x.dtype.newbyteorder("=").name
    if dtype not in DTYPES:
        raise TypeError(f"{name}: dtype {dtype} is not supported; convert it to one of {', '.join(DTYPES)}")
    shape = tuple(x.shape)
    if 0 in shape:
        raise ValueError(f"{name}: shape {shape} is empty; expected an image")
    if (spatial == 2 and grid is not None and len(grid.shape) == 3) or (spatial == 3 and len(shape) == 2):
        raise ValueError(
            f"{name}: is {'a volume' if spatial == 2 else 'an image'} of shape {shape} among "
            f"{'images' if spatial == 2 else 'volumes'}; images are fused with images and volumes with volumes "
            "(spatial=3), take a slice of each volume first"
        )
    tensor = x if isinstance(x, Tensor) else torch.from_numpy(_as_torch_views(x))
    planes, layout = _channels_first(tensor, kind, spatial, name)
    if grid is not None and tuple(planes.shape[1:]) != grid.shape:
        raise ValueError(f"{name}: shape {shape}, but its grid has {grid.shape}; give it a grid of its own")
    if spatial == 3:
        planes = planes.movedim(1 + slice_axis, 1)
        valid = None if valid is None else valid.movedim(slice_axis, 0)
    has_alpha = planes.shape[0] in (2, 4)
    if has_alpha:
        shown = planes[-1] > 0
        valid = shown if valid is None else valid & shown
        planes = planes[:-1]
    if valid is not None and valid.shape != planes.shape[1:]:
        raise ValueError(f"{name}: its mask has shape {tuple(valid.shape)}; expected {tuple(planes.shape[1:])}")
    if planes.is_floating_point():
        planes, valid = _without_nan(planes, valid, name)
    valid = None if valid is None or bool(valid.all()) else valid.to(planes.device)
    form = Form(kind, dtype, layout, 0, 1, planes.shape[0], has_alpha, slice_axis, namespace, carrier)
    return _Source(name, planes, valid, form, grid)


def _without_nan(planes: Tensor, valid: Tensor | None, name: str) -> tuple[Tensor, Tensor | None]:
    """Return the planes with invalid pixels at 0, and where they are valid: NaN is not; refuse infinite values."""
    finite = torch.isfinite(planes.detach()).all(0)
    if bool(finite.all()):
        return planes, valid
    infinite = torch.isinf(planes.detach()).any(0)
    if bool((infinite if valid is None else infinite & valid.to(infinite.device)).any()):
        raise ValueError(f"{name}: contains inf; replace it first, or set it to NaN, which counts as invalid")
    valid = finite if valid is None else valid.to(finite.device) & finite
    return torch.where(valid, planes, torch.zeros_like(planes)), valid


def _channels_first(x: Tensor, kind: str, spatial: int, name: str) -> tuple[Tensor, str]:
    """Return an image as (C, *spatial), in its own dtype, and its layout."""
    shape, is_tensor = tuple(x.shape), kind == "torch"
    if len(shape) == spatial:
        return x[None], "HW"
    if len(shape) == spatial + 1 and is_tensor and shape[0] in (1, 2, 3, 4):
        return x, "CHW"
    if len(shape) == spatial + 1 and not is_tensor and shape[-1] in (1, 2, 3, 4):
        return x.movedim(-1, 0), "HWC"
    grid = "H, W" if spatial == 2 else "D, H, W"
    wanted = f"({grid}), (1, {grid}) or (3, {grid})" if is_tensor else f"({grid}), ({grid}, 1) or ({grid}, 3)"
    hint = "; an array of several images needs axis=0, a volume spatial=3" if spatial == 2 else ""
    raise ValueError(f"{name}: shape {shape}; expected {wanted}, or a channel more for alpha{hint}")


def _from_pillow(x: Any, name: str) -> np.ndarray:
    """Return the pixels of a PIL image: grey or RGB, maybe with alpha."""
    if "transparency" in x.info:
        x = x.convert("LA" if x.mode == "L" else "RGBA")
    elif x.mode == "P":
        x = x.convert("RGB")
    if x.mode not in ("1", "L", "LA", "RGB", "RGBA", "I;16", "I", "F"):
        raise ValueError(f"{name}: a PIL image of mode {x.mode}; convert it to L, RGB or RGBA")
    return np.asarray(x)


def _as_torch_views(x: np.ndarray) -> np.ndarray:
    """Return the array as torch can view it: native byte order, no negative strides, writable (it is not written)."""
    return np.require(x, x.dtype.newbyteorder("="), ["C", "W"])


def _size(planes: Tensor) -> str:
    return " x ".join(str(n) for n in planes.shape[1:])


def on_one_grid(sources: Iterable[_OnGrid]) -> Iterator[_OnGrid]:
    """Yield the sources; refuse one whose pixels lie elsewhere than those of one before."""
    known: tuple[str, Grid] | None = None
    for source in sources:
        if source.grid is not None:
            known = known or (source.name, source.grid)
            if differ := source.grid.difference(known[1]):
                raise ValueError(
                    f"{source.name}: is not on the grid of {known[0]}: {differ}; put all sources on one grid, by "
                    "nmfuse.align.resample(image, grid), in the shell by --resample-to 1 (or 2, ..., finest, FILE)"
                )
        yield source


def _check_grid(source: _Source, first: _Source) -> None:
    """Refuse a source that is not on the grid, or not on the device, of the first."""
    if (source.form.kind == "torch") != (first.form.kind == "torch"):
        kinds = ["torch tensor" if s.form.kind == "torch" else "NumPy array" for s in (source, first)]
        raise TypeError(f"{source.name}: is a {kinds[0]} and {first.name} is a {kinds[1]}; pass all of the same kind")
    if source.planes.device != first.planes.device:
        raise ValueError(
            f"{source.name}: is on {source.planes.device}, but {first.name} is on {first.planes.device}; move one"
        )
    if source.planes.shape[1:] != first.planes.shape[1:]:
        raise ValueError(
            f"{source.name}: size {_size(source.planes)}, but {first.name} is {_size(first.planes)} "
            "(rows x columns last); register and resample one to the other's grid first, in the shell by --align "
            "similarity, or by --resize 1 (or 2, ..., FILE) where only their sizes differ"
        )


def _scaled(x: Tensor, low: float, high: float, *, clip: bool) -> Tensor:
    """Return the planes in [0, 1], float32."""
    if x.dtype == torch.float32 and (low, high) == (0.0, 1.0) and not clip:
        return x  # the caller's own memory, which is only read

    ends = (low, high, high - low)
    exact = x.dtype in _SMALL and all(end.is_integer() and abs(end) < _EXACT for end in ends)
    work = torch.float32 if exact else torch.float64  # a quotient of exact numbers has the same bits by way of either

    def scaled(rows: Tensor) -> Tensor:
        values = (rows.to(work, memory_format=torch.contiguous_format) - low) / (high - low)
        return values.clamp(0, 1) if clip else values

    return by_rows(x, scaled, torch.float32)


class _Windows:
    """What the caller said of ranges: a window for all, one for each, one range that all keep to, or nothing."""

    def __init__(self, windows: Any, data_range: Any) -> None:
        if windows is not None and data_range is not None:
            raise ValueError("window, data_range: got both; pass the one range of all images, or a window for each")
        for_all = windows is None or isinstance(windows, str) or is_range(windows)
        if not for_all and (not isinstance(windows, Sequence) or not windows):
            raise TypeError(f"window: got {windows!r}; expected one window for all sources, or a list of one for each")
        self._each = None if for_all else list(windows)
        self._all = windows if for_all else None
        self._range = None if data_range is None else window.check_range(data_range, "data_range")
        self.clip = windows is not None
        self._must_fit = data_range is not None
        self._implied = not self.clip and not self._must_fit

    def ready(self, sources: Iterable[_Source]) -> Iterator[_Source]:
        """Yield the sources, all on the first one's grid; floats of no said range are all looked at before."""
        sources = iter(sources)
        first = next(sources, None)
        if first is None:
            return
        if self._implied:
            self._range = window.range_of(first.planes.dtype)
            if self._range is None:
                taken = [first, *sources]
                for source in taken:
                    _check_grid(source, first)
                self._range = _shared_range(taken)
                sources = iter(taken[1:])
        yield first
        for source in sources:
            _check_grid(source, first)
            if self._implied and window.range_of(source.planes.dtype) != window.range_of(first.planes.dtype):
                raise ValueError(_say_windows([first, source]))
            yield source

    def of(self, source: _Source, place: int) -> tuple[float, float]:
        """Return the window of a source."""
        if self._range is not None:
            if self._must_fit:
                self._check_fit(source)
            elif source.planes.dtype not in (torch.uint8, torch.bool):
                _warn_of_little(source, *self._range)
            return self._range
        if self._each is not None:
            self.check_count(place + 1, at_least=True)
        spec = self._all if self._each is None else self._each[place]
        _check_unit(spec, source)
        return window.resolve(spec, source.planes, source.valid, source.name)

    def check_count(self, sources: int, *, at_least: bool = False) -> None:
        """Refuse a list of windows that is not one for each source."""
        if self._each is not None and (sources > len(self._each) if at_least else sources != len(self._each)):
            raise ValueError(f"window: got {len(self._each)} windows, and {sources} sources; expected one for each")

    def _check_fit(self, source: _Source) -> None:
        assert self._range is not None
        least, greatest = window.extent(source.planes, source.valid)
        if least < self._range[0] or greatest > self._range[1]:
            raise ValueError(
                f"data_range: got {self._range!r}, but the images span {least:g} to {greatest:g}; widen it, or pass "
                "window=, which clips"
            )


def _check_unit(spec: Any, source: _Source) -> None:
    """Refuse a preset of another unit than the file of a source says."""
    unit = None if source.form.carrier is None else source.form.carrier.carried.get("unit")
    preset = window.PRESETS.get(spec) if isinstance(spec, str) else None
    if preset is not None and unit not in (None, preset.unit):
        hint = "convert it by nmfuse.io.to_suv, or " if preset.unit == "SUV" else ""
        raise ValueError(
            f"window: {spec!r} is in {preset.unit}, and {source.name} in {unit}; {hint}choose another window"
        )


def _shared_range(taken: Sequence[_Source]) -> tuple[float, float]:
    """Return the range of floats that came without windows: one for all, where they look as if they had one."""
    if any(not source.planes.is_floating_point() for source in taken):
        raise ValueError(_say_windows(taken))
    extents = [window.extent(source.planes, source.valid) for source in taken]
    least, greatest = min(low for low, _ in extents), max(high for _, high in extents)
    common = window.float_range(least, greatest)
    if common != (0.0, 1.0) and any(0 < high - low < _ALIKE * (greatest - least) for low, high in extents):
        raise ValueError(_say_windows(taken))
    return common


def _warn_of_little(source: _Source, low: float, high: float) -> None:
    """Say where a source fills little of what counts as black to white and nobody said so."""
    if (low, high) == (0.0, 1.0):  # floats within it: as they are meant, and not looked at once more
        return
    least, greatest = window.extent(source.planes, source.valid)
    if 0 < greatest - least < _FILLED * (high - low):
        step = (high - low) / 2**24  # luminance is kept in single precision
        _log.warning(
            "%s: its values, %g to %g, fill %.2g %% of %g to %g, which counts as black to white%s; "
            "choose other limits by window='auto', 'minmax' or (low, high), in the shell by --window auto",
            source.name, least, greatest, 100 * (greatest - least) / (high - low), low, high,
            f", and steps of {step:g} are kept" if step > 1e-4 * (greatest - least) else "",
        )  # fmt: skip


def _say_windows(taken: Sequence[_Source]) -> str:
    spans = []
    for source in taken:
        low, high = window.extent(source.planes, source.valid)
        spans.append(f"{source.name} {source.form.dtype}, {low:g} to {high:g}")
    example = ", ".join("'auto'" for _ in taken) if len(taken) < 4 else "'auto', ..."
    return (
        f"window: not given, and the images' ranges differ ({'; '.join(spans)}); say what is black and white in each, "
        f"such as window=[{example}] (in the shell: --window once for each), by (low, high), a preset like 'ct-brain', "
        "or None for a dtype's whole range (in the shell: --window dtype); the result has the dtype and range of the "
        "first, unless output= (--dtype) names another"
    )


def _made_of(first: Image, sources: Sequence[Image | None]) -> Image:
    """Return what a result carries: what the first source does, without a unit, and the records of all sources."""
    records = [record for x in sources if x is not None for record in x.carried.get("sources", ())]
    carried = {name: value for name, value in first.carried.items() if name not in ("unit", "sources")}
    return replace(first, carried=carried | ({"sources": tuple(records)} if records else {}))


def is_range(spec: Any) -> bool:
    """Whether a window is one (low, high), and not one for each of two sources."""
    return isinstance(spec, Sequence) and len(spec) == 2 and all(is_number(v) for v in spec)


def _form_of_result(forms: Sequence[Form], wanted: Sequence[bool], output: str | None) -> Form:
    """Return the first source's form, in colour where a source is, with the dtype and range that were asked for."""
    coloured = next((form for form in forms if form.channels == 3), forms[0])
    form = replace(forms[0], layout=coloured.layout)
    if form.carrier is not None:
        made = _made_of(form.carrier, [x.carrier for x, is_in in zip(forms, wanted, strict=True) if is_in])
        if output is not None:
            made.carried.pop("scale", None)  # the dtype that was asked for, and not the one that the first is stored in
        form = replace(form, carrier=made)
    if output is not None:
        output = str(output)
        if output not in DTYPES:
            raise ValueError(f"output: got {output!r}; expected one of {', '.join(DTYPES)}, or None: as the first")
        low, high = window.range_of(getattr(torch, output)) or (0.0, 1.0)
        form = replace(form, dtype=output, low=low, high=high)
    if form.has_alpha and form.layout == "HW":
        form = replace(form, layout="CHW" if form.kind == "torch" else "HWC")
    held = ("uint8",) if form.layout == "HWC" else ("bool", "uint8", "uint16", "int32", "float32")
    if form.kind == "pil" and form.dtype not in held:
        raise ValueError(
            f"output: a PIL image of this kind cannot hold {form.dtype}; expected output= one of {', '.join(held)}, or "
            "pass numpy.asarray of the pictures"
        )
    return form
