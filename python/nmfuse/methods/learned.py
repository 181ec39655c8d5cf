"""The learned method: features, two stages of NMF and pyramid gates, trained together (`nmfuse.nets.FusionNet`)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nmfuse import nets
from nmfuse.images.part import Look, Part
from nmfuse.images.scratch import Scratch
from nmfuse.kernels import hannmean
from nmfuse.methods.base import Trace, check_choice
from nmfuse.methods.finish import Finished, range_of
from nmfuse.nets.fusion_net import MARGIN, Known

_FILTERED = 64  # pixels around a part, of which filters of up to 63 pixels make what lies within; a multiple of 32


@dataclass(frozen=True)
class Learned(Finished):
    """The learned method. Of a volume, slices are fused by the network, which combines what it finds over all slices.

    Parameters
    ----------
    hannmean_size, sharpen, smooth
        See `nmfuse.methods.finish.Finished`.
    weights : str or path
        The weights of the network: "default", trained on free material only; "all", also trained on medical and
        infrared pairs without a licence; or a file that ``nmfuse train fusion`` wrote.
    denoise : {"off", "all"}
        "all" applies the Hannmean filter to the sources first.
    rounding : {"informed", "nearest"}
        How 8-bit results are rounded. "informed" first chooses, of the two grey levels that are nearest to the fused
        luminance, the one that preserves more information about the sources (`nmfuse.images.rounding.round_informed`);
        "nearest" only rounds each channel of the result, as all other methods do.

    Notes
    -----
    The steps of `nmfuse.Fuser.explain`, whose first axis is that of the sources, are ``denoised`` (with
    ``denoise="all"``), ``parts`` (how strongly each source shows each part that the NMF found, at half resolution),
    ``context`` (how much of the parts belongs to a source rather than to the others) and ``gates`` (for each level of
    the pyramid, the finest first). A further step, for all sources together, is ``collapsed``.
    """

    weights: str | Path = "default"
    denoise: str = "off"
    rounding: str = "informed"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.weights, (str, Path)):
            raise TypeError(f"weights: got {type(self.weights).__name__}; expected a name or a path")
        check_choice("denoise", self.denoise, ("off", "all"))
        check_choice("rounding", self.rounding, ("informed", "nearest"))

    def fuse(self, sources: Sequence[Tensor], trace: Trace, scratch: Scratch) -> Tensor:
        """Fuse two or more luminances (H, W) or (D, H, W)."""
        spatial = sources[0].dim()
        if self.denoise == "all":
            with trace.clock("hannmean"):
                sources = [hannmean(x, self.hannmean_size, spatial=spatial) for x in sources]
                if trace.wanted:
                    trace.keep_each(denoised=torch.stack(list(sources)))
        with trace.clock("network"):
            net = nets.load_fusion(self.weights, sources[0].device)
            record: dict[str, Any] | None = {} if trace.wanted else None
            images = [x.reshape(-1, 1, *x.shape[-2:]) for x in sources]  # slices of a volume count as images
            fused, context = net.explain(images, trace.clock, record=record, volume=spatial == 3, scratch=scratch)
            y = fused.reshape(sources[0].shape)
        if record is None:
            del context, fused
        else:
            leading = 1 if spatial == 2 else 2  # axes of sources (and slices) before the channels

            def shaped(x: Tensor) -> Tensor:
                return x[:, 0, 0] if leading == 1 else x[:, :, 0]

            if "parts" in record:
                parts = record["parts"]
                trace.keep_each(parts=parts[:, 0] if leading == 1 else parts.transpose(1, 2))
            trace.keep_each(context=shaped(context), gates=[shaped(level) for level in record["gates"]])
        return self.finish(y, sources, trace, scratch)

    @property
    def margin(self) -> int:
        """That of the network, and of the filters before and after it."""
        return MARGIN + _FILTERED * (self.smooth or self.sharpen > 0) + _FILTERED * (self.denoise == "all")

    def survey(self, look: Look, shape: tuple[int, int]) -> dict[str, Tensor]:
        """Return what the network knows of whole images, and the range of all of them."""
        ends: list[Tensor] = []

        def parts(margin: int) -> Iterator[Part]:
            for part in look(margin + _FILTERED * (self.denoise == "all")):
                quiet = self._quiet(part)
                ends[:] = range_of([*quiet.planes, *ends])
                yield quiet

        known = nets.load_fusion(self.weights).survey(parts, shape)
        found = {"scene": known.scene, "parts": known.parts, "level": known.level, "low": ends[0], "high": ends[1]}
        return {name: value for name, value in found.items() if value is not None}

    def fuse_part(self, part: Part, known: dict[str, Tensor]) -> Tensor:
        """Fuse a part as `fuse` does the whole; to rounding."""
        part = self._quiet(part)
        around = _FILTERED * (self.smooth or self.sharpen > 0)
        low, high = ([span.start for span in part.inner], [span.stop for span in part.inner])
        wide = [
            slice(max(0, start - around), min(stop + around, n))
            for start, stop, n in zip(low, high, part.planes[0].shape, strict=True)
        ]
        fused, _ = nets.load_fusion(self.weights).explain(
            [x[None, None] for x in part.planes],
            known=Known(known["scene"], known.get("parts"), known.get("level")),
            inner=(wide[0], wide[1]),
        )
        y = fused[0, 0, wide[0], wide[1]]
        y = self.finish(y, part.planes, Trace(), Scratch(), (known["low"], known["high"]))
        rows, columns = (
            slice(inner.start - span.start, inner.stop - span.start)
            for inner, span in zip(part.inner, wide, strict=True)
        )
        return y[rows, columns]

    def _quiet(self, part: Part) -> Part:
        """Return a part whose sources have passed the Hannmean filter, if that is asked for."""
        if self.denoise == "off":
            return part
        return replace(part, planes=[hannmean(x, self.hannmean_size, spatial=2) for x in part.planes])

    def fuse_batch(self, sources: Tensor) -> Tensor:
        """Return the fused luminances (N, H, W) of (S, N, H, W), in one pass of the network."""
        net = nets.load_fusion(self.weights, sources.device)
        if self.denoise == "all":
            sources = hannmean(sources, self.hannmean_size)
        fused = net(sources[:, :, None])[:, 0]
        return torch.stack(
            [self.finish(y, list(x), Trace(), Scratch()) for y, x in zip(fused, sources.unbind(1), strict=True)]
        )

    def module(self, sources: int) -> LearnedModule:
        """Return what fuses so many luminances (N, 1, H, W) as a module of torch."""
        return LearnedModule(self, sources)


class LearnedModule(nn.Module):
    """The learned method as a module: S luminances (N, 1, H, W) in, one out; see `nmfuse.Fuser.module`."""

    def __init__(self, options: Learned, sources: int) -> None:
        super().__init__()
        self.options, self.sources = options, sources
        self.net = copy.deepcopy(nets.load_fusion(options.weights))

    def forward(self, *sources: Tensor) -> Tensor:
        """Return the fused luminances (N, 1, H, W)."""
        if len(sources) != self.sources:
            raise ValueError(f"sources: got {len(sources)}; this module fuses {self.sources}")
        x = torch.stack(sources)
        brightest = x.mean((2, 3, 4), dtype=torch.float64).argsort(0, descending=True)  # the order that `fuse` has
        x = x.gather(0, brightest[..., None, None, None].expand_as(x))
        if self.options.denoise == "all":
            x = hannmean(x, self.options.hannmean_size)
        y: Tensor = self.net(x)
        low, high = x.amin((0, 2, 3, 4), keepdim=True)[0], x.amax((0, 2, 3, 4), keepdim=True)[0]
        return self.options.refined(y.clamp(low, high), low, high, 2)
