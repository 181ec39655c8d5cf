"""Options that nmfuse's own methods share: the Hannmean filter's window, and what is done to the fused luminance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nmfuse.images.scratch import Scratch
from nmfuse.kernels import hannmean
from nmfuse.kernels.checks import check_count
from nmfuse.methods.base import Method, Trace, check_flag, check_number


@dataclass(frozen=True)
class Finished(Method):
    """A method whose result is kept within the sources' range, smoothed and sharpened as asked for.

    Parameters
    ----------
    hannmean_size : int
        n, the window of the Hannmean filter in pixels: odd, 3 to 63.
    sharpen : float
        Amount of unsharp masking of the fused luminance (0 none, 0.5 visible).
    smooth : bool
        Whether the fused luminance is passed through the Hannmean filter once more.
    """

    hannmean_size: int = 3
    sharpen: float = 0.0
    smooth: bool = False

    def __post_init__(self) -> None:
        check_count("hannmean_size", self.hannmean_size, 3)
        if self.hannmean_size % 2 == 0 or self.hannmean_size > 63:
            raise ValueError(f"hannmean_size: got {self.hannmean_size}; expected an odd int from 3 to 63")
        check_number("sharpen", self.sharpen)
        check_flag("smooth", self.smooth)
        if self.sharpen < 0:
            raise ValueError(f"sharpen: got {self.sharpen!r}; expected a non-negative amount, such as 0.5")

    def finish(
        self,
        y: Tensor,
        sources: Sequence[Tensor],
        trace: Trace,
        scratch: Scratch,
        ends: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Clip, smooth and sharpen the fused luminance; nothing leaves the sources' range, or that of `ends`."""
        with trace.clock("post-processing"):
            low, high = ends or range_of(sources, scratch.release)
            y = y.clamp(low, high) if y.requires_grad else y.clamp_(low, high)
            trace.keep(collapsed=y)
            return self.refined(y, low, high, y.dim())

    def refined(self, y: Tensor, low: Tensor, high: Tensor, spatial: int) -> Tensor:
        """Smooth and sharpen images or volumes ``(..., *spatial)``, which are kept within `low` and `high`."""
        if self.smooth:
            y = hannmean(y, self.hannmean_size, spatial=spatial)
        if self.sharpen > 0:
            y = y + self.sharpen * (y - hannmean(y, 5, spatial=spatial))
            y = y.clamp(low, high)
        return y


def range_of(sources: Sequence[Tensor], release: Callable[[], None] = lambda: None) -> tuple[Tensor, Tensor]:
    """Return the least and the greatest value of all sources."""
    ends = []
    for x in sources:
        ends.append((x.amin(), x.amax()))
        release()
    low, high = (torch.stack(values) for values in zip(*ends, strict=True))
    return low.amin(), high.amax()
