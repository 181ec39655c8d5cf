"""Edge transfer: Q_abf, L_abf, N_abf (Petrovic & Xydeas) and Q_over."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nmfuse.metrics._filters import gradients, mean, ratio, total
from nmfuse.metrics._input import Images


@dataclass(frozen=True)
class _Edges:
    """Strength and orientation of edges, each (N, H, W)."""

    g: Tensor
    alpha: Tensor


def edge_transfer(images: Images) -> Tensor:
    """Q_abf: ``sum_k sum Q_k g_k / sum_k sum g_k``, how much of the sources' edges is in the fused image.

    Xydeas & Petrovic 2000, eqs. 1-8, with their constants: strength (.9994, -15, .5), orientation (.9879, -22, .8),
    L = 1; zero-padded Sobel. It is the ratio of sums over the image, as defined. The imageFusionMetrics toolbox takes
    the mean of per-pixel ratios, where black background scores .98, with other constants and the orientation wrapped:
    its values are larger (.74 for .61).
    """
    return _weighted_quality(*_edge_terms(images, "constant"))


def overlap_quality(images: Images) -> Tensor:
    """Q_over: edge transfer of the worse-served source, where all sources have content.

    For each source alone ``sum Q g / sum g`` (Q as in Q_abf, edge-replicated Sobel) over the pixels where the 9 x 9
    mean of every source exceeds 12 grey levels (over all pixels where that is under 2 % of the image); then the least.
    A method that shows only one modality where both have something scores low here. Definition of this project.
    """
    content = torch.stack([_box9(s) > 12 for s in images.sources]).all(0).double()
    content = torch.where(mean(content)[:, None, None] < 0.02, 1.0, content)
    qualities, weights = _edge_terms(images, "replicate")
    scores = [ratio(total(q * w * content), total(w * content)) for q, w in zip(qualities, weights, strict=True)]
    return torch.stack(scores).amin(0)


def fusion_loss(images: Images) -> Tensor:
    """L_abf: edge information lost, where the fused edge is no stronger than that of some source.

    Petrovic & Xydeas 2005: ``sum r sum_k (1 - Q_k) w_k / sum sum_k w_k``, with r = 1 where ``g_F <= g_k`` for any k.
    Constants as in N_abf. Lower is better.
    """
    return _unfaithful(images, lost=True)


def fusion_artifacts(images: Images) -> Tensor:
    """N_abf: edges in the fused image that no source has, as modified by Shreyamsha Kumar 2013. Lower is better.

    ``sum n sum_k (1 - Q_k) w_k / sum sum_k w_k``, with n = 1 where ``g_F > g_k`` for all k. Sobel / 8, border
    mirrored; ``Q = sqrt(Q_g Q_alpha)``, strength (.9999, -19, .5), orientation (.9995, -22, .5); ``w = g^1.5`` where
    g >= 2, else .001.
    """
    return _unfaithful(images, lost=False)


def _weighted_quality(qualities: list[Tensor], weights: list[Tensor]) -> Tensor:
    kept = sum(total(q * w) for q, w in zip(qualities, weights, strict=True))
    return ratio(torch.as_tensor(kept), torch.as_tensor(sum(map(total, weights))))


def _edges(x: Tensor, border: str) -> _Edges:
    along, down = gradients(x, 2, border)
    # rows count downwards, the derivative of the definition upwards: it decides the sign where the edge is level
    alpha = torch.where(along == 0, math.pi / 2, torch.atan(-down / torch.where(along == 0, 1.0, along)))
    return _Edges((along * along + down * down).sqrt(), alpha)


def _edge_terms(images: Images, border: str) -> tuple[list[Tensor], list[Tensor]]:
    """Return Q of every pixel for each source, and the source's edge strength, which weights it."""

    def compute() -> tuple[list[Tensor], list[Tensor]]:
        f, *edges = (_edges(x, border) for x in images.all)
        qualities = []
        for s in edges:
            strength = ratio(torch.minimum(s.g, f.g), torch.maximum(s.g, f.g))
            orientation = 1 - (s.alpha - f.alpha).abs() / (math.pi / 2)
            q_g = 0.9994 / (1 + torch.exp(-15 * (strength - 0.5)))
            q_alpha = 0.9879 / (1 + torch.exp(-22 * (orientation - 0.8)))
            qualities.append(q_g * q_alpha)
        return qualities, [s.g for s in edges]

    return images.once(("edges", border), compute)


def _box9(x: Tensor) -> Tensor:
    """9 x 9 mean, the border mirrored with the edge pixel repeated.

    A running sum like that of scipy.ndimage.uniform_filter, so that means of exactly 12 fall on the same side.
    """
    for axis in (-2, -1):
        n = x.shape[axis]
        index = torch.arange(-4, n + 4, device=x.device) % (2 * n)
        x = x.index_select(axis, torch.minimum(index, 2 * n - 1 - index))
        first = x.narrow(axis, 0, 9).cumsum(axis).narrow(axis, 8, 1)
        changes = x.narrow(axis, 9, n - 1) - x.narrow(axis, 0, n - 1)
        x = torch.cat([first, changes], axis).cumsum(axis) / 9
    return x


def _petrovic_edges(x: Tensor) -> _Edges:
    along, down = (d / 8 for d in gradients(x, 2, "reflect"))
    g = (along * along + down * down).sqrt()
    safe = torch.where(down == 0, 1.0, down)
    alpha = torch.where(down == 0, torch.sign(along) * math.pi / 2, torch.atan(along / safe))
    return _Edges(g, alpha)


def _unfaithful(images: Images, lost: bool) -> Tensor:
    f, *edges = images.once("petrovic edges", lambda: [_petrovic_edges(x) for x in images.all])
    stronger = torch.stack([f.g > s.g for s in edges]).all(0)
    counted = (~stronger if lost else stronger).double()
    numerator = torch.zeros_like(counted)
    weight = torch.zeros_like(counted)
    for s in edges:
        strength = ratio(torch.minimum(s.g, f.g), torch.maximum(s.g, f.g))
        orientation = ((s.alpha - f.alpha).abs() - math.pi / 2).abs() * 2 / math.pi
        q_g = 0.9999 / (1 + torch.exp(-19 * (strength - 0.5)))
        q_alpha = 0.9995 / (1 + torch.exp(-22 * (orientation - 0.5)))
        w = torch.where(s.g >= 2, s.g**1.5, 0.001)
        numerator += (1 - (q_g * q_alpha).sqrt()) * w
        weight += w
    return ratio(total(counted * numerator), total(weight))
