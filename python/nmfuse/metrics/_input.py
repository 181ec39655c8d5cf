"""What a metric gets: fused image and sources as float64 on the 0..255 scale, checked once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from nmfuse.images import Image

T = TypeVar("T")

_CHUNK_PIXELS = 1 << 20  # of one map: a batch is worked off in pieces of this size, so memory stays bounded
_IMPLIED_RANGE = {torch.uint8: 255.0, torch.uint16: 65535.0}
_OTHER_INTEGERS = (torch.int16, torch.int32)  # whose range of values is hardly that of the dtype


@dataclass(frozen=True)
class Images:
    """A fused image and its sources, and what several metrics compute from them.

    Attributes
    ----------
    fused : (N, H, W) float64
        0..255, on any device.
    sources : tuple of (N, H, W) float64
        Two or more, like `fused`.
    """

    fused: Tensor
    sources: tuple[Tensor, ...]
    _memo: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: Any, compute: Callable[[], T]) -> T:
        """Return ``compute()``, computed the first time that `key` is asked for."""
        if key not in self._memo:
            self._memo[key] = compute()
        return cast(T, self._memo[key])

    @property
    def all(self) -> tuple[Tensor, ...]:
        """The fused image, then the sources."""
        return (self.fused, *self.sources)

    def stretched(self) -> Images:
        """Every image stretched to 0..255 and rounded, as several published metrics begin; a flat one becomes 0."""
        return self.once("stretched", lambda: Images(_stretch(self.fused), tuple(map(_stretch, self.sources))))

    def chunks(self) -> Iterator[Images]:
        """Cut the batch into pieces of bounded size."""
        count, height, width = self.fused.shape
        step = max(1, _CHUNK_PIXELS // (height * width))
        for start in range(0, count, step):
            yield Images(self.fused[start : start + step], tuple(s[start : start + step] for s in self.sources))


def _stretch(x: Tensor) -> Tensor:
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    return ((x - low) / torch.where(high > low, high - low, 1.0) * 255).round()


@dataclass(frozen=True)
class Origin:
    """The form in which the images came, to give the values back in."""

    batch: tuple[int, ...]
    is_tensor: bool

    def give_back(self, values: Tensor) -> Any:
        """Turn (N,) values into a float, a NumPy array or a tensor of the batch shape."""
        if not self.batch:
            return float(values.item())
        values = values.reshape(self.batch)
        return values if self.is_tensor else values.cpu().numpy()


def take_images(fused: Any, sources: Any, *, window: Any = None, data_range: Any = None) -> tuple[Images, Origin]:
    """Check the images and bring them to (N, H, W) float64 on the 0..255 scale, on the device where they are.

    Raises
    ------
    TypeError
        If an image is neither a NumPy array nor a tensor, nor an `Image` of one, if they are mixed, or if a dtype, the
        window or the range is not of a supported kind.
    ValueError
        If the sources are fewer than two, if sizes, devices or (without a window) dtypes differ, if an image is empty,
        has fewer than two axes, looks like RGB, or holds NaN or inf, or if the range of its values is not known or not
        kept to.

    Examples
    --------
    >>> x = np.array([[0, 51], [102, 255]], np.uint8)
    >>> images, _ = take_images(x, [x, x / 255], window=[None, None, (0, 1)])
    >>> images.sources[1][0].tolist()
    [[0.0, 51.0], [102.0, 255.0]]
    """
    if isinstance(sources, np.ndarray | Tensor | Image) or not isinstance(sources, Sequence):
        raise TypeError(f"sources: got {type(sources).__name__}; expected a list of images, such as [a, b]")
    if len(sources) < 2:
        raise ValueError(f"sources: got {len(sources)} image(s); expected two or more, such as [a, b]")
    if window is not None and data_range is not None:
        raise ValueError(f"window: got {window!r}, and a data_range {data_range!r} too; give one of both")
    names = ["fused", *(f"sources[{k}]" for k in range(len(sources)))]
    given = [x.pixels if isinstance(x, Image) else x for x in (fused, *sources)]
    tensors = [_tensor(x, name) for x, name in zip(given, names, strict=True)]
    first = tensors[0]
    for x, raw, name in zip(tensors, given, names, strict=True):
        if isinstance(raw, Tensor) != isinstance(given[0], Tensor):
            raise TypeError(
                f"{name}: is a {type(raw).__name__} and fused is a {type(given[0]).__name__}; pass all of the same kind"
            )
        if x.device != first.device:
            raise ValueError(f"{name}: is on {x.device}, but fused is on {first.device}; move one of them")
        if x.shape != first.shape:
            raise ValueError(
                f"{name}: shape {tuple(x.shape)}, but fused has {tuple(first.shape)}; "
                "metrics compare registered images of one size: resample or crop one of them"
            )
        alike = x.dtype == first.dtype or (x.is_floating_point() and first.is_floating_point())
        if window is None and not alike:
            raise ValueError(
                f"{name}: dtype {_name(x)}, but fused is {_name(first)}; convert one of them, or give a window"
            )
    valids = [_valid(x, t, name) for x, t, name in zip((fused, *sources), tensors, names, strict=True)]
    if window is None:
        low, high = _common_range(first, data_range)
        strict = data_range is not None and not _is_number(data_range)
        planes = [
            _scaled(x, valid, name, low, high, strict=strict)
            for x, valid, name in zip(tensors, valids, names, strict=True)
        ]
    else:
        specs = windows_of(window, len(tensors))
        planes = [
            _windowed(x, valid, name, spec) for x, valid, name, spec in zip(tensors, valids, names, specs, strict=True)
        ]
    origin = Origin(tuple(first.shape[:-2]), isinstance(given[0], Tensor))
    return Images(planes[0], tuple(planes[1:])), origin


def _tensor(x: Any, name: str) -> Tensor:
    if isinstance(x, np.ndarray):
        if x.dtype.kind not in "uif" or x.dtype.itemsize > 8:
            raise TypeError(_unsupported(name, str(x.dtype)))
        x = np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("="))
        x = torch.from_numpy(x if x.flags.writeable else x.copy())
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: got {type(x).__name__}; expected a NumPy array or a torch tensor, or an Image of one")
    if x.dtype not in (*_IMPLIED_RANGE, *_OTHER_INTEGERS) and not x.is_floating_point():
        raise TypeError(_unsupported(name, _name(x)))
    shape = tuple(x.shape)
    if x.ndim < 2:
        raise ValueError(f"{name}: shape {shape}; expected (H, W), or (..., H, W) for a batch")
    if x.numel() == 0:
        raise ValueError(f"{name}: shape {shape} is empty; expected an image")
    if x.ndim > 2 and shape[-1] in (3, 4):
        raise ValueError(
            f"{name}: shape {shape} looks like RGB; metrics are defined for one channel: pass the luminance, "
            "such as 0.299 R + 0.587 G + 0.114 B"
        )
    return x.detach()


def _valid(image: Any, x: Tensor, name: str) -> Tensor | None:
    """Return where an `Image` is valid; None where that is everywhere."""
    if not isinstance(image, Image) or image.valid is None:
        return None
    valid = torch.as_tensor(image.valid, device=x.device)
    if valid.dtype != torch.bool or valid.shape != x.shape:
        raise ValueError(
            f"{name}: its valid is {_name(valid)} of shape {tuple(valid.shape)}; expected bool of {tuple(x.shape)}"
        )
    return valid


def _unsupported(name: str, dtype: str) -> str:
    return f"{name}: dtype {dtype} is not supported; convert it to uint8, uint16, int16, int32, float32 or float64"


def _name(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _common_range(x: Tensor, data_range: Any) -> tuple[float, float]:
    """Return the values of black and white of all images."""
    if data_range is None:
        return _dtype_range(x)
    if _is_number(data_range):
        white = float(data_range)
        if not 0 < white < float("inf"):
            raise ValueError(
                f"data_range: got {data_range!r}; expected a positive number, the value of white (black is 0)"
            )
        return 0.0, white
    if isinstance(data_range, str) or not isinstance(data_range, Sequence) or not all(map(_is_number, data_range)):
        got = data_range if isinstance(data_range, tuple | list) else type(data_range).__name__
        raise TypeError(f"data_range: got {got}; expected (low, high), or a number, the value of white")
    if len(data_range) != 2 or not -float("inf") < data_range[0] < data_range[1] < float("inf"):
        raise ValueError(f"data_range: got {data_range!r}; expected (low, high) with low < high")
    return float(data_range[0]), float(data_range[1])


def _dtype_range(x: Tensor) -> tuple[float, float]:
    if x.dtype not in _IMPLIED_RANGE:
        raise ValueError(
            f"data_range: not given, and dtype {_name(x)} does not imply it; "
            "say which value is white (black is 0), such as data_range=1.0, or (low, high), or give a window"
        )
    return 0.0, _IMPLIED_RANGE[x.dtype]


def windows_of(window: Any, count: int) -> list[Any]:
    """Return the window of each image: one for all, or one for each."""
    if (
        isinstance(window, str)
        or not isinstance(window, Sequence)
        or (len(window) == 2 and all(map(_is_number, window)))
    ):
        return [window] * count
    if len(window) != count:
        raise ValueError(
            f"window: got {len(window)} for {count} images; expected one for all, or one for the fused image and each "
            "source"
        )
    return list(window)


def _scaled(x: Tensor, valid: Tensor | None, name: str, low: float, high: float, *, strict: bool) -> Tensor:
    x = _finite(x, valid, name)
    seen = x if valid is None else x[valid]
    if strict and seen.numel() and not (low <= float(seen.min()) and float(seen.max()) <= high):
        raise ValueError(
            f"{name}: values from {float(seen.min()):g} to {float(seen.max()):g}, not all within data_range "
            f"{low:g} to {high:g}; widen it, or give a window, which clips"
        )
    return _to_255(x, valid, low, high)


def _windowed(x: Tensor, valid: Tensor | None, name: str, spec: Any) -> Tensor:
    """Clip an image to its window, each of a batch to its own, and scale it."""
    values = _finite(x, valid, name).reshape(-1, *x.shape[-2:])
    shown = None if valid is None else valid.reshape(values.shape)
    planes = []
    for n, plane in enumerate(values):
        mask = None if shown is None else shown[n]
        original = x.reshape(values.shape)[n]  # in its own dtype
        low, high = _dtype_range(x) if spec is None else _resolved(spec, original, mask)
        planes.append(_to_255(plane.clamp(low, high), mask, low, high))
    return torch.cat(planes)


def _resolved(spec: Any, values: Tensor, valid: Tensor | None) -> tuple[float, float]:
    from nmfuse.images.window import resolve

    return resolve(spec, values, valid)


def _finite(x: Tensor, valid: Tensor | None, name: str) -> Tensor:
    """Return the image in float64, 0 where it is not valid."""
    x = x.to(torch.float64)
    if valid is not None:
        x = torch.where(valid, x, 0.0)
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"{name}: contains NaN or inf; replace them first, for example with numpy.nan_to_num")
    return x


def _to_255(x: Tensor, valid: Tensor | None, low: float, high: float) -> Tensor:
    # times 255 first: 8 bits widened to 16 come back as exactly the same integers
    x = (x - low) * 255 / (high - low)
    if valid is not None:
        x = torch.where(valid, x, 0.0)
    return x.reshape(-1, *x.shape[-2:]).contiguous()
