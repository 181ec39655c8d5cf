"""Differentiable forms of the metrics, for batches of images in [0, 1]; larger is better in all of them."""

from __future__ import annotations

import csv
import math
from importlib.resources import files
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from nmfuse import pyramids

_NOISE = 2 / 255**2  # of VIF
_EPS = 1e-8
METRICS = ("EN", "SD", "SF", "MI", "SCD", "VIF", "Q_abf", "SSIM", "VIF_min", "Q_over")
RATIOS = ("SD", "SF", "MI", "VIF", "VIF_min")  # compared by their ratio, the others by their difference
_WIDTH = 0.3
_LEAST_WIDTH = 1e-4
_Value = TypeVar("_Value", float, Tensor)


def _taps(size: int, sigma: float, x: Tensor) -> Tensor:
    k = torch.arange(size, dtype=x.dtype, device=x.device) - size // 2
    g = torch.exp(-(k**2) / (2 * sigma**2))
    return g / g.sum()


def _smooth(x: Tensor, size: int, sigma: float) -> Tensor:
    """Gaussian means of (N, H, W) over whole windows: (N, H - size + 1, W - size + 1)."""
    g = _taps(size, sigma, x)
    x = functional.conv2d(x[:, None], g.view(1, 1, -1, 1))
    return functional.conv2d(x, g.view(1, 1, 1, -1))[:, 0]


def _moments(s: Tensor, f: Tensor, size: int, sigma: float) -> tuple[Tensor, ...]:
    means = _smooth(torch.cat([s, f, s * s, f * f, s * f]), size, sigma)
    m_s, m_f, ss, ff, sf = means.chunk(5)
    return m_s, m_f, (ss - m_s * m_s).clamp_min(0), (ff - m_f * m_f).clamp_min(0), sf - m_s * m_f


def ssim(s: Tensor, f: Tensor) -> Tensor:
    """Mean SSIM of (N, H, W) twice: (N,). Wang et al. 2004."""
    m_s, m_f, v_s, v_f, cov = _moments(s, f, 11, 1.5)
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * m_s * m_f + c1) * (2 * cov + c2)
    return (top / ((m_s**2 + m_f**2 + c1) * (v_s + v_f + c2))).mean((1, 2))


def vif(s: Tensor, f: Tensor) -> Tensor:
    """Pixel-domain visual information fidelity of (N, H, W) twice: (N,). Sheikh & Bovik 2006."""
    kept, given = s.new_zeros(len(s)), s.new_zeros(len(s))
    for scale, size in enumerate((17, 9, 5, 3)):
        if scale > 0:
            s, f = (_smooth(x, size, size / 5)[:, ::2, ::2] for x in (s, f))
        if min(s.shape[1:]) < size:
            break
        _, _, v_s, v_f, cov = _moments(s, f, size, size / 5)
        g = (cov / (v_s + _EPS)).clamp_min(0)
        noise = (v_f - g * cov).clamp_min(_EPS)
        kept = kept + torch.log1p(g**2 * v_s / (noise + _NOISE)).sum((1, 2))
        given = given + torch.log1p(v_s / _NOISE).sum((1, 2))
    return (kept + _EPS) / (given + _EPS)


