"""What aggregating overlapping blocks costs, beside a copy of the image and what users write."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

import cases
import nmfuse
from measure import Calls

BLOCK, STRIDE = 16, 2


def integral(scores: np.ndarray, side: int) -> Callable[[], np.ndarray]:
    """Sums and counts of the blocks over each cell by differences of running sums, each cell repeated."""
    window, cells = BLOCK // STRIDE, side // STRIDE
    last = np.minimum(np.arange(cells) + 1, len(scores))
    first = np.maximum(np.arange(cells) + 1 - window, 0)
    counts = np.outer(last - first, last - first)

    def call() -> np.ndarray:
        sums = np.pad(scores.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
        rows = sums[last] - sums[first]
        mean = ((rows[:, last] - rows[:, first]) / counts).astype(np.float32)
        return mean.repeat(STRIDE, 0).repeat(STRIDE, 1)

    return call


@pytest.mark.cases(cases.BLOCKS)
def test_aggregate(case: int, device: str, compare: Callable[..., None]) -> None:
    side, blocks = case, (case - BLOCK) // STRIDE + 1
    scores = torch.rand(blocks, blocks, device=device)
    out, copy = torch.empty(side, side, device=device), torch.empty(side, side, device=device)
    source = torch.rand(side, side, device=device)
    calls: Calls = {
        "nmfuse": lambda: nmfuse.aggregate_blocks(scores, BLOCK, STRIDE, (side, side), out=out),
        "copy": lambda: copy.copy_(source),
    }
    if side <= (4096 if device == "cuda" else 1024):  # fold needs 256 times the scores
        count = functional.fold(torch.ones(1, BLOCK**2, blocks**2, device=device), (side, side), BLOCK, stride=STRIDE)

        def fold() -> torch.Tensor:
            columns = scores.reshape(1, 1, -1).expand(1, BLOCK**2, -1)
            return functional.fold(columns, (side, side), BLOCK, stride=STRIDE) / count

        calls["torch fold"] = fold
    if device == "cpu":
        calls["integral image in NumPy"] = integral(scores.numpy(), side)
        try:
            import cv2
        except ImportError:
            cv2 = None
        if cv2 is not None:
            here, side_of_window = scores.numpy(), BLOCK // STRIDE

            def sums(x: np.ndarray) -> np.ndarray:  # in windows that end at each cell
                return cv2.boxFilter(
                    np.pad(x, ((0, side_of_window - 1),) * 2), -1, (side_of_window,) * 2,
                    anchor=(side_of_window - 1,) * 2, normalize=False, borderType=cv2.BORDER_CONSTANT,
                )  # fmt: skip

            counts = sums(np.ones_like(here))

            def opencv() -> np.ndarray:  # each cell's mean, repeated
                return cv2.resize(sums(here) / counts, (side, side), interpolation=cv2.INTER_NEAREST)

            np.testing.assert_allclose(opencv(), calls["nmfuse"]().numpy(), atol=1e-5)
            np.testing.assert_allclose(calls["integral image in NumPy"](), calls["nmfuse"]().numpy(), atol=1e-5)
            calls["OpenCV boxFilter and resize"] = opencv
    compare(f"aggregate_blocks to {side}² float32, block 16, stride 2", calls)
