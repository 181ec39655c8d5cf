"""What a method of fusion is: a frozen dataclass of options that fuses S luminances into one."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nmfuse.images.part import Look, Part
from nmfuse.images.scratch import Scratch
from nmfuse.kernels.checks import is_number

Planes = NDArray[np.float64]  # (S, H, W), luminances of the sources, 0 to 1
Plane = NDArray[np.float64]  # (H, W)
Mask = NDArray[np.bool_]  # (H, W)


@dataclass
class Trace:
    """What a run leaves behind: the intermediates where they are asked for, and the time of each step.

    Attributes
    ----------
    wanted : bool
        Whether the intermediates are asked for.
    steps : dict
        The intermediates by name, in the order they were made.
    per_source : set of str
        The names of those with a source axis in front (of lists, in each element).
    seconds : dict
        Wall time by step; a step within another is not counted twice.
    """

    wanted: bool = False
    steps: dict[str, Any] = field(default_factory=dict)
    per_source: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)
    _inner: float = 0.0

    @contextmanager
    def clock(self, step: str) -> Iterator[None]:
        """Add the time of the block to the step."""
        outer, self._inner = self._inner, 0.0
        start = time.perf_counter()
        yield
        elapsed = time.perf_counter() - start
        self.seconds[step] = self.seconds.get(step, 0.0) + elapsed - self._inner
        self._inner = outer + elapsed

    def keep(self, **steps: Any) -> None:
        """Keep intermediates of all sources together."""
        if self.wanted:
            self.steps.update(steps)

    def keep_each(self, **steps: Any) -> None:
        """Keep intermediates with a source axis in front."""
        self.keep(**steps)
        self.per_source.update(steps)


@dataclass(frozen=True)
class Method(ABC):
    """A way to fuse; the fields of a subclass are its options, checked when it is made."""

    @abstractmethod
    def fuse(self, sources: Sequence[Tensor], trace: Trace, scratch: Scratch) -> Tensor:
        """Return the fused luminance of S luminances (H, W) or (D, H, W), S at least 2.

        `sources` are float32 in [0, 1], in an order that does not depend on the order in which they were given;
        `scratch` is where they lie. The result has the shape of one of them.
        """

    @property
    def margin(self) -> int | None:
        """How far (pixels) from a part of an image its fusion looks, a multiple of 32; None: at all of it.

        None says that images larger than memory cannot be fused by it (`nmfuse.scale.fuse_tiles`).
        """
        return None

    def survey(self, look: Look, shape: tuple[int, int]) -> dict[str, Tensor]:  # noqa: ARG002
        """Return what `fuse_part` has to know of whole images (H, W) that are larger than memory."""
        return {}

    def fuse_part(self, part: Part, known: dict[str, Tensor]) -> Tensor:  # noqa: ARG002
        """Return the fused luminance (h, w) of a part of images, of which `survey` found what is `known`."""
        return self.fuse(part.planes, Trace(), Scratch())[part.inner]


@dataclass(frozen=True)
class Rival(Method):
    """A method of the literature, in float64 on NumPy; a volume is fused plane by plane along its first axis."""

    @abstractmethod
    def fuse_planes(self, x: Planes) -> Plane:
        """Return the fused luminance (H, W) of (S, H, W), S at least 2; it need not lie within 0 to 1."""

    def fuse(self, sources: Sequence[Tensor], trace: Trace, scratch: Scratch) -> Tensor:
        """Fuse on the CPU, each plane by itself; the result lies within 0 to 1."""
        if torch.is_grad_enabled() and any(x.requires_grad for x in sources):
            raise TypeError(
                f"sources: require grad, which {type(self).__name__} does not record; pass x.detach(), or use "
                "method='learned' or 'paper'"
            )
        return self._by_planes(sources, [None] * len(sources), trace, scratch)

    def _by_planes(
        self, sources: Sequence[Tensor], valid: Sequence[Tensor | None], trace: Trace, scratch: Scratch
    ) -> Tensor:
        with trace.clock("fuse"):
            if sources[0].dim() == 2:
                fused = self._fused(sources, valid, scratch)
            else:
                fused = np.stack(
                    [
                        self._fused([x[z] for x in sources], [None if m is None else m[z] for m in valid], scratch)
                        for z in range(len(sources[0]))
                    ]
                )
            return torch.from_numpy(np.clip(fused, 0, 1)).to(sources[0])

    def _fused(self, planes: Sequence[Tensor], valid: Sequence[Tensor | None], scratch: Scratch) -> Plane:  # noqa: ARG002
        return self.fuse_planes(torch.stack(list(planes)).detach().cpu().double().numpy())


@dataclass(frozen=True)
class Streamed(Rival):
    """A method of the literature that looks at one source after the other, in float32: their number costs no memory."""

    @abstractmethod
    def fuse_stream(self, planes: Iterable[tuple[Plane, Mask | None]]) -> Plane:
        """Return the fused luminance (H, W) of two or more (H, W), each looked at once.

        With each comes where it is valid, None: everywhere. Elsewhere it holds something plausible that does not count,
        but for pixels where none is valid.
        """

    def fuse_planes(self, x: Planes) -> Plane:
        """Return the fused luminance (H, W) of (S, H, W)."""
        return self.fuse_stream((plane, None) for plane in x)

    def fuse_valid(
        self, sources: Sequence[Tensor], valid: Sequence[Tensor | None], trace: Trace, scratch: Scratch
    ) -> Tensor:
        """As `fuse`; a source does not count where its mask is False."""
        return self._by_planes(sources, valid, trace, scratch)

    def _fused(self, planes: Sequence[Tensor], valid: Sequence[Tensor | None], scratch: Scratch) -> Plane:
        def each() -> Iterator[tuple[Plane, Mask | None]]:
            for x, mask in zip(planes, valid, strict=True):
                yield x.detach().cpu().numpy(), None if mask is None else mask.cpu().numpy()
                scratch.release()

        return self.fuse_stream(each())


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse an option that is none of its choices."""
    if value not in choices:
        raise ValueError(f"{name}: got {value!r}; expected one of {', '.join(choices)}")


def check_number(name: str, value: Any) -> None:
    """Refuse an option that is no finite number."""
    if not is_number(value) or not np.isfinite(value):
        raise ValueError(f"{name}: got {value!r}; expected a finite number")


def check_flag(name: str, value: Any) -> None:
    """Refuse an option that is neither True nor False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: got {value!r}; expected True or False")
