"""What a metric gets: fused image and sources as float64 on the 0..255 scale, checked once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")

_CHUNK_PIXELS = 1 << 20  # of one map: a batch is worked off in pieces of this size, so memory stays bounded
_IMPLIED_RANGE = {torch.uint8: 255.0, torch.uint16: 65535.0}


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


def take_images(fused: Any, sources: Any, data_range: float | None) -> tuple[Images, Origin]:
    """Check the images and bring them to (N, H, W) float64 on the 0..255 scale, on the device where they are.

    Raises
    ------
    TypeError
        If an image is neither a NumPy array nor a tensor, if they are mixed, or if a dtype is not supported.
    ValueError
        If the sources are fewer than two, if sizes, devices or dtypes differ, if an image is empty, has fewer than two
        axes, looks like RGB, or holds NaN or inf, or if the range of its values is not known.
    """
    if isinstance(sources, np.ndarray | Tensor) or not isinstance(sources, Sequence):
        raise TypeError(f"sources: got {type(sources).__name__}; expected a list of images, such as [a, b]")
    if len(sources) < 2:
        raise ValueError(f"sources: got {len(sources)} image(s); expected two or more, such as [a, b]")
    names = ["fused", *(f"sources[{k}]" for k in range(len(sources)))]
    given = [fused, *sources]
    tensors = [_tensor(x, name) for x, name in zip(given, names, strict=True)]
    first = tensors[0]
    for x, raw, name in zip(tensors, given, names, strict=True):
        if isinstance(raw, Tensor) != isinstance(fused, Tensor):
            raise TypeError(
                f"{name}: is a {type(raw).__name__} and fused is a {type(fused).__name__}; pass all of the same kind"
            )
        if x.device != first.device:
            raise ValueError(f"{name}: is on {x.device}, but fused is on {first.device}; move one of them")
        if x.shape != first.shape:
            raise ValueError(
                f"{name}: shape {tuple(x.shape)}, but fused has {tuple(first.shape)}; "
                "metrics compare registered images of one size: resample or crop one of them"
            )
        if x.dtype != first.dtype and not (x.is_floating_point() and first.is_floating_point()):
            raise ValueError(f"{name}: dtype {_name(x)}, but fused is {_name(first)}; convert one of them")
    white = _white(first, data_range)
    planes = [_scaled(x, name, white) for x, name in zip(tensors, names, strict=True)]
    origin = Origin(tuple(first.shape[:-2]), isinstance(fused, Tensor))
    return Images(planes[0], tuple(planes[1:])), origin


def _tensor(x: Any, name: str) -> Tensor:
    if isinstance(x, np.ndarray):
        if x.dtype.kind not in "uf" or x.dtype.itemsize > 8:
            raise TypeError(_unsupported(name, str(x.dtype)))
        x = np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("="))
        x = torch.from_numpy(x if x.flags.writeable else x.copy())
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: got {type(x).__name__}; expected a NumPy array or a torch tensor")
    if x.dtype not in _IMPLIED_RANGE and not x.is_floating_point():
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


def _unsupported(name: str, dtype: str) -> str:
    return f"{name}: dtype {dtype} is not supported; convert it to uint8, uint16, float32 or float64"


def _name(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _white(x: Tensor, data_range: Any) -> float:
    if data_range is None:
        if x.dtype in _IMPLIED_RANGE:
            return _IMPLIED_RANGE[x.dtype]
        raise ValueError(
            f"data_range: not given, and dtype {_name(x)} does not imply it; "
            "say which value is white (black is 0), such as data_range=1.0"
        )
    if isinstance(data_range, bool) or not isinstance(data_range, int | float | np.number):
        raise TypeError(f"data_range: got {type(data_range).__name__}; expected a number, the value of white")
    white = float(data_range)
    if not 0 < white < float("inf"):
        raise ValueError(f"data_range: got {data_range!r}; expected a positive number, the value of white (black is 0)")
    return white


def _scaled(x: Tensor, name: str, white: float) -> Tensor:
    x = x.to(torch.float64)
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"{name}: contains NaN or inf; replace them first, for example with numpy.nan_to_num")
    # times 255 first: 8 bits widened to 16 come back as exactly the same integers
    return (x * 255 / white).reshape(-1, *x.shape[-2:]).contiguous()
