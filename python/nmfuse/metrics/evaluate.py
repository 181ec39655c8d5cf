"""`evaluate`: the value of a fused image, by the metrics that the literature reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from nmfuse.metrics import fidelity, gradient, information, perceptual, statistics, structural
from nmfuse.metrics._input import Images, take_images


@dataclass(frozen=True)
class Metric:
    """A metric: its name, the meaning of its values, and the function that computes it.

    Attributes
    ----------
    name : str
        The name, which is its key in `METRICS` and in the result of `evaluate`.
    title : str
        What the metric measures, in words.
    range : str
        The range of its values, where "n" is the number of sources.
    higher_is_better : bool or None
        Whether a higher value is better; None if neither is better, for metrics that only describe.
    source : str
        Author, place and year of its publication.
    function : callable
        The function, which takes checked `Images` and returns float64 values of shape (N,).
    least_side : int
        The least height and width that it needs, in pixels.
    pairs_only : bool
        True if it is only defined for two sources.

    Examples
    --------
    >>> from nmfuse.metrics import METRICS
    >>> METRICS["N_abf"].title, METRICS["N_abf"].higher_is_better
    ('artifacts of fusion', False)
    """

    name: str
    title: str
    range: str
    higher_is_better: bool | None
    source: str
    function: Callable[[Images], Tensor]
    least_side: int = 2
    pairs_only: bool = False

    def defined(self, sources: int, side: int) -> bool:
        """Return whether it is defined for this number of sources, and for images with this shorter side in pixels."""
        return side >= self.least_side and (sources == 2 or not self.pairs_only)


_PETROVIC = "Petrovic & Xydeas, Inf. Fusion 6 (2005)"
_PIELLA = "Piella & Heijmans, ICIP 2003"
_VIF = "Sheikh & Bovik, IEEE TIP 15 (2006)"
_FMI = "Haghighat & Razian, AICT 2014"

_ALL = (
    Metric("EN", "entropy", "0..8 bit", True, "Roberts et al., JARS 2 (2008)", information.entropy),
    Metric("SD", "standard deviation", "0..127.5", True, "definition", statistics.standard_deviation),
    Metric(
        "SF", "spatial frequency", ">= 0", True, "Eskicioglu & Fisher, IEEE TC 43 (1995)", statistics.spatial_frequency
    ),
    Metric("AG", "average gradient", ">= 0", True, "Cui et al., Opt. Comm. 341 (2015)", statistics.average_gradient),
    Metric(
        "MI",
        "mutual information",
        "0..8n bit",
        True,
        "Qu, Zhang & Yan, El. Lett. 38 (2002)",
        information.mutual_information,
    ),
    Metric(
        "Q_MI",
        "normalised mutual information",
        "0..n",
        True,
        "Hossny, Nahavandi & Creighton, El. Lett. 44 (2008)",
        information.normalised_mutual_information,
    ),
    Metric(
        "MI_Tsallis",
        "Tsallis mutual information, q = 1.85",
        ">= 0",
        True,
        "Cvejic, Canagarajah & Bull, El. Lett. 42 (2006)",
        information.tsallis_information,
    ),
    Metric(
        "Q_TE",
        "Tsallis quality, q = 0.43137",
        "unbounded",
        True,
        "Nava et al., Proc. IBERAMIA (2007)",
        information.tsallis_quality,
        pairs_only=True,
    ),
    Metric(
        "Q_TE_toolbox",
        "Tsallis quality as the toolbox computes it",
        "unbounded",
        True,
        "Liu et al., IEEE TPAMI 34 (2012), imageFusionMetrics",
        information.tsallis_quality_toolbox,
        pairs_only=True,
    ),
    Metric(
        "IR",
        "information ratio",
        "0..1",
        True,
        "named in Das et al., IJACSA 14 (2023); defined here",
        information.information_ratio,
    ),
    Metric("Q_abf", "edge transfer", "0..1", True, "Xydeas & Petrovic, El. Lett. 36 (2000)", gradient.edge_transfer),
    Metric("L_abf", "loss of edges", "0..1", False, _PETROVIC, gradient.fusion_loss),
    Metric(
        "N_abf",
        "artifacts of fusion",
        "0..1",
        False,
        f"{_PETROVIC}; Shreyamsha Kumar, SIViP 7 (2013)",
        gradient.fusion_artifacts,
    ),
    Metric(
        "SSIM",
        "structural similarity",
        "-1..1",
        True,
        "Wang et al., IEEE TIP 13 (2004)",
        structural.structural_similarity,
        least_side=11,
    ),
    Metric(
        "MS_SSIM",
        "multi-scale structural similarity",
        "0..1",
        True,
        "Wang, Simoncelli & Bovik, Asilomar 2003",
        structural.multi_scale_similarity,
        least_side=176,
    ),
    Metric("Q_S", "saliency-weighted quality", "-1..1", True, _PIELLA, structural.saliency_quality, least_side=8),
    Metric("Q_W", "weighted quality", "-1..1", True, _PIELLA, structural.weighted_quality, least_side=8),
    Metric("Q_E", "edge-dependent quality", "-1..1", True, _PIELLA, structural.edge_quality, least_side=8),
    Metric(
        "Q_Y",
        "similarity to the better source",
        "-1..1",
        True,
        "Yang et al., Inf. Fusion 9 (2008)",
        structural.yang_quality,
        least_side=7,
        pairs_only=True,
    ),
    Metric(
        "VIF",
        "visual information fidelity",
        ">= 0; n if all are the same",
        True,
        _VIF,
        fidelity.visual_information_fidelity,
        least_side=41,
    ),
    Metric(
        "VIFF",
        "visual information fidelity for fusion",
        ">= 0",
        True,
        "Han et al., Inf. Fusion 14 (2013)",
        fidelity.fusion_fidelity,
        least_side=41,
    ),
    Metric(
        "SCD",
        "sum of the correlations of differences",
        "-2..2",
        True,
        "Aslantas & Bendes, AEU 69 (2015)",
        statistics.sum_of_correlations_of_differences,
        pairs_only=True,
    ),
    Metric("CC", "correlation coefficient", "-1..1", True, "Pearson; mean over sources", statistics.correlation),
    Metric(
        "Q_CB",
        "perceived contrast",
        "0..1",
        True,
        "Chen & Blum, Image Vis. Comput. 27 (2009)",
        perceptual.contrast_quality,
    ),
    Metric("FMI_pixel", "feature mutual information, pixels", "0..1", True, _FMI, information.fmi_pixel, least_side=3),
    Metric(
        "FMI_gradient",
        "feature mutual information, gradient",
        "0..1",
        True,
        _FMI,
        information.fmi_gradient,
        least_side=3,
    ),
    Metric(
        "VIF_min",
        "fidelity to the worse-served source",
        ">= 0",
        True,
        f"{_VIF}; minimum defined here",
        fidelity.least_fidelity,
        least_side=41,
    ),
    Metric(
        "Q_over",
        "edge transfer of the worse-served source, on the overlap",
        "0..1",
        True,
        "Xydeas & Petrovic, El. Lett. 36 (2000); overlap defined here",
        gradient.overlap_quality,
    ),
    Metric("PSNR", "peak signal to noise ratio", ">= 0 dB", True, "definition", statistics.peak_signal_to_noise),
    Metric("RMSE", "root mean square error", "0..255", False, "definition", statistics.root_mean_square_error),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _ALL})
"""Every metric by its name, in the order in which tables print them."""


def evaluate(
    fused: Any,
    sources: Sequence[Any],
    *,
    window: Any = None,
    data_range: float | tuple[float, float] | None = None,
    metrics: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Measure a fused image by comparing it with the images that it was made of.

    The computation is in float64 (the windows of FMI in float32), on the scale 0..255, on the device of the images. A
    ratio whose denominator is 0, for example that of two flat images, counts as 0, since there is nothing to measure.

    Parameters
    ----------
    fused : (H, W) or (..., H, W) NumPy array or torch tensor, or an `Image` of one
        The fused image, with one channel, in uint8, uint16, int16, int32 or floating point. Leading axes are a batch.
        Pixels of an `Image` that are not valid count as black.
    sources : sequence of arrays like `fused`
        Two or more registered images of the same shape, kind and device, and of the same dtype if no window is given.
    window : None, (low, high), "minmax", "auto" or the name of a preset, or a list of these, optional
        The values that are black and white: one window for all images, or a list with one for the fused image and then
        one for each source. Each image, also each one of a batch, is clipped to its window. None means 0..255 for uint8
        and 0..65535 for uint16. See `nmfuse.images.window`.
    data_range : (low, high) or float, optional
        The values that are black and white in all images; values outside are refused. A single number is the value of
        white, with 0 as black, and values outside are used as they are. If neither this nor a window is given, the
        range is 0..255 for uint8 and 0..65535 for uint16; other dtypes need one of both.
    metrics : iterable of str, optional
        The names of metrics in `METRICS`; by default all that are defined for this number of sources.

    Returns
    -------
    dict of str to float
        The value of each metric, in the order asked for. For a batch, a float64 array or tensor (as `fused` is) of
        the batch shape.

    Raises
    ------
    TypeError
        If an image is neither a NumPy array nor a tensor, kinds are mixed, or a dtype, window or range is not of a
        supported kind.
    ValueError
        If shapes or devices differ; if an image is empty, RGB or not finite; if the range of floating-point values is
        not given or exceeded; if both a window and a range are given; if a name is unknown; or if a metric is not
        defined for this size or number of sources.
    CudaUnavailable
        For FMI of tensors on a CUDA device, where nmfuse was built without CUDA.

    Examples
    --------
    >>> import numpy as np
    >>> from nmfuse.metrics import evaluate
    >>> rows, columns = np.mgrid[:64, :64]
    >>> a, b = (rows * 4).astype(np.uint8), (columns * 4).astype(np.uint8)
    >>> values = evaluate(np.maximum(a, b), [a, b], metrics=("EN", "MI", "SSIM"))
    >>> {name: round(value, 3) for name, value in values.items()}
    {'EN': 5.722, 'MI': 4.816, 'SSIM': 0.68}
    >>> round(evaluate(a / 255, [a / 255, a / 255], data_range=1.0, metrics=["VIF"])["VIF"], 6)
    2.0
    >>> hounsfield = (20 * columns - 100).astype(np.int16)  # of a CT, beside 8 bits
    >>> values = evaluate(np.maximum(a, b), [a, hounsfield], window=[None, None, (-100, 1160)], metrics=["CC"])
    >>> round(values["CC"], 3)
    0.612

    References
    ----------
    Each metric's definition is in the docstring of ``METRICS[name].function``, its source in ``METRICS[name].source``.
    Liu et al., IEEE TPAMI 34 (2012) 94-109, compares many of them.
    """
    chosen = _choose(metrics)
    images, origin = take_images(fused, sources, window=window, data_range=data_range)
    if metrics is None and len(images.sources) != 2:
        chosen = [metric for metric in chosen if not metric.pairs_only]
    for metric in chosen:
        _check_defined(metric, images)
    with torch.no_grad():
        chunks = [[metric.function(chunk) for metric in chosen] for chunk in images.chunks()]
    values = zip(*chunks, strict=True)
    return {metric.name: origin.give_back(torch.cat(v)) for metric, v in zip(chosen, values, strict=True)}


def _choose(names: Iterable[str] | None) -> list[Metric]:
    if names is None:
        return list(METRICS.values())
    if isinstance(names, str):
        raise TypeError(f"metrics: got the string {names!r}; expected a sequence of names, such as [{names!r}]")
    names = list(names)
    for name in names:
        if name not in METRICS:
            raise ValueError(f"metrics: {name!r} is not known; expected some of {', '.join(METRICS)}")
    return [METRICS[name] for name in names]


def _check_defined(metric: Metric, images: Images) -> None:
    count, (height, width) = len(images.sources), images.fused.shape[-2:]
    if metric.pairs_only and count != 2:
        raise ValueError(
            f"metrics: {metric.name} is defined for exactly two sources, but got {count}; "
            "evaluate the pairs one by one, or leave it out"
        )
    if min(height, width) < metric.least_side:
        raise ValueError(
            f"fused: size {height} x {width} is too small for {metric.name}, which needs at least "
            f"{metric.least_side} x {metric.least_side} pixels; name the metrics that you want in `metrics`"
        )
