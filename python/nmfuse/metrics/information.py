"""Information metrics on histograms of 256 grey levels, and feature mutual information."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from nmfuse.metrics._filters import mean, ratio
from nmfuse.metrics._input import Images

_LEVELS = 256
_Q_CVEJIC = 1.85
_Q_NAVA = 0.43137
_TINY = 1e-300  # in place of 0 in a logarithm that is multiplied by 0
_MANY = 0.8  # of the windows: picking out so many costs more than computing all
_PIECE = 1 << 14  # windows at a time: what is computed of them stays in the cache


def entropy(images: Images) -> Tensor:
    """EN: Shannon entropy of the fused image's histogram, in bits (Roberts et al. 2008)."""
    return _shannon(_marginal(images, 0))


def mutual_information(images: Images) -> Tensor:
    """MI: ``sum_k I(S_k; F)`` in bits (Qu, Zhang & Yan 2002).

    Some toolboxes take natural logarithms: their values are 0.693 times these. It rises with the entropy of the
    images and favours averaging; do not rank on it alone.
    """
    return torch.stack([_shannon_information(images, 0, k) for k in _source_indices(images)]).sum(0)


def normalised_mutual_information(images: Images) -> Tensor:
    """Q_MI: ``2 sum_k I(S_k; F) / (H(S_k) + H(F))`` (Hossny, Nahavandi & Creighton 2008). Favours averaging, as MI."""
    h_f = _shannon(_marginal(images, 0))
    terms = [
        ratio(_shannon_information(images, 0, k), _shannon(_marginal(images, k)) + h_f) for k in _source_indices(images)
    ]
    return 2 * torch.stack(terms).sum(0)


def information_ratio(images: Images) -> Tensor:
    """IR: ``sum_k I(S_k; F) / sum_k H(S_k)``, the part of the sources' entropy that the fused image tells.

    The name is from Das et al., IJACSA 2023, Table III, which does not define it; this definition is ours.
    """
    h = torch.stack([_shannon(_marginal(images, k)) for k in _source_indices(images)]).sum(0)
    return ratio(mutual_information(images), h)


def tsallis_information(images: Images) -> Tensor:
    """MI_Tsallis: ``sum_k I^q(S_k; F)`` with q = 1.85 (Cvejic, Canagarajah & Bull 2006).

    ``I^q(X; F) = (1 - sum p(x, f)^q / (p(x) p(f))^(q-1)) / (1 - q)``.
    """
    terms = [_tsallis_information(images, 0, k, _Q_CVEJIC) for k in _source_indices(images)]
    return torch.stack(terms).sum(0)


def tsallis_quality(images: Images) -> Tensor:
    """Q_TE: ``(I^q(A; F) + I^q(B; F)) / (H^q(A) + H^q(B) - I^q(A; B))``, q = 0.43137 (Nava et al. 2007).

    ``H^q = (1 - sum p^q) / (q - 1)``. Values in the literature are mostly those of a toolbox that departs from this
    definition and are several times larger: see Q_TE_toolbox.
    """
    a, b = (
        _tsallis_entropy(_marginal(images, 1), _Q_NAVA),
        _tsallis_entropy(_marginal(images, 2), _Q_NAVA),
    )
    shared = sum(_tsallis_information(images, 0, k, _Q_NAVA) for k in (1, 2))
    return ratio(torch.as_tensor(shared), a + b - _tsallis_information(images, 1, 2, _Q_NAVA))


def tsallis_quality_toolbox(images: Images) -> Tensor:
    """Q_TE_toolbox: Q_TE as the imageFusionMetrics toolbox of Liu et al. (TPAMI 2012) computes it.

    Only to compare with published values. It departs from the definition thrice: the two marginals are exchanged in
    I^q (``p(x)`` is looked up at f, and the reverse); the denominator has Shannon entropies to the power q, in bits,
    where the Tsallis entropies belong; and I^q(A; B) is added there instead of subtracted. The images are stretched to
    0..255 first.
    """
    stretched = images.stretched()
    h = sum(_shannon(_marginal(stretched, k)) ** _Q_NAVA for k in (1, 2))
    i_af, i_bf, i_ab = (
        _tsallis_information(stretched, i, j, _Q_NAVA, swapped=True) for i, j in ((0, 1), (0, 2), (1, 2))
    )
    return ratio(i_af + i_bf, h + i_ab)


