"""Two-stage NMF of the concatenated features: which image has the stronger parts, where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nmfuse.kernels import nmf

_SILENT = 1e-8  # activity below which neither image has a say


@dataclass(frozen=True)
class NmfWeights:
    """Every intermediate of the two stages; h x w is half the image's size, C the channels of the features.

    Attributes
    ----------
    A : (2C, r1), bases of stage 1: the upper half belongs to image A, the lower to image B
    B : (r1, h, w), their shared coefficient maps
    share : (r1,), how much of each basis belongs to image A, 0 to 1
    discriminativeness : (r1,), modality-specific energy of each component
    kept : (r1,) bool, the components that were selected
    P_F : (C, h, w), fused feature maps
    A2 : (C, r2), bases of stage 2
    H_A, H_B : (r2, h, w), how strongly each image shows them
    W_nmf : (H, W), the weight of image A, 0 to 1
    """

    A: Tensor
    B: Tensor
    share: Tensor
    discriminativeness: Tensor
    kept: Tensor
    P_F: Tensor
    A2: Tensor
    H_A: Tensor
    H_B: Tensor
    W_nmf: Tensor


def nmf_weight_map(
    P_A: Tensor,
    P_B: Tensor,
    shape: tuple[int, int],
    *,
    rank: int = 16,
    rank2: int = 4,
    keep: int = 12,
    beta: float = 2.0,
    max_iter: int = 100,
    seed: int = 0,
) -> NmfWeights:
    """Return W_nmf and all that led to it.

    Stage 1 factorizes the concatenated features ``[P_A; P_B] ~ A B``; the `keep` most modality-specific components and
    all others of at least median energy are selected, their bases fused by share, and multiplied with their
    coefficients: ``P_F = A_F B``. Stage 2 factorizes ``P_F ~ A2 B2``; with A2 fixed, each image's own coefficients
    H_A, H_B say how strongly it shows these patterns, and ``W_nmf = a_A / (a_A + a_B)`` with
    ``a_X = sum_k |a2_k|^2 H_X,k^2``.

    Parameters
    ----------
    P_A, P_B : (C, h, w)
        Non-negative features of the two images.
    shape : (H, W)
        Size of the images.
    rank, rank2 : int
        Of stage 1 (r1) and stage 2 (r2); lowered where the features are smaller. ``rank2=0`` leaves stage 2 out: the
        selected components of stage 1 decide, each image showing them by its own share of the basis.
    keep : int
        K, the modality-specific components kept.
    beta, max_iter, seed
        As `nmfuse.nmf`.

    References
    ----------
    Das et al., IJACSA 14 (2023), Sec. IV-D; Collins et al., ECCV 2018 (factorizing deep features); Fel et al., CVPR
    2023 (a second factorization).
    """
    channels, h, w = P_A.shape
    V_A, V_B = (_balanced(P).reshape(channels, h * w) for P in (P_A, P_B))
    options: dict[str, Any] = {"beta": beta, "max_iter": max_iter, "seed": seed}

    V = torch.cat([V_A, V_B])
    A, B, _ = nmf(V, min(rank, *V.shape), **options)
    A_A, A_B = A[:channels], A[channels:]
    norm_A, norm_B = A_A.norm(dim=0), A_B.norm(dim=0)
    share = norm_A / (norm_A + norm_B).clamp_min(_SILENT)
    energy = A.norm(dim=0) * B.norm(dim=1)
    discriminativeness = (2 * share - 1).abs() * energy
    kept = energy >= energy.median()
    kept[discriminativeness.argsort(descending=True, stable=True)[:keep]] = True
    A_F = share * A_A + (1 - share) * A_B
    P_F = A_F[:, kept] @ B[kept]

    if rank2 == 0:
        A2 = A_F[:, kept]
        H_A, H_B = (B[kept] * (norm / A_F.norm(dim=0).clamp_min(_SILENT))[kept, None] for norm in (norm_A, norm_B))
    else:
        A2, _, _ = nmf(P_F, min(rank2, *P_F.shape), **options)
        H_A, H_B = (nmf(P, fixed_W=A2, **options)[1] for P in (V_A, V_B))
    scale = A2.square().sum(dim=0)[:, None]
    a_A, a_B = ((scale * H.square()).sum(dim=0) for H in (H_A, H_B))
    total = a_A + a_B
    weight = torch.where(total < _SILENT, torch.full_like(total, 0.5), a_A / total.clamp_min(_SILENT))
    W_nmf = functional.interpolate(weight.reshape(1, 1, h, w), scale_factor=2, mode="bilinear", align_corners=False)[
        0, 0, : shape[0], : shape[1]
    ]
    return NmfWeights(
        A=A,
        B=B.reshape(-1, h, w),
        share=share,
        discriminativeness=discriminativeness,
        kept=kept,
        P_F=P_F.reshape(channels, h, w),
        A2=A2,
        H_A=H_A.reshape(-1, h, w),
        H_B=H_B.reshape(-1, h, w),
        W_nmf=W_nmf,
    )


def _balanced(P: Tensor) -> Tensor:
    """Divide an image's features by their mean, so that neither image outweighs the other."""
    return P / P.mean().clamp_min(_SILENT)
