"""What smoothing costs, beside a copy of the same bytes and the filters that users pick."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

import cases
import nmfuse
from measure import Calls
from nmfuse.kernels.reference import hann_window


def image(side: int, dtype: str, device: str) -> torch.Tensor:
    x = torch.rand(side, side, generator=torch.Generator().manual_seed(0))
    scale = {"float32": 1, "uint8": 255, "uint16": 65535}[dtype]
    return (x * scale).to(getattr(torch, dtype)).to(device)


def torch_conv2d(x: torch.Tensor, size: int) -> Callable[[], object]:
    taps = torch.tensor(hann_window(size), dtype=torch.float32, device=x.device)
    rows, columns, pad = taps.view(1, 1, -1, 1), taps.view(1, 1, 1, -1), size // 2

    def call() -> torch.Tensor:
        padded = functional.pad(x[None, None], (pad, pad, pad, pad), mode="reflect")
        return functional.conv2d(functional.conv2d(padded, rows), columns)

    return call


def filters_of_others(x: torch.Tensor, size: int) -> Calls:
    """The plain filter by SciPy, OpenCV or CuPy, where they are installed, on the same memory."""
    calls: Calls = {}
    taps = hann_window(size).astype(np.float32)
    if x.is_cuda:
        cupy = pytest.importorskip("cupy")
        from cupyx.scipy import ndimage as cupy_ndimage

        there, out = cupy.from_dlpack(x), cupy.empty(tuple(x.shape), str(x.dtype).removeprefix("torch."))
        weights = cupy.asarray(taps)

        def cupyx() -> object:
            return cupy_ndimage.convolve1d(cupy_ndimage.convolve1d(there, weights, 0), weights, 1, output=out)

        return {"cupyx.scipy.ndimage": cupyx}
    from scipy import ndimage

    if x.dtype == torch.float32 and x.shape[0] <= 1024:
        try:
            from kornia.filters import filter2d_separable

            row = torch.from_numpy(taps)[None]
            calls["kornia"] = lambda: filter2d_separable(x[None, None], row, row)
        except ImportError:
            pass
    here = x.numpy()
    calls["scipy.ndimage"] = lambda: ndimage.convolve1d(ndimage.convolve1d(here, taps, 0), taps, 1)
    try:
        import cv2
    except ImportError:
        return calls
    out = np.empty_like(here)
    calls["OpenCV sepFilter2D"] = lambda: cv2.sepFilter2D(here, -1, taps, taps, dst=out, borderType=cv2.BORDER_REFLECT)
    return calls


def copy_of(x: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Return a call that copies the bytes of `x`: torch is slower at copying uint16."""
    source, copy = x.view(torch.uint8), torch.empty_like(x).view(torch.uint8)
    return lambda: copy.copy_(source)


@pytest.mark.cases(cases.HANNMEAN)
def test_plain(case: tuple[int, str, int], device: str, compare: Callable[..., None]) -> None:
    side, dtype, size = case
    x = image(side, dtype, device)
    y = torch.empty_like(x)
    calls: Calls = {"nmfuse": lambda: nmfuse.hannmean(x, size, out=y), "copy": copy_of(x)}
    if side <= 4096 or device == "cuda":
        calls |= filters_of_others(x, size)
    if dtype == "float32":
        calls["torch conv2d"] = torch_conv2d(x, size)
    compare(f"hannmean {side}² {dtype}, size {size}", calls)


@pytest.mark.cases(cases.HANNMEAN_MASKED)
def test_masked(case: tuple[int, int], device: str, compare: Callable[..., None]) -> None:
    side, size = case
    x = image(side, "float32", device)
    mask = x > 0.3
    y = torch.empty_like(x)
    calls: Calls = {"nmfuse": lambda: nmfuse.hannmean(x, size, mask, out=y), "copy": copy_of(x)}
    if device == "cpu":
        try:
            import cv2

            here, weight, taps = x.numpy(), mask.numpy().astype(np.float32), hann_window(size).astype(np.float32)

            def opencv() -> np.ndarray:
                top = cv2.sepFilter2D(here * weight, -1, taps, taps, borderType=cv2.BORDER_REFLECT)
                below = cv2.sepFilter2D(weight, -1, taps, taps, borderType=cv2.BORDER_REFLECT)
                return np.where(below > 0, top / np.maximum(below, 1e-12), here)

            calls["OpenCV, two filters and a division"] = opencv
        except ImportError:
            pass
    top, below = torch_conv2d(x * mask, size), torch_conv2d(mask.float(), size)
    calls["torch conv2d, two and a division"] = lambda: top() / below().clamp_min(1e-12)
    compare(f"hannmean {side}² float32, masked, size {size}", calls)
