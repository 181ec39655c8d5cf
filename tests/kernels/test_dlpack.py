"""The array boundary: every rule of DLPack that the native modules keep, by a producer that breaks them one by one."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import numpy as np
import pytest
import torch

import nmfuse
from nmfuse import _cpu

_KIND = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class _Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Producer:
    """A DLPack producer whose every field can be set; counts how often it is asked and released."""

    def __init__(self, values: np.ndarray, *, versioned: bool = True, **fields: Any) -> None:
        self.values, self.versioned, self.fields = values, versioned, fields
        self.asked: list[dict[str, Any]] = []
        self.released = 0
        self._deleter = _DELETER(self._release)

    def _release(self, _: int) -> None:
        self.released += 1

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.fields.get("device_type", 1), 0

    def __dlpack__(self, **asked: Any) -> Any:
        self.asked.append(asked)
        if "max_version" in asked and not self.versioned:
            raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
        values = self.values
        shape = (ctypes.c_int64 * values.ndim)(*values.shape)
        strides = (ctypes.c_int64 * values.ndim)(*(s // values.itemsize for s in values.strides))
        tensor = _Tensor(
            data=values.ctypes.data,
            device_type=1,
            ndim=values.ndim,
            code=_KIND[values.dtype.kind],
            bits=8 * values.itemsize,
            lanes=1,
            shape=shape,
            strides=strides,
        )
        for name in ("data", "device_type", "lanes", "byte_offset", "code", "bits"):
            if name in self.fields:
                setattr(tensor, name, self.fields[name])
        if "strides" in self.fields:
            given = self.fields["strides"]
            tensor.strides = (ctypes.c_int64 * values.ndim)(*given) if given else None
        deleter = ctypes.cast(self._deleter, ctypes.c_void_p)
        if self.versioned:
            major = self.fields.get("major", 1)
            self._managed: Any = _Versioned(major, 0, None, deleter, self.fields.get("flags", 0), tensor)
            name = b"dltensor_versioned"
        else:
            self._managed = _Managed(tensor, None, deleter)
            name = b"dltensor"
        self._keep = (shape, strides)
        return _new_capsule(ctypes.addressof(self._managed), name, None)


@pytest.fixture
def values() -> np.ndarray:
    return np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize("versioned", [True, False])
def test_both_capsule_kinds_are_read_and_released_once(values: np.ndarray, versioned: bool) -> None:
    producer = Producer(values, versioned=versioned)
    seen = _cpu.describe(producer)
    assert seen["shape"] == (3, 4)
    assert seen["strides"] == (4, 1)
    assert seen["dtype"] == "float32"
    assert seen["pointer"] == values.ctypes.data
    gc.collect()
    assert producer.released == 1


def test_asks_for_version_1_then_bare_on_type_error(values: np.ndarray) -> None:
    new, old = Producer(values), Producer(values, versioned=False)
    _cpu.describe(new)
    _cpu.describe(old)
    assert new.asked == [{"stream": None, "max_version": (1, 0)}]
    assert old.asked == [{"stream": None, "max_version": (1, 0)}, {"stream": None}]


def test_other_errors_of_the_producer_are_not_swallowed(values: np.ndarray) -> None:
    class Broken(Producer):
        def __dlpack__(self, **asked: Any) -> Any:
            self.asked.append(asked)
            raise BufferError("no")

    broken = Broken(values)
    with pytest.raises(BufferError, match="no"):
        _cpu.describe(broken)
    assert len(broken.asked) == 1


def test_byte_offset_is_added(values: np.ndarray) -> None:
    seen = _cpu.describe(Producer(values, byte_offset=8))
    assert seen["pointer"] == values.ctypes.data + 8


def test_null_strides_mean_compact(values: np.ndarray) -> None:
    assert _cpu.describe(Producer(values, strides=()))["strides"] == (4, 1)


def test_strides_of_axes_of_size_1_are_ignored() -> None:
    x = np.arange(5, dtype=np.float32).reshape(1, 1, 5)
    out = np.empty_like(x)
    _cpu.hannmean(Producer(x, strides=(-99, 12345, 1)), None, 3, 1, out)
    np.testing.assert_array_equal(out, nmfuse.hannmean(x))


def test_zero_size_with_null_pointer_is_fine() -> None:
    x = np.empty((0, 4), np.float32)
    _cpu.hannmean(Producer(x, data=None), None, 3, 1, np.empty((0, 4), np.float32))


def test_read_only_input_is_read_and_read_only_output_refused(values: np.ndarray) -> None:
    frozen = values.copy()
    frozen.flags.writeable = False
    assert _cpu.describe(frozen)["read_only"]
    nmfuse.hannmean(frozen)
    with pytest.raises(ValueError, match="out: the array is read-only"):
        nmfuse.hannmean(values, out=frozen)
    with pytest.raises(ValueError, match="out: the array is read-only"):
        _cpu.hannmean(values, None, 3, 1, Producer(values.copy(), flags=1))


def test_unaligned_output_is_refused(values: np.ndarray) -> None:
    out = LAYOUTS["unaligned"](values)
    with pytest.raises(ValueError, match=r"out: the last axis must be contiguous, .*, the elements aligned"):
        nmfuse.hannmean(values, out=out)
    with pytest.raises(ValueError, match="out: the elements are not aligned in memory; pass a copy"):
        _cpu.hannmean(values, None, 3, 1, out)


def test_unknown_major_version_is_refused(values: np.ndarray) -> None:
    with pytest.raises(TypeError, match="DLPack version 2 is not supported"):
        _cpu.describe(Producer(values, major=2))


def test_arrays_of_another_device_are_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="device type 8"):
        _cpu.hannmean(Producer(values, device_type=8), None, 3, 1, values.copy())
    with pytest.raises(TypeError, match="on a device"):
        nmfuse.hannmean(Producer(values, device_type=8))


@pytest.mark.parametrize(("code", "bits", "name"), [(4, 16, "bfloat16"), (2, 16, "float16"), (5, 64, "complex64")])
def test_dtypes_that_are_not_supported_are_named(values: np.ndarray, code: int, bits: int, name: str) -> None:
    with pytest.raises(TypeError, match=name):
        _cpu.hannmean(Producer(values, code=code, bits=bits), None, 3, 1, values.copy())


def test_objects_without_dlpack_are_refused() -> None:
    with pytest.raises(TypeError, match=r"x: expected an array .* got list"):
        nmfuse.hannmean([[1.0]])
    with pytest.raises(TypeError, match="x: expected an array with __dlpack__"):
        _cpu.describe([1.0])


def test_lazy_torch_tensors_are_refused_by_name() -> None:
    x = torch.rand(4, 4)
    with pytest.raises(TypeError, match=r"requires grad.*x\.detach"):
        nmfuse.detect_background(x.clone().requires_grad_())
    negative = torch.zeros(4, 4, dtype=torch.complex64).conj().imag
    assert negative.is_neg()
    with pytest.raises(TypeError, match=r"negative bit.*resolve_neg"):
        nmfuse.hannmean(negative)
    with pytest.raises(TypeError, match="conjugate bit"):
        nmfuse.hannmean(torch.zeros(4, 4, dtype=torch.complex64).conj())
    with pytest.raises(TypeError, match="sparse"):
        nmfuse.hannmean(x.to_sparse())
    with pytest.raises(TypeError, match="bfloat16"):
        nmfuse.hannmean(x.to(torch.bfloat16))


def test_masked_arrays_and_foreign_byte_order_are_refused() -> None:
    with pytest.raises(TypeError, match=r"masked array.*filled"):
        nmfuse.hannmean(np.ma.masked_less(np.eye(4), 0.5))
    with pytest.raises(TypeError, match="byte order"):
        nmfuse.hannmean(np.eye(4).astype(">f8"))


def test_torch_in_torch_out_without_a_copy_of_the_result() -> None:
    x = torch.rand(2, 5, 7, dtype=torch.float64)
    out = torch.empty_like(x)
    result = nmfuse.hannmean(x, out=out)
    assert result is out
    np.testing.assert_array_equal(out.numpy(), nmfuse.hannmean(x.numpy()))


def test_other_producers_come_back_as_numpy(values: np.ndarray) -> None:
    class Other:
        def __dlpack__(self, **asked: Any) -> Any:
            return values.__dlpack__(**asked)

        def __dlpack_device__(self) -> tuple[int, int]:
            return values.__dlpack_device__()

    result = nmfuse.hannmean(Other())
    assert isinstance(result, np.ndarray)
    np.testing.assert_array_equal(result, nmfuse.hannmean(values))


LAYOUTS = {
    "rows": lambda x: np.repeat(x, 2, axis=-2)[..., ::2, :],
    "padded": lambda x: np.concatenate([x, x], axis=-1)[..., : x.shape[-1]],
    "columns": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "transposed": lambda x: np.ascontiguousarray(np.swapaxes(x, -1, -2)).swapaxes(-1, -2),
    "flipped": lambda x: np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1],
    "batch": lambda x: np.repeat(x, 3, axis=0)[::3],
    "swapped batch": lambda x: np.ascontiguousarray(np.swapaxes(x, 0, 1)).swapaxes(0, 1),
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "unaligned": lambda x: np.ndarray(x.shape, x.dtype, bytearray(b"-" + x.tobytes()), offset=1),
}


IN_TORCH = [layout for layout in LAYOUTS if layout not in ("flipped", "broadcast")]  # no negative strides, no read-only


@pytest.mark.parametrize(
    ("library", "layout"), [("numpy", layout) for layout in LAYOUTS] + [("torch", layout) for layout in IN_TORCH]
)
def test_every_layout_gives_what_its_contiguous_copy_gives(layout: str, library: str) -> None:
    x = np.random.default_rng(0).random((2, 3, 5, 7))
    view = LAYOUTS[layout](x)
    expected = nmfuse.hannmean(view.copy())
    if library == "torch":
        view = torch.from_numpy(view)
    np.testing.assert_array_equal(np.asarray(nmfuse.hannmean(view)), expected)


def test_a_stream_is_read_while_the_interpreter_is_held() -> None:
    x, out = np.ones((4, 5)), np.zeros((4, 5))
    _cpu.hannmean(Producer(x), None, 3, 1, Producer(out), 1)
    np.testing.assert_array_equal(out, x)
