"""Information metrics on histograms of 256 grey levels, and feature mutual information."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nmfuse.kernels import window_information
from nmfuse.metrics._filters import mean, ratio
from nmfuse.metrics._input import Images

_LEVELS = 256
_Q_CVEJIC = 1.85
_Q_NAVA = 0.43137
_TINY = 1e-300  # in place of 0 in a logarithm that is multiplied by 0


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
    return torch.stack([mean(window_information(source, fused).double()) for source in sources]).mean(0)