def fmi_pixel(images: Images) -> Tensor:
    """FMI_pixel: mean over the sources of the fast feature mutual information of grey levels (Haghighat 2014).

    Haghighat & Razian, "Fast-FMI: non-reference image fusion metric", AICT 2014. The 3 x 3 pixels of a window are
    read as a probability distribution; the joint distribution of two is the mixture of the independent one and the
    Frechet bound that has their correlation. Per window ``2 I / (H_S + H_F)``, then the mean.
    """
    return _fmi(images.fused, images.sources)


def fmi_gradient(images: Images) -> Tensor:
    """FMI_gradient: as FMI_pixel, on the horizontal derivative (central differences, one-sided at the border)."""
    fused, *sources = (torch.gradient(x, dim=-1)[0] for x in images.all)
    return _fmi(fused, tuple(sources))


def _source_indices(images: Images) -> range:
    return range(1, len(images.sources) + 1)


def _levels(images: Images, index: int) -> Tensor:
    """Return (N, H*W) grey levels 0..255 of the fused image (0) or of source `index` - 1, rounded and clipped."""
    return images.once(("levels", index), lambda: images.all[index].round().clamp(0, 255).long().flatten(1))


def _counts(levels: Tensor, bins: int) -> Tensor:
    """Return the relative frequencies (N, bins) of (N, pixels) integers."""
    n, pixels = levels.shape
    offset = torch.arange(n, device=levels.device)[:, None] * bins
    return torch.bincount((levels + offset).flatten(), minlength=n * bins).reshape(n, bins).double() / pixels


def _marginal(images: Images, index: int) -> Tensor:
    return images.once(("marginal", index), lambda: _counts(_levels(images, index), _LEVELS))


def _joint(images: Images, i: int, j: int) -> Tensor:
    """Return (N, 256, 256): rows are the levels of image i, columns of image j."""

    def compute() -> Tensor:
        levels = _levels(images, i) * _LEVELS + _levels(images, j)
        return _counts(levels, _LEVELS * _LEVELS).reshape(-1, _LEVELS, _LEVELS)

    return images.once(("joint", i, j), compute)


def _shannon(p: Tensor) -> Tensor:
    return -torch.xlogy(p, p).sum(-1) / math.log(2)


def _shannon_information(images: Images, i: int, j: int) -> Tensor:
    def compute() -> Tensor:
        joint = _joint(images, i, j)
        return _shannon(_marginal(images, i)) + _shannon(_marginal(images, j)) - _shannon(joint.flatten(1))

    return images.once(("I", i, j), compute)


def _tsallis_entropy(p: Tensor, q: float) -> Tensor:
    return (1 - _power(p, q).sum(-1)) / (q - 1)


def _tsallis_information(images: Images, i: int, j: int, q: float, swapped: bool = False) -> Tensor:
    joint = _joint(images, i, j)
    p, r = _marginal(images, i), _marginal(images, j)
    if swapped:
        p, r = r, p
    independent = p[:, :, None] * r[:, None, :]
    terms = torch.where(independent > 0, _power(joint, q) * independent.clamp_min(_TINY) ** (1 - q), 0.0)
    return (1 - terms.sum((-2, -1))) / (1 - q)


def _power(p: Tensor, q: float) -> Tensor:
    return torch.where(p > 0, p**q, 0.0)


