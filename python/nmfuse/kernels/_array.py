"""What the front doors need to know of an array, whichever library made it.

NumPy, torch and CuPy arrays come back as the same kind; any other DLPack producer on the CPU comes back as NumPy.
"""

from __future__ import annotations

import math
import sys
from itertools import pairwise
from typing import Any

import numpy as np

Array = Any  # a NumPy array, a torch tensor, a CuPy array, or anything with __dlpack__ and __dlpack_device__

CPU = 1  # DLPack's device types
CUDA = 2

FLOATS = ("float32", "float64")


def take(x: Array, name: str, *, dtypes: tuple[str, ...], ndim: int = 2) -> Array:
    """Check that `x` is an array this boundary takes as it is: library, dtype, number of axes."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name}: got a masked array, whose mask would be lost; pass {name}.filled(0) and the mask")
    if not hasattr(x, "__dlpack__") or not hasattr(x, "__dlpack_device__"):
        raise TypeError(
            f"{name}: expected an array (NumPy, torch, CuPy or other DLPack), got {type(x).__name__}; "
            f"pass numpy.asarray({name})"
        )
    if is_torch(x):
        _refuse_lazy_tensor(x, name)
    elif not isinstance(x, np.ndarray) and not is_cupy(x):
        if x.__dlpack_device__()[0] != CPU:
            raise TypeError(f"{name}: {type(x).__name__} on a device; pass cupy.from_dlpack({name})")
        x = np.from_dlpack(x)
    if not getattr(x.dtype, "isnative", True):
        raise TypeError(f"{name}: byte order is not native; pass {name}.astype({name}.dtype.newbyteorder('='))")
    if dtype_of(x) not in dtypes:
        raise TypeError(f"{name}: dtype {dtype_of(x)} is not supported; convert it to {' or '.join(dtypes)}")
    if x.ndim < ndim:
        raise ValueError(f"{name}: shape {tuple(x.shape)} has {x.ndim} axes; expected at least {ndim}")
    return x


def _refuse_lazy_tensor(x: Array, name: str) -> None:
    if x.requires_grad:
        raise TypeError(f"{name}: the tensor requires grad, which the kernels do not record; pass {name}.detach()")
    if x.is_sparse:
        raise TypeError(f"{name}: the tensor is sparse; pass {name}.to_dense()")
    if x.is_conj():
        raise TypeError(f"{name}: the tensor has its conjugate bit set; pass {name}.resolve_conj()")
    if x.is_neg():
        raise TypeError(f"{name}: the tensor has its negative bit set; pass {name}.resolve_neg()")


def is_torch(x: Array) -> bool:
    """Whether `x` is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def is_cupy(x: Array) -> bool:
    """Whether `x` is a CuPy array, without importing CuPy."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(x, cupy.ndarray)


def dtype_of(x: Array) -> str:
    """NumPy's name of the dtype, for any library."""
    return str(x.dtype).removeprefix("torch.")


def device_of(x: Array) -> tuple[int, int]:
    """DLPack's device type and number."""
    kind, number = x.__dlpack_device__()
    return int(kind), int(number)


def empty(like: Array, shape: tuple[int, ...], dtype: str | None = None) -> Array:
    """Return an uninitialised array of the library and on the device of `like`."""
    dtype = dtype or dtype_of(like)
    if is_torch(like):
        torch = sys.modules["torch"]
        return torch.empty(shape, dtype=torch_dtype(dtype), device=like.device)
    if is_cupy(like):
        cupy = sys.modules["cupy"]
        with cupy.cuda.Device(like.device.id):
            return cupy.empty(shape, dtype=dtype)
    return np.empty(shape, dtype=dtype)


def from_numpy(like: Array, values: np.ndarray) -> Array:
    """Return a copy of `values` of the library and on the device of `like`."""
    if is_torch(like):
        torch = sys.modules["torch"]
        return torch.from_numpy(values.copy()).to(like.device)
    if is_cupy(like):
        cupy = sys.modules["cupy"]
        with cupy.cuda.Device(like.device.id):
            return cupy.asarray(values)
    return values.copy()


def result(out: Array | None, like: Array, shape: tuple[int, ...], dtype: str | None = None) -> Array:
    """Return the array to write into: the caller's `out`, checked, or a new one."""
    dtype = dtype or dtype_of(like)
    if out is None:
        return empty(like, shape, dtype)
    same_place(take(out, "out", dtypes=(dtype,)), like, "out")
    if tuple(out.shape) != tuple(shape):
        raise ValueError(f"out: shape {tuple(out.shape)}; expected {tuple(shape)}")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out: the array is read-only; pass a writable one")
    if not is_plain(out):
        raise ValueError("out: the last axis must be contiguous, the leading axes evenly spaced, the elements aligned")
    return out


