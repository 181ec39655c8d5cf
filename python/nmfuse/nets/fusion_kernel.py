"""The fusion network by the package's own kernel, where no gradient is asked for: float32 images on the CPU.

It computes what `nmfuse.nets.fusion_net` says, a level of the pyramid at a time, and never keeps a map that only the
next step needs. What the network is, the module of torch says; in float64 it is the oracle of this kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nmfuse.images.part import Place
from nmfuse.images.scratch import Scratch
from nmfuse.kernels._native import cpu_operations
from nmfuse.kernels._traced import operators

_AT_ONCE = 1 << 24  # pixels, of all sources, that are looked at before memory on disk is released
_LEAST_ROWS = 32


def can_run(x: Tensor) -> bool:
    """Return whether the kernel can look at these images: float32 on the CPU, recorded and traced by nobody."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and operators(x) is None
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    )


class Packed:
    """Weights in one array, packed anew when they change.

    Examples
    --------
    >>> layer, packed = torch.nn.Linear(2, 1), Packed()
    >>> weights = packed([layer.weight, layer.bias])
    >>> weights.shape, packed([layer.weight, layer.bias]) is weights
    (torch.Size([1, 3]), True)
    """

    def __init__(self) -> None:
        self._versions: list[tuple[int, int]] = []
        self._weights = torch.empty(0)

    def __call__(self, parameters: Sequence[Tensor]) -> Tensor:
        """Return the weights (1, K), one parameter after the other, each in the order of its axes."""
        versions = [(x.data_ptr(), 0 if x.is_inference() else x._version) for x in parameters]
        if versions != self._versions:
            self._weights = torch.cat([x.detach().reshape(-1) for x in parameters])[None]
            self._versions = versions
        return self._weights


def features(images: Tensor, weights: Tensor, channels: int) -> Tensor:
    """Return the features (N, C, h, w) of images (N, 1, h, w), by the packed weights of a branch."""
    out = images.new_empty(len(images), channels, *images.shape[2:])
    sums = torch.zeros(len(images), 2 * channels + 2, dtype=torch.float64)
    survey(images[:, 0], weights=weights, parts=None, sums=sums, features=out)
    return out


def halve(images: Tensor, out: Tensor) -> None:
    """Write what `nmfuse.pyramids.reduce` makes of images (..., h, w)."""
    cpu_operations().halve_images(images, out)


def survey(
    images: Tensor,
    *,
    weights: Tensor,
    parts: Tensor | None,
    sums: Tensor,
    features: Tensor | None,
    energy: Tensor | None = None,
    strengths: Tensor | None = None,
    scratch: Scratch | None = None,
) -> None:
    """Sum the features of S images over their pixels, and say how strongly each pixel shows the parts.

    Parameters
    ----------
    images : Tensor (S, h, w)
    weights : Tensor (1, K)
        Packed, of the branch.
    parts : Tensor (C, R), optional
    sums : float64 Tensor (S, 2 C + 2)
        To which are added: the features, their squares; and, with parts, the features' mean times the brightness that
        all images share there, and that brightness.
    features, energy, strengths : Tensor (S, C, h, w), (S, h, w), (S, R, h, w)
        Where to write the features, unless None, and, with parts, their energy, and, unless None, their strengths.
    scratch : Scratch
        Released after every some rows.
    """
    height = images.shape[-2]
    scratch = scratch or Scratch()
    step = _rows_at_once(scratch, len(images), images.shape[-1]) or height
    for start in range(0, height, step):
        cpu_operations().fusion_survey(
            images, weights=weights, parts=None if parts is None else parts.contiguous(),
            channels=sums.shape[1] // 2 - 1, rows=(start, min(start + step, height)), sums=sums, features=features,
            energy=None if parts is None else energy, strengths=strengths,
        )  # fmt: skip
        scratch.release()


def _rows_at_once(scratch: Scratch, sources: int, width: int) -> int | None:
    """Return how many rows of all images are looked at before memory is released, an even number; None: all."""
    if not scratch.on_disk:
        return None
    return max(_LEAST_ROWS, _AT_ONCE // (sources * width) // 2 * 2)


def fuse_level(
    images: list[Tensor],
    *,
    coarse: Tensor | None,
    contexts: Tensor,
    notes: Tensor | None,
    below: Tensor | None,
    features: Tensor | None,
    weights: Tensor,
    scene: Tensor,
    sizes: dict[str, int],
    fused: Tensor,
    handed: Tensor | None,
    gates: Tensor | None,
    wanted: Place,
    scratch: Scratch,
) -> None:
    """Fuse the wanted rows and columns of a level of one set of S sources.

    Parameters
    ----------
    images : list of Tensor (h, w) or (S, h, w)
        This level of the Gaussian pyramids, all sources' together.
    coarse : Tensor (S, h2, w2), optional
        The next coarser level; None at the top.
    contexts : Tensor (S, h, w)
        At the finest level those of the next coarser one.
    notes : Tensor (S, read, h2, w2), optional
        Of the next coarser level.
    below : Tensor (h2, w2), optional
        The fused coarser level.
    features : Tensor (S, C, h, w), optional
        If they are known already.
    weights : Tensor (1, K)
        Packed, of the level's branch and head.
    scene : Tensor (S, 2, K)
        What the scene gives to the hidden maps, biases and gains.
    sizes : dict
        "channels", "hidden", "read" and "written".
    fused, handed, gates : Tensor (h, w), (S, written, h, w), (S, h, w)
        Where to write the fused level, and, unless None, the notes and the gates.
    wanted : Place
        From even rows and columns on.
    scratch : Scratch
        Released after every some rows.
    """
    rows, columns = wanted
    step = _rows_at_once(scratch, len(scene), fused.shape[-1]) or rows.stop - rows.start
    for start in range(rows.start, rows.stop, step):
        cpu_operations().fusion_level(
            images, coarse=coarse, contexts=contexts, notes=notes, below=below, features=features,
            weights=weights, scene=scene.reshape(1, -1), **sizes, fused=fused, handed=handed, gates=gates,
            rows=(start, min(start + step, rows.stop)), cols=(columns.start, columns.stop),
        )  # fmt: skip
        scratch.release()
