"""The fusion network by the package's own kernel, where no gradient is asked for: float32 images on the CPU.

It computes what `nmfuse.nets.fusion_net` says, a level of the pyramid at a time, and never keeps a map that only the next
step needs. What the network is, the module of torch says; in float64 it is the oracle of this kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nmfuse.images.part import Place
from nmfuse.images.scratch import Scratch
from nmfuse.kernels._native import native_for
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
        and not torch.jit.is_tracing()
    )


class Packed:
    """Weights in one array, packed anew when they change.

    Examples
    --------
    >>> layer, packed = nn.Linear(2, 1), Packed()
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
    native, _ = native_for(out)
    native.fusion_features(images[:, 0], weights, channels, out)  # type: ignore[attr-defined]
    return out


def fuse_level(
    images: Sequence[Tensor],
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
    images : S tensors (h, w), or one (S, h, w)
        This level of the Gaussian pyramids.
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
    native, _ = native_for(fused)
    rows, columns = wanted
    step = rows.stop - rows.start
    if scratch.on_disk:
        step = max(_LEAST_ROWS, _AT_ONCE // (len(scene) * fused.shape[-1]) // 2 * 2)
    given: Any = [images] if isinstance(images, Tensor) else list(images)
    for start in range(rows.start, rows.stop, step):
        native.fusion_level(  # type: ignore[attr-defined]
            given, coarse=coarse, contexts=contexts, notes=notes, below=below, features=features,
            weights=weights, scene=scene.reshape(1, -1), **sizes, fused=fused, handed=handed, gates=gates,
            rows=(start, min(start + step, rows.stop)), cols=(columns.start, columns.stop),
        )  # fmt: skip
        scratch.release()
