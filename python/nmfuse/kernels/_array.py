"""What the front doors need to know of an array, whichever library made it: one class for each library.

`take` asks an array once what it is. NumPy, torch and CuPy arrays come back as the same kind, and so does any other
DLPack producer on the CPU whose `__array_namespace__` says how (JAX); one that does not say it comes back as NumPy.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from functools import cache
from itertools import pairwise
from typing import Any, Self

import numpy as np

Array = Any  # a NumPy array, a torch tensor, a CuPy array, or anything with __dlpack__ and __dlpack_device__

CPU = 1  # DLPack's device types
CUDA = 2


@cache
def _name_of(dtype: Any) -> str:
    """NumPy's name of a dtype of any library; writing it costs as much as a small filter."""
    return str(dtype).removeprefix("torch.")


class AnyArray(ABC):
    """An array, what it is, and what a door does with it in its own library.

    Attributes
    ----------
    data : array
        The array itself.
    dtype : str
        NumPy's name of the dtype, for any library.
    shape : tuple of int
    device : (int, int)
        DLPack's device type and number.
    namespace : module, optional
        The library that results are to be given back in, where it is another than that of `data`.
    """

    namespace: Any | None = None

    def __init__(self, data: Array) -> None:
        self.data, self.dtype, self.shape = data, _name_of(data.dtype), tuple(data.shape)
        kind, number = data.__dlpack_device__()
        self.device = int(kind), int(number)

    # What differs between the libraries.

    @abstractmethod
    def address(self) -> int:
        """Return where the first element lies."""

    @abstractmethod
    def strides(self) -> tuple[int, ...]:
        """Return the elements between neighbours along each axis."""

    def is_aligned(self) -> bool:
        """Whether the first element lies at a multiple of its size."""
        return bool(self.address() % self.data.itemsize == 0)

    @abstractmethod
    def is_contiguous(self) -> bool:
        """Whether the elements lie in C order without gaps."""

    @abstractmethod
    def copy(self) -> Self:
        """Return a contiguous copy."""

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: str | None = None) -> Self:
        """Return an uninitialised array of the same library and device."""

    @abstractmethod
    def from_numpy(self, values: np.ndarray) -> Self:
        """Return a copy of `values` of the same library and device."""

    @abstractmethod
    def to_host(self) -> np.ndarray:
        """Return a NumPy copy or view; waits for all that the device still has to do."""

    @abstractmethod
    def stream(self) -> int:
        """Return the handle of the caller's current stream on the device."""

    @abstractmethod
    def raise_to(self, least: float) -> None:
        """Raise what is less than `least` to it, in place, without waiting for a device."""

    @abstractmethod
    def put(self, flags: AnyArray, value: int) -> None:
        """Set to `value` where `flags` is True, in place, without waiting for a device."""

    def at_most(self, value: float) -> Array:
        """Return where the values are at most `value`, as a bool array."""
        return self.data <= value

    def range(self) -> tuple[float, float]:
        """Return the least and the largest value; waits for the device."""
        return float(self.data.min()), float(self.data.max())

    def means(self) -> np.ndarray:
        """Return the mean over the last two axes, in float64 on the host."""
        return type(self)._own(self.data.mean(axis=(-2, -1), dtype=np.float64)).to_host()

    def bytes(self) -> Self:
        """Return bool elements as what they are in memory, 0 and 1 of uint8."""
        return self._own(self.data.view("uint8"))

    def is_writable(self) -> bool:
        """Whether the elements may be changed."""
        return True

    def given_back(self, result: AnyArray, out: Array | None) -> Array:
        """Return a result in the library that this array came from, or the caller's `out`, into which it went."""
        if out is not None:
            return out
        return result.data if self.namespace is None else self.namespace.from_dlpack(result.data)

    def note_write(self) -> None:  # noqa: B027  # most libraries keep no account
        """Tell the array's library that the elements are about to be changed."""

    @classmethod
    @abstractmethod
    def _own(cls, data: Array) -> Self:
        """Hold an array of this library."""

    # What follows for all of them.

    @property
    def planes(self) -> int:
        """How many planes the leading axes hold."""
        return math.prod(self.shape[:-2])

    def require(self, name: str, dtypes: tuple[str, ...], ndim: int = 2) -> None:
        """Refuse another dtype, or fewer axes."""
        if self.dtype not in dtypes:
            raise TypeError(f"{name}: dtype {self.dtype} is not supported; convert it to {' or '.join(dtypes)}")
        if len(self.shape) < ndim:
            raise ValueError(f"{name}: shape {self.shape} has {len(self.shape)} axes; expected at least {ndim}")

    def require_place(self, name: str, like: AnyArray) -> None:
        """Refuse an array that is not on the device of `like`: nothing moves by itself."""
        if self.device != like.device:
            raise ValueError(f"{name}: is on device {self.device}, expected {like.device} as the other arguments")

    def plain(self) -> Self:
        """Return the array where the kernels can read it in place, else a contiguous copy.

        In place: a contiguous last axis, evenly spaced leading axes and rows, no negative strides, aligned elements.
        """
        if self.is_plain():
            return self
        own = self.copy()
        own.namespace = self.namespace
        return own

    def is_plain(self) -> bool:
        """Whether the kernels can read the array in place (see `plain`)."""
        if not self.is_aligned():
            return False
        if self.is_contiguous():
            return True
        axes = [(size, stride) for size, stride in zip(self.shape, self.strides(), strict=True) if size != 1]
        if any(stride < 0 for _, stride in axes) or (self.shape[-1] != 1 and axes[-1][1] != 1):
            return False
        spaces = zip(self.shape[:-2], self.strides()[:-2], strict=True)
        leading = [(size, stride) for size, stride in spaces if size != 1]
        return all(outer[1] == inner[1] * inner[0] for outer, inner in pairwise(leading))

    def overlaps(self, other: AnyArray) -> bool:
        """Whether the memory that this array spans meets the memory that `other` spans."""
        if 0 in self.shape or 0 in other.shape:
            return False
        (low, high), (other_low, other_high) = self._span(), other._span()
        return low < other_high and other_low < high

    def _span(self) -> tuple[int, int]:
        start, itemsize = self.address(), self.data.itemsize
        if self.is_contiguous():
            return start, start + itemsize * math.prod(self.shape)
        reach = [(size - 1) * stride for size, stride in zip(self.shape, self.strides(), strict=True)]
        low = start + itemsize * sum(step for step in reach if step < 0)
        return low, start + itemsize * (1 + sum(step for step in reach if step > 0))

    def result(
        self, out: Array | None, shape: tuple[int, ...], dtype: str | None = None, apart_from: str = "x"
    ) -> AnyArray:
        """Return the array to write into, beside this one: the caller's `out`, checked, or a new one.

        `apart_from` is what messages call this array, which `out` may not overlap.
        """
        dtype = dtype or self.dtype
        if out is None:
            return self.empty(shape, dtype)
        target = take(out, "out")
        target.require("out", (dtype,))
        target.require_place("out", self)
        if target.shape != shape:
            raise ValueError(f"out: shape {target.shape}; expected {shape}")
        if not target.is_writable():
            raise ValueError("out: the array is read-only; pass a writable one")
        if not target.is_plain():
            raise ValueError(
                "out: the last axis must be contiguous, the leading axes evenly spaced, the elements aligned"
            )
        if target.overlaps(self):
            raise ValueError(f"out: overlaps {apart_from}; pass another array")
        target.note_write()
        return target


