"""The paper's structure: hannmean, Siamese weight map, two-stage NMF, pyramid fusion by a rule with thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nmfuse import nets, pyramids
from nmfuse.images.scratch import Scratch
from nmfuse.kernels import detect_background, hannmean, nmf
from nmfuse.kernels.checks import check_count
from nmfuse.methods.base import Trace, check_choice, check_flag, check_number
from nmfuse.methods.finish import Finished
from nmfuse.methods.rules import fuse_pyramids
from nmfuse.methods.scores import scores, weight_map
from nmfuse.nets.siamese import PATCH, STRIDE, Siamese
from nmfuse.nets.two_stage import TwoStage, two_stage

_SILENT = 1e-8  # activity below which no source has a say
_LARGE = 1 << 21  # pixels above which an image is looked at strip by strip
_STRIP = 1 << 19  # pixels of a strip
_FITTED = 1 << 18  # places of a large image that the parts are found in
_FIT_ROWS = 8  # rows of features that these are taken in at a time


@dataclass(frozen=True)
class Paper(Finished):
    """Fuses as Das et al. do; each step is an option. A volume's slices are looked at one by one by the network.

    Parameters
    ----------
    hannmean_size, sharpen, smooth
        See `nmfuse.methods.finish.Finished`.
    network : str or path
        Weights of the Siamese network: "lite", "full", or a file that ``nmfuse train focus`` wrote.
    denoise : {"weights", "off", "all"}
        Where the Hannmean-filtered images are used: only to decide the weights (the fused image keeps the sources'
        sharpness), nowhere, or for the fused image too (the paper).
    background : bool
        Whether the Hannmean filter neither uses nor changes the dark background around the object, as in the paper.
    outliers : float, optional
        The number of deviations (usually 3) from the median of its window above which the Hannmean filter replaces a
        pixel, as in the paper.
    weighting : {"cnn+nmf", "cnn", "nmf", "half"}
        The weights W: the mean of W_cnn and W_nmf, one of them, or 1 / S everywhere.
    vote : {"hard", "soft"}
        Whether the scores of blocks are first reduced to one vote, as in the paper, or averaged as they are.
    rank, rank2 : int
        The ranks r1 and r2 of the two stages of NMF, at most what the features allow; ``rank2=0`` leaves the second
        stage out.
    keep : int
        The number K of components of stage 1, specific to a modality, that are kept.
    beta : float
        The divergence of the factorizations.
    nmf_iter : int
        The greatest number of iterations of each factorization.
    pyramid : {"laplacian", "contrast"}
        The kind of pyramid. The contrast pyramid (ratios of low-pass images) is that of the paper; the Laplacian
        pyramid preserves more of the sources by every measure.
    levels : int, optional
        The number N of levels of the pyramid, including its top; by default, and at most, floor(log2(min(H, W))).
    t_top, t_other : float
        The thresholds t of the match for the top level and for the others: above them coefficients are weighted, below
        them the one with the largest energy is taken.
    epsilon : float
        The e of the contrast pyramid, on the scale [0, 1].
    seed : int
        The seed of the random start of the factorizations.

    Notes
    -----
    The steps of `nmfuse.Fuser.explain`; with the sources' axis in front: ``denoised``, ``S`` (block scores), ``W_cnn``,
    ``P`` (features), ``A`` (bases of stage 1), ``share``, ``H`` (how strongly each source shows the bases of stage 2),
    ``W_nmf``, ``W``, ``pyramids``, ``pyramid_W`` (both of each level); of all: ``B`` (coefficients of stage 1),
    ``discriminativeness``, ``kept``, ``P_F``, ``A2``, ``pyramid_fused``, ``collapsed``.

    References
    ----------
    Das et al., "Utilizing Deep Convolutional Neural Networks and Non-Negative Matrix Factorization for Multi-Modal
    Image Fusion", IJACSA 14 (2023).
    """

    network: str | Path = "lite"
    denoise: str = "weights"
    background: bool = False
    outliers: float | None = None
    weighting: str = "cnn+nmf"
    vote: str = "hard"
    rank: int = 16
    rank2: int = 4
    keep: int = 12
    beta: float = 2.0
    nmf_iter: int = 100
    pyramid: str = "laplacian"
    levels: int | None = None
    t_top: float = 0.6
    t_other: float = 0.6
    epsilon: float = pyramids.CONTRAST_EPSILON
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.network, (str, Path)):
            raise TypeError(f"network: got {type(self.network).__name__}; expected a name or a path")
        check_choice("denoise", self.denoise, ("weights", "off", "all"))
        check_choice("weighting", self.weighting, ("cnn+nmf", "cnn", "nmf", "half"))
        check_choice("vote", self.vote, ("hard", "soft"))
        check_choice("pyramid", self.pyramid, ("laplacian", "contrast"))
        for name, least in {"rank": 1, "rank2": 0, "keep": 0, "nmf_iter": 1, "seed": 0}.items():
            check_count(name, getattr(self, name), least)
        if self.levels is not None:
            check_count("levels", self.levels, 1)
        for name in ("beta", "t_top", "t_other", "epsilon"):
            check_number(name, getattr(self, name))
        check_flag("background", self.background)
        for name, usual in (("epsilon", "1/255"), ("beta", "2 or 1")):  # features hold zeros, which beta <= 0 cannot
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: got {getattr(self, name)!r}; expected a positive number, such as {usual}")
        if self.outliers is not None:
            check_number("outliers", self.outliers)
            if self.outliers <= 0:
                raise ValueError(f"outliers: got {self.outliers!r}; expected a positive number, such as 3")

    def fuse(self, sources: Sequence[Tensor], trace: Trace, scratch: Scratch) -> Tensor:
        """Fuse two or more luminances (H, W) or (D, H, W)."""
        images = torch.stack(list(sources))
        with trace.clock("hannmean"):
            quiet = images if self.denoise == "off" else self._denoised(images)
            trace.keep_each(denoised=quiet)
        with trace.clock("network"):
            W = self._weights(quiet, trace)
        with trace.clock("pyramid"):
            fused_of = quiet if self.denoise == "all" else images
            levels = pyramids.max_levels(images.shape)
            per_source, fused, y = fuse_pyramids(
                fused_of,
                W,
                pyramid=self.pyramid,
                levels=levels if self.levels is None else min(self.levels, levels),
                t_top=self.t_top,
                t_other=self.t_other,
                epsilon=self.epsilon,
            )
            trace.keep_each(**per_source)
            trace.keep(pyramid_fused=fused)
        return self.finish(y, list(fused_of), trace, scratch)

    def _denoised(self, images: Tensor) -> Tensor:
        """Return the images (S, *spatial) after the Hannmean filter."""
        spatial = images.dim() - 1
        background = None
        if self.background:
            on_cpu = images.detach().cpu()
            background = torch.stack([detect_background(x, spatial=spatial) for x in on_cpu]).to(images.device)
        quiet: Tensor = hannmean(
            images, self.hannmean_size, spatial=spatial, background=background, outliers=self.outliers
        )
        return quiet

    def _weights(self, images: Tensor, trace: Trace) -> Tensor:
        """Return W (S, *spatial), the weights of images of that shape; they sum to one over the sources."""
        count, shape = len(images), tuple(images.shape[1:])
        if self.weighting == "half":
            even = torch.full_like(images, 1 / count)
            trace.keep_each(W=even)
            return even
        maps = []
        network = nets.load(self.network, images.device)
        if len(shape) == 2 and images[0].numel() > _LARGE and not trace.wanted and not images.requires_grad:
            return self._weights_by_strips(images, network)
        slices = images.reshape(count, -1, *shape[-2:])  # (S, D, H, W), D 1 of an image
        features = [network.features(x) for x in slices.transpose(0, 1)[:, :, None]]  # of each slice: (S, C, h, w)
        if "cnn" in self.weighting:
            S = torch.stack([scores(x, network) for x in features], dim=1)  # (S, D, hs, ws)
            with trace.clock("aggregate_blocks"):
                W_cnn = torch.stack([weight_map(x, self.vote, (shape[-2], shape[-1])) for x in S.unbind(1)], dim=1)
            trace.keep_each(S=S.reshape(count, *shape[:-2], *S.shape[2:]), W_cnn=W_cnn.reshape(images.shape))
            maps.append(W_cnn.reshape(images.shape))
        if "nmf" in self.weighting:
            P = features[0] if len(shape) == 2 else torch.stack(features, dim=2)
            with trace.clock("nmf"):
                maps.append(self._nmf_weights(P, shape, trace))
        W: Tensor = torch.stack(maps).mean(dim=0)
        trace.keep_each(W=W)
        return W

    def _weights_by_strips(self, images: Tensor, network: Siamese) -> Tensor:
        """Return W (S, H, W) of large images, of whose features a strip is held at a time.

        The parts are found in some rows, spread over the image, and each source's share of them everywhere.
        """
        count, height, width = images.shape
        h, w = -(-height // 2), -(-width // 2)

        def look(first: int, last: int) -> Tensor:
            """Return rows of the features (S, C, last - first, w)."""
            above = max(0, 2 * first - PATCH)
            P = network.features(images[:, None, above : 2 * last + PATCH])
            return P[:, :, first - above // 2 : last - above // 2]

        both, means = None, images.new_ones(count)
        if "nmf" in self.weighting:
            pieces = max(1, _FITTED // (_FIT_ROWS * w))
            starts = [k * (h - _FIT_ROWS) // pieces for k in range(pieces)]
            V = torch.cat([look(at, at + _FIT_ROWS).flatten(2) for at in starts], dim=2)
            means = V.mean((1, 2)).clamp_min(_SILENT)
            both = self._parts(V / means[:, None, None])
            del V
        margin = PATCH // STRIDE - 1  # rows of features below its own that a score sees
        score = images.new_empty(count, h - margin, w - margin)
        share = images.new_empty(count, 1, h, w)
        step = max(PATCH, _STRIP // width // 2)
        for first in range(0, h, step):
            last = min(first + step, h)
            P = look(first, min(last + margin, h))
            if "cnn" in self.weighting and (seen := P.shape[2] - margin) > 0:
                score[:, first : first + seen] = scores(P, network)
            if both is not None:
                V = P[:, :, : last - first].flatten(2) / means[:, None, None]
                share[:, 0, first:last] = self._shares(self._amounts(V, both), both).reshape(count, -1, w)
        maps = []
        if "cnn" in self.weighting:
            maps.append(weight_map(score, self.vote, (height, width)))
        if both is not None:
            maps.append(_enlarged(share, (height, width))[:, 0])
        return maps[0] if len(maps) == 1 else torch.add(*maps).div_(2)

    def _nmf_weights(self, P: Tensor, shape: tuple[int, ...], trace: Trace) -> Tensor:
        """Return W_nmf (S, *shape) from features P (S, C, h, w) or (S, C, D, h, w)."""
        if P.requires_grad:
            P = P.detach()  # the weights count as given where gradients are asked for
        places = P.shape[2:]
        V = torch.stack([_balanced(x).reshape(x.shape[0], -1) for x in P])
        both = self._parts(V)
        H = self._amounts(V, both, both.B)
        maps = self._shares(H, both).reshape(-1, 1, *places[-2:])  # of each source, and each slice of it
        W_nmf = _enlarged(maps, (shape[-2], shape[-1])).reshape(len(P), *shape)
        trace.keep_each(P=P, A=both.A, share=both.share[:, 0], H=H.reshape(len(P), -1, *places), W_nmf=W_nmf)
        trace.keep(
            B=both.B.reshape(-1, *places),
            discriminativeness=both.discriminativeness,
            kept=both.kept,
            P_F=both.P_F.reshape(-1, *places),
            A2=both.A2,
        )
        return W_nmf

    def _parts(self, V: Tensor) -> TwoStage:
        """Factorize balanced features (S, C, P) in two stages."""

        def factorize(V: Tensor, rank: int) -> tuple[Tensor, Tensor]:
            return nmf(V, rank, **self._settings)[:2]

        def length(A: Tensor) -> Tensor:
            norms: Tensor = A.norm(dim=-2, keepdim=True)
            return norms

        return two_stage(V, self.rank, self.rank2, factorize, length=length, silent=_SILENT, keep=self.keep)

    @property
    def _settings(self) -> dict[str, Any]:
        return {"beta": self.beta, "max_iter": self.nmf_iter, "seed": self.seed}

    def _amounts(self, V: Tensor, both: TwoStage, B: Tensor | None = None) -> Tensor:
        """Return H (S, r, P): how strongly each source shows the bases of stage 2 in its features V (S, C, P).

        With the bases fixed, these are the source's own coefficients. Without stage 2, each source shows the selected
        components of stage 1, of coefficients B, by its own share of the basis.
        """
        if self.rank2 > 0:
            return torch.stack([nmf(x, fixed_W=both.A2, **self._settings)[1] for x in V])
        if B is None:
            B = nmf(torch.cat(list(V)), fixed_W=torch.cat(list(both.A)), **self._settings)[1]
        unit = both.A_F.norm(dim=0).clamp_min(_SILENT)
        return torch.stack([B[both.kept] * (norm[0] / unit)[both.kept, None] for norm in both.norms])

    def _shares(self, H: Tensor, both: TwoStage) -> Tensor:
        """Return each source's share (S, P) of what is shown: ``a_s / sum a`` with ``a_s = sum_k |a2_k|^2 H_s,k^2``."""
        scale = both.A2.square().sum(dim=0)[:, None]
        a = torch.stack([(scale * h.square()).sum(dim=0) for h in H])
        total = a.sum(0)
        return torch.where(total < _SILENT, torch.full_like(a, 1 / len(a)), a / total.clamp_min(_SILENT))


def _enlarged(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return maps (N, 1, h, w) of half resolution in full."""
    large = [
        functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False) for x in torch.split(maps, 1)
    ]
    return torch.cat(large)[..., : shape[0], : shape[1]]


def _balanced(P: Tensor) -> Tensor:
    """Divide a source's features by their mean, so that no source outweighs the others."""
    return P / P.mean().clamp_min(_SILENT)
