"""Differentiable forms of the metrics, for batches of images in [0, 1]; larger is better in all of them."""

from __future__ import annotations

import csv
import functools
import math
from importlib.resources import files
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from nmfuse import pyramids
from nmfuse.images.rounding import round_informed
from nmfuse.metrics import RANKING

_NOISE = 2 / 255**2  # of VIF
_EPS = 1e-8
_PIXELS = (-2, -1)
_HALF = 0.5 + 1e-4  # float32 puts halves of a Laplacian fusion a little low
RATIOS = ("SD", "SF", "MI", "VIF", "VIF_min")  # compared by their ratio, the others by their difference
_WIDTH = 0.3
_LEAST_WIDTH = 1e-4
_Value = TypeVar("_Value", float, Tensor)


@functools.cache
def _windows(length: int, size: int, sigma: float, step: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Gaussian weights of every `step`-th whole window along `length` pixels: (windows, length)."""
    with torch.inference_mode(False):  # kept for whoever asks next, who may want gradients
        k = torch.arange(size, dtype=torch.float64) - size // 2
        taps = torch.exp(-(k**2) / (2 * sigma**2))
        rows = torch.zeros((length - size) // step + 1, length, dtype=torch.float64)
        for i, row in enumerate(rows):
            row[i * step : i * step + size] = taps / taps.sum()
        return rows.to(device, dtype)


def _smooth(x: Tensor, size: int, sigma: float, step: int = 1) -> Tensor:
    """Gaussian means of (..., H, W) over whole windows, as two matrix products: far faster than a convolution."""
    rows, columns = (_windows(n, size, sigma, step, x.dtype, x.device) for n in x.shape[-2:])
    return rows @ x @ columns.mT


def _moments(s: Tensor, f: Tensor, size: int, sigma: float) -> tuple[Tensor, ...]:
    """Means, variances and covariance: the sources' own and f's own are looked at once."""
    m_s, m_f, ss, ff, sf = (_smooth(x, size, sigma) for x in (s, f, s * s, f * f, s * f))
    return m_s, m_f, (ss - m_s * m_s).clamp_min(0), (ff - m_f * m_f).clamp_min(0), sf - m_s * m_f


def ssim(s: Tensor, f: Tensor) -> Tensor:
    """Mean SSIM of (..., H, W) twice: (...). Wang et al. 2004."""
    m_s, m_f, v_s, v_f, cov = _moments(s, f, 11, 1.5)
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * m_s * m_f + c1) * (2 * cov + c2)
    return (top / ((m_s**2 + m_f**2 + c1) * (v_s + v_f + c2))).mean(_PIXELS)


def vif(s: Tensor, f: Tensor) -> Tensor:
    """Pixel-domain visual information fidelity of (..., H, W) twice, 41 x 41 or more: (...). Sheikh & Bovik 2006."""
    kept, given = f.new_zeros(()), f.new_zeros(())
    for scale, size in enumerate((17, 9, 5, 3)):
        if scale > 0:
            s, f = (_smooth(x, size, size / 5, 2) for x in (s, f))
        _, _, v_s, v_f, cov = _moments(s, f, size, size / 5)
        g = (cov / (v_s + _EPS)).clamp_min(0)
        noise = (v_f - g * cov).clamp_min(_EPS)
        kept = kept + torch.log1p(g**2 * v_s / (noise + _NOISE)).sum(_PIXELS)
        given = given + torch.log1p(v_s / _NOISE).sum(_PIXELS)
    return (kept + _EPS) / (given + _EPS)


def _gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    x = pad(x.reshape(-1, 1, *x.shape[-2:]), (1, 1, 1, 1), mode="replicate").reshape(*x.shape[:-2], x.shape[-2] + 2, -1)
    rows = x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]
    columns = x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]
    return rows[..., 2:] - rows[..., :-2], columns[..., 2:, :] - columns[..., :-2, :]


def edge_qualities(s: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
    """Q and weights of the pixels of (..., H, W) twice. Xydeas & Petrovic 2000; orientations by the angle's cosine."""
    (sx, sy), (fx, fy) = _gradient(s), _gradient(f)
    g_s, g_f = ((x * x + y * y + _EPS).sqrt() for x, y in ((sx, sy), (fx, fy)))
    ratio = torch.minimum(g_s, g_f) / torch.maximum(g_s, g_f)
    cosine = ((sx * fx + sy * fy).abs() / (g_s * g_f)).clamp(0, 1 - 1e-5)
    alike = 1 - torch.acos(cosine) / (math.pi / 2)
    return 0.9994 * torch.sigmoid(15 * (ratio - 0.5)) * 0.9879 * torch.sigmoid(22 * (alike - 0.8)), g_s


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Where both sources have content: 9 x 9 mean above 12 of 255; everywhere, where that is under 2 %."""
    content = (avg_pool2d(torch.stack([a, b], dim=1), 9, 1, 4) > 12 / 255).all(1)
    share = content.float().mean(_PIXELS, keepdim=True)
    return torch.where(share < 0.02, torch.ones_like(share), content.float())


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's correlation of (..., H, W) twice: (...)."""
    x, y = (z - z.mean(_PIXELS, keepdim=True) for z in (x, y))
    return (x * y).sum(_PIXELS) / ((x * x).sum(_PIXELS) * (y * y).sum(_PIXELS) + _EPS).sqrt()


def mutual_information(x: Tensor, y: Tensor, bins: int = 256) -> tuple[Tensor, Tensor]:
    """Mutual information of (..., H, W) twice, and the entropy of y, in bits, from triangular bins: (...) each."""
    shape = (x + y).shape
    at = [z.expand(shape).flatten(-2).clamp(0, 1) * (bins - 1) for z in (x, y)]
    lower = [z.detach().floor().clamp_max(bins - 2) for z in at]
    share = [z - low for z, low in zip(at, lower, strict=True)]  # of the upper one of two bins
    cell = (lower[0] * bins + lower[1]).long()
    joint = x.new_zeros(*cell.shape[:-1], bins * bins)
    for i, p in enumerate((1 - share[0], share[0])):
        for j, q in enumerate((1 - share[1], share[1])):
            joint = joint.scatter_add(-1, cell + (i * bins + j), p * q)
    joint = joint.reshape(*cell.shape[:-1], bins, bins) / cell.shape[-1]

    def entropy(p: Tensor) -> Tensor:
        return -(p * torch.log2(p + 1e-9))

    h_x, h_y = (entropy(joint.sum(axis)).sum(-1) for axis in (-1, -2))
    return h_x + h_y - entropy(joint).sum(_PIXELS), h_y


def spatial_frequency(x: Tensor) -> Tensor:
    """Root of the mean square row and column differences: (..., H, W) -> (...)."""
    rows, columns = (x.diff(dim=axis).square().mean(_PIXELS) for axis in _PIXELS)
    return (rows + columns + _EPS).sqrt()


def fusion_scores(a: Tensor, b: Tensor, f: Tensor) -> dict[str, Tensor]:
    """Return the smooth metrics of fused images (..., N, H, W) of the sources (N, H, W): name -> (..., N)."""
    sources = torch.stack([a, b]).reshape(2, *[1] * (f.ndim - 3), *a.shape)
    fidelity = vif(sources, f)
    quality, weight = edge_qualities(sources, f)
    shown = weight * overlap(a, b)
    information, entropy = mutual_information(sources, f)
    return {
        "EN": entropy[0],
        "SD": (f.var(_PIXELS) + _EPS).sqrt(),
        "SF": spatial_frequency(f),
        "MI": information.sum(0),
        "SCD": correlation(f - b, a) + correlation(f - a, b),
        "VIF": fidelity.sum(0),
        "Q_abf": (quality * weight).sum(_PIXELS).sum(0) / (weight.sum(_PIXELS).sum(0) + _EPS),
        "SSIM": ssim(sources, f).mean(0),
        "VIF_min": fidelity.amin(0),
        "Q_over": ((quality * shown).sum(_PIXELS) / (shown.sum(_PIXELS) + _EPS)).amin(0),
    }


def fidelity(sources: Tensor, f: Tensor) -> Tensor:
    """Return what fused images (N, H, W) keep of the edges and structures of S sources (S, N, H, W), 0 to 1: (N,)."""
    quality, weight = edge_qualities(sources, f)
    edges = (quality * weight).sum((0, *_PIXELS)) / (weight.sum((0, *_PIXELS)) + _EPS)
    return (edges + ssim(sources, f).mean(0)) / 2


def plain_fusions(a: Tensor, b: Tensor) -> Tensor:
    """Return the average, the maximum and the Laplacian fusion of a and b, (3, N, H, W), in 255ths.

    As the methods of these names have them; halves are rounded up, as those that standings were taken with.
    """
    *details, top = pyramids.laplacian_pyramid(torch.stack([a, b]), 5)
    larger = [torch.where(p.abs() == q.abs(), (p + q) / 2, torch.where(p.abs() > q.abs(), p, q)) for p, q in details]
    laplacian = pyramids.collapse_laplacian([*larger, top.mean(0)]).clamp(0, 1)
    return torch.floor(255 * torch.stack([(a + b) / 2, torch.maximum(a, b), laplacian]) + _HALF) / 255


def reference(average: _Value, maximum: _Value, laplacian: _Value) -> _Value:
    """Return what standings are relative to, from a metric of each of the `plain_fusions`."""
    return (average + maximum + 2 * laplacian) / 4


def expected_ranks(a: Tensor, b: Tensor, f: Tensor, standings: Tensor) -> Tensor:
    """Return at what rank fused images (N, H, W) would stand among other methods, for each metric: (N, 10).

    `standings` (N, 10, K) says where K other methods stand, from `load_standings`: relative to the `reference` of the
    `plain_fusions`, as a ratio for `RATIOS`, as a difference for the others. A rank is smooth: each other method counts
    by a logistic function whose width is 0.3 of the methods' standard deviation. EN and MI are those of f clipped to
    [0, 1] and rounded by `round_informed`, with the gradient of f as it is.
    """
    with torch.no_grad():
        plain = fusion_scores(a, b, plain_fusions(a, b))
        rounded = torch.stack(
            [round_informed(y, sources) for y, *sources in zip(f.detach().clamp(0, 1), a, b, strict=True)]
        )
        information, entropy = mutual_information(torch.stack([a, b]), rounded)
    scores = fusion_scores(a, b, f)
    for name, value in (("EN", entropy[0]), ("MI", information.sum(0))):
        scores[name] = scores[name] + (value - scores[name]).detach()
    ranks = []
    for i, (name, value) in enumerate(scores.items()):
        level = reference(*plain[name])[:, None]
        others = standings[:, i] * level if name in RATIOS else standings[:, i] + level
        width = (_WIDTH * others.std(1, keepdim=True)).clamp_min(_LEAST_WIDTH)
        ranks.append(1 + torch.sigmoid((others - value[:, None]) / width).sum(1))
    return torch.stack(ranks, dim=1)


def load_standings() -> dict[str, Tensor]:
    """Return where other methods stand by kind of pair, (10, K) in the order of `RANKING`; "any" is their mean.

    `evaluation/standings.py` made them from a table of other methods' metrics.
    """
    rows = csv.DictReader(files("nmfuse.training").joinpath("standings.csv").read_text().splitlines())
    values = {(row["kind"], row["metric"]): [float(x) for x in row["others"].split()] for row in rows}
    kinds = dict.fromkeys(kind for kind, _ in values)
    standings = {kind: torch.tensor([values[kind, metric] for metric in RANKING]) for kind in kinds}
    return standings | {"any": torch.stack(list(standings.values())).mean(0)}