def same_place(x: Array, like: Array, name: str) -> None:
    """Refuse `x` where it is not on the device of `like`: nothing moves by itself."""
    if device_of(x) != device_of(like):
        raise ValueError(f"{name}: is on device {device_of(x)}, expected {device_of(like)} as the other arguments")


def plain(x: Array) -> Array:
    """Return `x` where the kernels can read it in place, else a contiguous copy.

    In place: a contiguous last axis, evenly spaced leading axes and rows, no negative strides, aligned elements.
    """
    if is_plain(x):
        return x
    if is_torch(x):
        return x.clone(memory_format=sys.modules["torch"].contiguous_format)
    return x.copy(order="C")


def is_plain(x: Array) -> bool:
    """Whether the kernels can read `x` in place (see `plain`)."""
    if _address(x) % x.itemsize != 0:
        return False
    if _is_contiguous(x):
        return True
    strides = _strides(x)
    axes = [(size, stride) for size, stride in zip(x.shape, strides, strict=True) if size != 1]
    if any(stride < 0 for _, stride in axes) or (x.shape[-1] != 1 and strides[-1] != 1):
        return False
    leading = [(size, stride) for size, stride in zip(x.shape[:-2], strides[:-2], strict=True) if size != 1]
    return all(outer[1] == inner[1] * inner[0] for outer, inner in pairwise(leading))


def _is_contiguous(x: Array) -> bool:
    return bool(x.is_contiguous() if is_torch(x) else x.flags.c_contiguous)


def _address(x: Array) -> int:
    if is_torch(x):
        return int(x.data_ptr())
    return int(x.data.ptr if is_cupy(x) else x.__array_interface__["data"][0])


def _strides(x: Array) -> tuple[int, ...]:
    """Elements between neighbours along each axis."""
    if is_torch(x):
        return tuple(x.stride())
    return tuple(stride // x.itemsize for stride in x.strides)


def overlap(x: Array, y: Array) -> bool:
    """Whether the memory that `x` spans meets the memory that `y` spans."""
    if 0 in x.shape or 0 in y.shape:
        return False
    (x_low, x_high), (y_low, y_high) = _span(x), _span(y)
    return x_low < y_high and y_low < x_high


def _span(x: Array) -> tuple[int, int]:
    start, itemsize = _address(x), x.itemsize
    if _is_contiguous(x):
        return start, start + itemsize * math.prod(x.shape)
    reach = [(size - 1) * stride for size, stride in zip(x.shape, _strides(x), strict=True)]
    low = start + itemsize * sum(step for step in reach if step < 0)
    return low, start + itemsize * (1 + sum(step for step in reach if step > 0))


def batch_of(shape: tuple[int, ...]) -> int:
    """How many planes the leading axes hold."""
    return math.prod(shape[:-2])


def to_numpy(x: Array) -> np.ndarray:
    """Return a CPU array as NumPy, without copying."""
    return x if isinstance(x, np.ndarray) else np.from_dlpack(x)


def to_host(x: Array) -> np.ndarray:
    """Return a NumPy copy or view of an array on any device; waits for all that the device still has to do."""
    if is_torch(x):
        if x.is_cuda:
            sys.modules["torch"].cuda.synchronize(x.device)
        host: np.ndarray = x.cpu().numpy()
        return host
    if is_cupy(x):
        x.device.synchronize()
        return np.asarray(x.get())
    return np.asarray(x)


def raise_to(x: Array, least: float) -> None:
    """Raise what is less than `least` to it, in place, without waiting for a device."""
    if is_torch(x):
        x.clamp_(min=least)
    else:
        x.clip(least, None, out=x)


def put(x: Array, flags: Array, value: int) -> None:
    """Set x to `value` where `flags` is True, in place, without waiting for a device."""
    if is_torch(x):
        x.masked_fill_(flags, value)
    elif is_cupy(x):
        sys.modules["cupy"].putmask(x, flags, value)
    else:
        np.putmask(x, flags, value)


def at_most(x: Array, value: float) -> Array:
    """Return where x is at most `value`, as a bool array."""
    if is_torch(x) and dtype_of(x) == "uint16":  # torch compares no uint16
        x = x.to(torch_dtype("int32"))
    return x <= value


def torch_dtype(name: str) -> Any:
    """Return torch's dtype by its name, where torch is there."""
    return getattr(sys.modules["torch"], name)
