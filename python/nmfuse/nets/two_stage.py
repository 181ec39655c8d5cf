"""Two-stage NMF of the sources' concatenated features: their common parts, and how much of each belongs to whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Factorize = Callable[[Tensor, int], tuple[Tensor, Tensor]]  # V (..., m, n), rank -> W (..., m, r), H (..., r, n)


def others(x: Tensor) -> Tensor:
    """Return, for each of S sources (S, ...), the mean of the other ones; of two, the other.

    Examples
    --------
    >>> others(torch.tensor([1.0, 3.0, 8.0]))
    tensor([5.5000, 4.5000, 2.0000])
    """
    if len(x) == 2:
        return x.flip(0)
    none = torch.zeros_like(x[:1])
    before, after = x.cumsum(0), x.flip(0).cumsum(0).flip(0)
    return (torch.cat([none, before[:-1]]) + torch.cat([after[1:], none])) / (len(x) - 1)


@dataclass(frozen=True)
class TwoStage:
    """Both stages; C channels, P places, r1 and r2 the ranks; batches lead where the features had any.

    Attributes
    ----------
    A : (S, ..., C, r1)
        Bases of stage 1: each source's part of the joint ones.
    B : (..., r1, P)
        Their coefficients, shared by all sources.
    norms : (S, ..., 1, r1)
        How long each source's part of a basis is.
    share : (S, ..., 1, r1)
        How much of each basis belongs to each source; they sum to one.
    A_F : (..., C, r1)
        Bases fused by share.
    kept : (r1,) bool
        The components that were selected; all where nothing was.
    P_F : (..., C, P)
        Fused features.
    A2 : (..., C, r2)
        Bases of stage 2, the parts; with ``rank2=0`` the fused bases themselves.
    """

    A: Tensor
    B: Tensor
    norms: Tensor
    share: Tensor
    A_F: Tensor
    kept: Tensor
    P_F: Tensor
    A2: Tensor

    @property
    def discriminativeness(self) -> Tensor:
        """The energy of each component, as far as one source has more of it than its share of one in S: (r1,)."""
        return _discriminativeness(self.share, _energy(self.A, self.B))


def two_stage(
    V: Tensor,
    rank: int,
    rank2: int,
    factorize: Factorize,
    *,
    length: Callable[[Tensor], Tensor],
    silent: float,
    keep: int | None = None,
) -> TwoStage:
    """Factorize the features of S sources together, fuse the bases by share, and factorize what they make.

    Stage 1: ``[V_1; ...; V_S] ~ A B``. ``A_F = sum_s share_s A_s`` with the share of the lengths of a basis' parts,
    ``P_F = A_F B``. Stage 2: ``P_F ~ A2 B2``.

    Parameters
    ----------
    V : Tensor (S, ..., C, P)
        Non-negative features, balanced between the sources.
    rank, rank2 : int
        r1 and r2, lowered where the features are smaller; ``rank2=0`` leaves stage 2 out.
    factorize : callable
        V, rank -> W, H.
    length : callable
        (..., C, r1) -> (..., 1, r1): of the columns.
    silent : float
        Length below which a basis belongs to nobody.
    keep : int, optional
        K: of one problem (no batch), the most modality-specific components and all of at least median energy make P_F.

    References
    ----------
    Das et al., IJACSA 14 (2023), Sec. IV-D; Collins et al., ECCV 2018 (factorizing deep features); Fel et al., CVPR
    2023 (a second factorization).
    """
    channels, places = V.shape[-2], V.shape[-1]
    joint = torch.cat(list(V), dim=-2)
    joint_A, B = factorize(joint, min(rank, *joint.shape[-2:]))
    A = torch.stack(torch.split(joint_A, channels, dim=-2))
    norms = torch.stack([length(part) for part in A])
    total = norms[0]
    for norm in norms[1:]:
        total = total + norm
    total = total.clamp_min(silent)
    share = [norm / total for norm in norms[:-1]]
    rest = 1 - share[0]
    for one in share[1:]:
        rest = rest - one
    share.append(rest)  # so that they sum to one
    A_F = share[0] * A[0]
    for one, part in zip(share[1:], A[1:], strict=True):
        A_F = A_F + one * part
    shares = torch.stack(share)
    kept = torch.ones(A.shape[-1], dtype=torch.bool, device=V.device)
    if keep is None:
        P_F = A_F @ B
    else:
        energy = _energy(A, B)
        kept = energy >= energy.median()
        kept[_discriminativeness(shares, energy).argsort(descending=True, stable=True)[:keep]] = True
        P_F = A_F[:, kept] @ B[kept]
    A2 = A_F[..., kept] if rank2 == 0 else factorize(P_F, min(rank2, channels, places))[0]
    return TwoStage(A, B, norms, shares, A_F, kept, P_F, A2)


def _energy(A: Tensor, B: Tensor) -> Tensor:
    energy: Tensor = torch.cat(list(A), dim=-2).norm(dim=-2) * B.norm(dim=-1)
    return energy


def _discriminativeness(share: Tensor, energy: Tensor) -> Tensor:
    sources = len(share)
    excess: Tensor = (sources * share.squeeze(-2) - 1).abs().amax(0) / (sources - 1)
    return excess * energy