class NumpyArray(AnyArray):
    """An array of NumPy."""

    device = CPU, 0

    def __init__(self, data: np.ndarray, name: str) -> None:
        if type(data) is not np.ndarray and isinstance(data, np.ma.MaskedArray):
            raise TypeError(f"{name}: got a masked array, whose mask would be lost; pass {name}.filled(0) and the mask")
        if not data.dtype.isnative:
            raise TypeError(f"{name}: byte order is not native; pass {name}.astype({name}.dtype.newbyteorder('='))")
        self.data, self.dtype, self.shape = data, _name_of(data.dtype), data.shape

    @classmethod
    def _own(cls, data: Array) -> Self:
        return cls(np.asarray(data), "")

    def address(self) -> int:
        return int(self.data.__array_interface__["data"][0])

    def strides(self) -> tuple[int, ...]:
        return tuple(stride // self.data.itemsize for stride in self.data.strides)

    def is_aligned(self) -> bool:
        return bool(self.data.flags.aligned)  # sooner known than the address

    def is_contiguous(self) -> bool:
        return bool(self.data.flags.c_contiguous)

    def is_writable(self) -> bool:
        return bool(self.data.flags.writeable)

    def copy(self) -> Self:
        return self._own(self.data.copy(order="C"))

    def empty(self, shape: tuple[int, ...], dtype: str | None = None) -> Self:
        return type(self)(np.empty(shape, dtype or self.dtype), "")

    def from_numpy(self, values: np.ndarray) -> Self:
        return self._own(values.copy())

    def to_host(self) -> np.ndarray:
        return np.asarray(self.data)

    def stream(self) -> int:
        raise TypeError("a NumPy array is on no CUDA device, and has no stream")

    def raise_to(self, least: float) -> None:
        np.maximum(self.data, self.data.dtype.type(least), out=self.data)

    def put(self, flags: AnyArray, value: int) -> None:
        np.putmask(self.data, flags.data, value)

    def range(self) -> tuple[float, float]:
        return float(np.minimum.reduce(self.data, axis=None)), float(np.maximum.reduce(self.data, axis=None))


def namespace_of(x: Array) -> Any | None:
    """Return the functions of the library of an array, by the array API standard; None where it does not say."""
    return x.__array_namespace__() if hasattr(x, "__array_namespace__") else None


class TorchArray(AnyArray):
    """A torch tensor, on any device."""

    def __init__(self, data: Array, name: str) -> None:
        if data.requires_grad:
            if self.torch.is_grad_enabled():
                raise TypeError(f"{name}: the tensor requires grad, which is not recorded here; pass {name}.detach()")
            data = data.detach()
        if data.is_sparse:
            raise TypeError(f"{name}: the tensor is sparse; pass {name}.to_dense()")
        if data.is_conj():
            raise TypeError(f"{name}: the tensor has its conjugate bit set; pass {name}.resolve_conj()")
        if data.is_neg():
            raise TypeError(f"{name}: the tensor has its negative bit set; pass {name}.resolve_neg()")
        super().__init__(data)

    @classmethod
    def _own(cls, data: Array) -> Self:
        return cls(data, "")

    @property
    def torch(self) -> Any:
        """The library, which is there: the tensor came from it."""
        return sys.modules["torch"]

    def address(self) -> int:
        return int(self.data.data_ptr())

    def strides(self) -> tuple[int, ...]:
        return tuple(self.data.stride())

    def is_contiguous(self) -> bool:
        return bool(self.data.is_contiguous())

    def copy(self) -> Self:
        return self._own(self.data.clone(memory_format=self.torch.contiguous_format))

    def empty(self, shape: tuple[int, ...], dtype: str | None = None) -> Self:
        wanted = getattr(self.torch, dtype or self.dtype)
        return self._own(self.torch.empty(shape, dtype=wanted, device=self.data.device))

    def from_numpy(self, values: np.ndarray) -> Self:
        return self._own(self.torch.from_numpy(values.copy()).to(self.data.device))

    def to_host(self) -> np.ndarray:
        if self.data.is_cuda:
            self.torch.cuda.synchronize(self.data.device)
        host: np.ndarray = self.data.cpu().numpy()
        return host

    def stream(self) -> int:
        return int(self.torch.cuda.current_stream(self.data.device).cuda_stream)

    def note_write(self) -> None:
        self.torch.autograd.graph.increment_version(self.data)  # what autograd has saved of it is not there any more

    def raise_to(self, least: float) -> None:
        self.data.clamp_(min=least)

    def put(self, flags: AnyArray, value: int) -> None:
        self.data.masked_fill_(flags.data, value)

    def at_most(self, value: float) -> Array:
        data = self.data.to(self.torch.int32) if self.dtype == "uint16" else self.data  # torch compares no uint16
        return data <= value

    def bytes(self) -> Self:
        return self._own(self.data.view(self.torch.uint8))

    def range(self) -> tuple[float, float]:
        if self.dtype.startswith("uint"):  # torch has no least uint16
            return NumpyArray._own(self.to_host()).range()
        return super().range()

    def means(self) -> np.ndarray:
        if self.dtype.startswith("uint"):
            return NumpyArray._own(self.to_host()).means()
        return self._own(self.data.mean(dim=(-2, -1), dtype=self.torch.float64)).to_host()


class CupyArray(AnyArray):
    """An array of CuPy."""

    @classmethod
    def _own(cls, data: Array) -> Self:
        return cls(data)

    @property
    def cupy(self) -> Any:
        """The library, which is there: the array came from it."""
        return sys.modules["cupy"]

    def address(self) -> int:
        return int(self.data.data.ptr)

    def strides(self) -> tuple[int, ...]:
        return tuple(stride // self.data.itemsize for stride in self.data.strides)

    def is_contiguous(self) -> bool:
        return bool(self.data.flags.c_contiguous)

    def copy(self) -> Self:
        return self._own(self.data.copy(order="C"))

    def empty(self, shape: tuple[int, ...], dtype: str | None = None) -> Self:
        with self.cupy.cuda.Device(self.data.device.id):
            return self._own(self.cupy.empty(shape, dtype=dtype or self.dtype))

    def from_numpy(self, values: np.ndarray) -> Self:
        with self.cupy.cuda.Device(self.data.device.id):
            return self._own(self.cupy.asarray(values))

    def to_host(self) -> np.ndarray:
        self.data.device.synchronize()
        return np.asarray(self.data.get())

    def stream(self) -> int:
        with self.cupy.cuda.Device(self.data.device.id):
            return int(self.cupy.cuda.get_current_stream().ptr)

    def raise_to(self, least: float) -> None:
        self.data.clip(least, None, out=self.data)

    def put(self, flags: AnyArray, value: int) -> None:
        self.cupy.putmask(self.data, flags.data, value)


def take(x: Array, name: str) -> AnyArray:
    """Hold an array as what it is; refuse what the kernels cannot read as it is."""
    if isinstance(x, np.ndarray):
        return NumpyArray(x, name)
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")  # what made x is there; nothing is imported for it
    if torch is not None and isinstance(x, torch.Tensor):
        return TorchArray(x, name)
    if cupy is not None and isinstance(x, cupy.ndarray):
        return CupyArray(x)
    if not hasattr(x, "__dlpack__") or not hasattr(x, "__dlpack_device__"):
        raise TypeError(
            f"{name}: expected an array (NumPy, torch, CuPy or other DLPack), got {type(x).__name__}; "
            f"pass numpy.asarray({name})"
        )
    if x.__dlpack_device__()[0] != CPU:
        raise TypeError(f"{name}: {type(x).__name__} on a device; pass cupy.from_dlpack({name})")
    try:
        held = NumpyArray(np.from_dlpack(x), name)
    except (BufferError, RuntimeError) as error:
        raise TypeError(f"{name}: {type(x).__name__} gives no DLPack array that can be read ({error})") from error
    held.namespace = namespace_of(x)
    return held