def _gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    x = functional.pad(x[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    rows = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    columns = x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]
    return rows[:, :, 2:] - rows[:, :, :-2], columns[:, 2:] - columns[:, :-2]


def edge_qualities(sources: list[Tensor], f: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Q and the weight of each pixel, for each source. Xydeas & Petrovic 2000; orientations by the angle's cosine."""
    fx, fy = _gradient(f)
    g_f = (fx * fx + fy * fy + _EPS).sqrt()
    result = []
    for s in sources:
        sx, sy = _gradient(s)
        g_s = (sx * sx + sy * sy + _EPS).sqrt()
        ratio = torch.minimum(g_s, g_f) / torch.maximum(g_s, g_f)
        cosine = ((sx * fx + sy * fy).abs() / (g_s * g_f)).clamp(0, 1 - 1e-5)
        alike = 1 - torch.acos(cosine) / (math.pi / 2)
        q = 0.9994 / (1 + torch.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + torch.exp(-22 * (alike - 0.8)))
        result.append((q, g_s))
    return result


def overlap(sources: list[Tensor]) -> Tensor:
    """Where both sources have content: 9 x 9 mean above 12 of 255; everywhere, where that is under 2 %."""
    content = torch.stack([functional.avg_pool2d(s[:, None], 9, 1, 4)[:, 0] > 12 / 255 for s in sources]).all(0)
    share = content.float().mean((1, 2), keepdim=True)
    return torch.where(share < 0.02, torch.ones_like(share), content.float())


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's correlation of (N, H, W) twice: (N,)."""
    x, y = (z - z.mean((1, 2), keepdim=True) for z in (x, y))
    return (x * y).sum((1, 2)) / ((x * x).sum((1, 2)) * (y * y).sum((1, 2)) + _EPS).sqrt()


def mutual_information(x: Tensor, y: Tensor, bins: int = 256) -> tuple[Tensor, Tensor]:
    """Mutual information of (N, H, W) twice, and the entropy of y, in bits, from triangular bins: (N,) each."""
    at = [z.flatten(1).clamp(0, 1) * (bins - 1) for z in (x, y)]
    lower = [z.detach().floor().clamp_max(bins - 2) for z in at]
    share = [z - low for z, low in zip(at, lower, strict=True)]  # of the upper one of two bins
    cell = (lower[0] * bins + lower[1]).long()
    joint = x.new_zeros(len(x), bins * bins)
    for i, p in enumerate((1 - share[0], share[0])):
        for j, q in enumerate((1 - share[1], share[1])):
            joint = joint.scatter_add(1, cell + (i * bins + j), p * q)
    joint = joint.reshape(-1, bins, bins) / at[0].shape[1]

    def entropy(p: Tensor) -> Tensor:
        return -(p * torch.log2(p + 1e-9)).flatten(1).sum(1)

    h_y = entropy(joint.sum(1))
    return entropy(joint.sum(2)) + h_y - entropy(joint), h_y


def spatial_frequency(x: Tensor) -> Tensor:
    """Root of the mean square row and column differences: (N, H, W) -> (N,)."""
    rows, columns = (x[:, 1:] - x[:, :-1]).square().mean((1, 2)), (x[:, :, 1:] - x[:, :, :-1]).square().mean((1, 2))
    return (rows + columns + _EPS).sqrt()


def fusion_scores(a: Tensor, b: Tensor, f: Tensor) -> dict[str, Tensor]:
    """Return the smooth metrics of a batch of fused images (N, H, W): name -> (N,)."""
    sources = [a, b]
    fidelity = torch.stack([vif(s, f) for s in sources])
    edges = edge_qualities(sources, f)
    shown = overlap(sources)
    total = sum((w for _, w in edges), start=torch.zeros_like(f)).sum((1, 2))
    q_abf = sum(((q * w) for q, w in edges), start=torch.zeros_like(f)).sum((1, 2)) / (total + _EPS)
    q_each = torch.stack([(q * w * shown).sum((1, 2)) / ((w * shown).sum((1, 2)) + _EPS) for q, w in edges])
    information = [mutual_information(s, f) for s in sources]
    return {
        "EN": information[0][1],
        "SD": (f.var((1, 2)) + _EPS).sqrt(),
        "SF": spatial_frequency(f),
        "MI": information[0][0] + information[1][0],
        "SCD": correlation(f - b, a) + correlation(f - a, b),
        "VIF": fidelity.sum(0),
        "Q_abf": q_abf,
        "SSIM": (ssim(a, f) + ssim(b, f)) / 2,
        "VIF_min": fidelity.amin(0),
        "Q_over": q_each.amin(0),
    }


def plain_fusions(a: Tensor, b: Tensor) -> list[Tensor]:
    """Return the average, the maximum and the Laplacian fusion of a and b, (N, H, W) each, in 255ths.

    Laplacian fusion as `nmfuse.baselines.plain.laplacian` (Burt & Adelson 1983), but b's detail where both are as
    large; halves of the average are rounded as float32 has them.
    """
    pyramid_a, pyramid_b = (pyramids.laplacian_pyramid(x, 5) for x in (a, b))
    details = [torch.where(p.abs() > q.abs(), p, q) for p, q in zip(pyramid_a[:-1], pyramid_b[:-1], strict=True)]
    laplacian = pyramids.collapse_laplacian([*details, (pyramid_a[-1] + pyramid_b[-1]) / 2]).clamp(0, 1)
    return [torch.round(255 * x) / 255 for x in ((a + b) / 2, torch.maximum(a, b), laplacian)]


def reference(average: _Value, maximum: _Value, laplacian: _Value) -> _Value:
    """Return what standings are relative to, from a metric of each of the `plain_fusions`."""
    return (average + maximum + 2 * laplacian) / 4


def expected_ranks(a: Tensor, b: Tensor, f: Tensor, standings: Tensor) -> Tensor:
    """Return at what rank fused images (N, H, W) would stand among other methods, for each metric: (N, 10).

    `standings` (N, 10, K) says where K other methods stand, from `load_standings`: relative to the `reference` of the
    `plain_fusions`, as a ratio for `RATIOS`, as a difference for the others. A rank is smooth: each other method counts
    by a logistic function whose width is 0.3 of the methods' standard deviation.
    """
    with torch.no_grad():
        plain = [fusion_scores(a, b, x) for x in plain_fusions(a, b)]
    ranks = []
    for i, (name, value) in enumerate(fusion_scores(a, b, f).items()):
        level = reference(*(scores[name] for scores in plain))[:, None]
        others = standings[:, i] * level if name in RATIOS else standings[:, i] + level
        width = (_WIDTH * others.std(1, keepdim=True)).clamp_min(_LEAST_WIDTH)
        ranks.append(1 + torch.sigmoid((others - value[:, None]) / width).sum(1))
    return torch.stack(ranks, dim=1)


def load_standings() -> dict[str, Tensor]:
    """Return where other methods stand by kind of pair, (10, K) in the order of `METRICS`; "any" is their mean.

    `benchmarks/standings.py` made them from a table of other methods' metrics.
    """
    rows = csv.DictReader(files("nmfuse.training").joinpath("standings.csv").read_text().splitlines())
    values = {(row["kind"], row["metric"]): [float(x) for x in row["others"].split()] for row in rows}
    kinds = dict.fromkeys(kind for kind, _ in values)
    standings = {kind: torch.tensor([values[kind, metric] for metric in METRICS]) for kind in kinds}
    return standings | {"any": torch.stack(list(standings.values())).mean(0)}