def _fmi(fused: Tensor, sources: tuple[Tensor, ...]) -> Tensor:
    height, width = fused.shape[-2] - 2, fused.shape[-1] - 2
    rows = max(1, (_PIECE if fused.is_cpu else _PIECE << 6) // (len(fused) * width))
    pieces = []
    for y in range(0, height, rows):
        f, *others = (_windows(x[..., y : y + rows + 2, :]) for x in (fused, *sources))
        r = _distribution(f)
        information = [_window_information(a, f, r) for a in others]
        pieces.append(torch.stack(information).mean(0).reshape(len(fused), -1, width))
    return mean(torch.cat(pieces, 1))


def _windows(x: Tensor) -> Tensor:
    """Return the nine pixels of every 3 x 3 window, column by column: (9, N (H - 2) (W - 2))."""
    h, w = x.shape[-2] - 2, x.shape[-1] - 2
    return torch.stack([x[..., i : i + h, j : j + w] for j in range(3) for i in range(3)]).flatten(1)


def _distribution(x: Tensor) -> Tensor:
    """Read (9, n) values, less their minimum, as probabilities; nine equal values are uniform."""
    x = (x - x.amin(0)).float()  # single precision does from here on
    s = x.sum(0)
    return torch.where(s > 0, x / torch.where(s > 0, s, 1.0), 1 / 9)


def _window_information(a: Tensor, f: Tensor, r: Tensor) -> Tensor:
    """Return the information (n) that windows a share with windows f (9, n), whose distributions are r.

    Equal windows share all, and a flat window shares nothing with another: where these are many, only the rest is
    computed.
    """
    equal = (a == f).all(0)
    rest = ~equal & (a != a[0]).any(0) & (f != f[0]).any(0)
    count = int(rest.sum())
    if count > _MANY * len(rest):
        return torch.where(rest, _coupled_information(_distribution(a), r), equal.double())
    information = equal.double()
    if count:
        information[rest] = _coupled_information(_distribution(a[:, rest]), r[:, rest])
    return information


def _coupled_information(p: Tensor, r: Tensor) -> Tensor:
    """Return ``2 I / (H_p + H_r)`` (n) of (9, n) distributions that are coupled as strongly as they correlate.

    Neither may be uniform: what it is then is chance.
    """
    dp, dr = p - p.mean(0), r - r.mean(0)
    c = ratio((dp * dr).sum(0), ((dp * dp).sum(0) * (dr * dr).sum(0)).sqrt())
    spread = _index_deviation(p) * _index_deviation(r)
    # the lower Frechet bound is the upper bound of p and r reversed, and the covariance changes its sign
    r = torch.where(c < 0, r.flip(0), r)
    # the upper bound is a staircase: 17 steps between the values of both distribution functions, in cells (i, j)
    edges, from_p = _merged(p.cumsum(0)[:-1], r.cumsum(0)[:-1])
    steps = functional.pad(edges, (0, 0, 1, 1)).diff(dim=0)
    steps[-1] += 1
    i = torch.zeros_like(steps, dtype=torch.int64)
    torch.cumsum(from_p, 0, out=i[1:])
    j = torch.arange(len(steps), device=p.device)[:, None] - i
    covariance = (i - _index_mean(p)).mul_(j - _index_mean(r)).mul_(steps).sum(0)
    phi = ratio(c.abs() * spread, torch.where(spread > 0, covariance, 0.0))
    h = -_times_log(p).add_(_times_log(r)).sum(0)
    # the entropy of the independent part in all 81 cells, and what the steps change in theirs
    independent = p.gather(0, i).mul_(r.gather(0, j)).mul_(1 - phi)
    h_independent = (1 - phi) * h - _times_log(1 - phi)
    h_joint = h_independent - _times_log(steps.mul_(phi).add_(independent)).sub_(_times_log(independent)).sum(0)
    return 2 * ratio(h - h_joint, h).double()


def _merged(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Merge two (8, n) rising float32 sequences in [0, 1]: the values (16, n), and 1 where one comes from x, else 0.

    By a bitonic network on the bits, of which the last says where a value comes from.
    """
    bits = torch.cat([x.view(torch.int32) | 1, y.flip(0).view(torch.int32) & ~1])
    for half in (8, 4, 2, 1):
        low, high = bits.view(-1, 2, half, bits.shape[-1]).unbind(1)
        bits = torch.stack([torch.minimum(low, high), torch.maximum(low, high)], 1).flatten(0, 2)
    return bits.view(torch.float32), bits & 1


def _times_log(x: Tensor) -> Tensor:
    """Return x log |x|: phi may exceed 1, and then the published program takes the real part of the logarithm."""
    return x.abs().clamp_min_(torch.finfo(x.dtype).tiny).log_().mul_(x)


def _index_mean(p: Tensor) -> Tensor:
    """Return the mean of the index 0..8 under each of (9, n) distributions."""
    return torch.arange(len(p), dtype=p.dtype, device=p.device) @ p


def _index_deviation(p: Tensor) -> Tensor:
    """Return the standard deviation of the index under each of (9, n) distributions."""
    index = torch.arange(len(p), dtype=p.dtype, device=p.device)[:, None]
    return (index - _index_mean(p)).square_().mul_(p).sum(0).sqrt()
