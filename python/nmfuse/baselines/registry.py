"""All methods by name, and the one way to call them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nmfuse.fusion import Fuser, image

Image = NDArray[np.float64]  # (H, W) luminance, 0 to 1


@dataclass(frozen=True)
class Method:
    """A method of fusion.

    Attributes
    ----------
    name : str
        Key in `METHODS`.
    title : str
        In words.
    source : str
        Author, year, place.
    where : str
        "module:function" of ``f(a, b, **params)``, luminances (H, W) float64 in [0, 1]; or "Fuser" for nmfuse's own.
    params : mapping
        What it is called with where the caller says nothing.
    needs : tuple of str
        Packages beyond nmfuse's own, by import name; ``pip install nmfuse[compare]`` brings them.

    Examples
    --------
    >>> METHODS["wavelet"].title
    'Haar wavelets, maximum of details with consistency check'
    """

    name: str
    title: str
    source: str
    where: str
    params: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Packages that it needs and that are not there."""
        return tuple(package for package in self.needs if find_spec(package) is None)

    def function(self) -> Callable[..., Image]:
        """Return the function behind it."""
        module, name = self.where.split(":")
        function: Callable[..., Image] = getattr(import_module(f"nmfuse.baselines.{module}"), name)
        return function


def _ours(name: str, title: str, **params: Any) -> Method:
    return Method(name, title, "nmfuse", "Fuser", params)


METHODS: MappingProxyType[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            _ours("learned", "Siamese features, two-stage NMF and gates, trained together (the default)"),
            _ours("learned-all", "The same, trained also on pairs without a licence", fusion_network="all"),
            _ours("paper", "The paper's structure, Laplacian pyramid", method="paper"),
            _ours(
                "paper-letter", "The paper's letter: full network, denoised sources, contrast pyramid",
                method="paper", network="full", denoise="all", pyramid="contrast",
            ),
            Method("wavelet", "Haar wavelets, maximum of details with consistency check",
                   "Li, Manjunath & Mitra, Graph. Models Image Process. 57 (1995)", "wavelet:fuse", needs=("pywt",)),
            Method("fuzzy", "Mamdani inference on two grey levels", "Mamdani & Assilian, IJMMS 7 (1975)",
                   "fuzzy:fuse"),
            Method("pca", "Weights of the first principal component", "Rockinger & Fechner, SPIE 3374 (1998)",
                   "pca:fuse"),
            Method("mst-sr", "Laplacian pyramid, sparse representation of the low band",
                   "Liu, Liu & Wang, Inf. Fusion 24 (2015)", "mst_sr:fuse"),
            Method("nsct-pc", "Contourlets without subsampling, phase congruency and local Laplacian energy",
                   "Zhu et al., IEEE Access 7 (2019)", "nsct_pc:fuse"),
            Method("asr", "Adaptive sparse representation, seven dictionaries by gradient orientation",
                   "Liu & Wang, IET Image Process. 9 (2015)", "asr:fuse"),
            Method("cnn-liu",
                   "Siamese CNN weight map, Laplacian pyramid (our focus weights unless the authors' are given)",
                   "Liu et al., FUSION 2017", "cnn_liu:fuse"),
            Method("average", "Mean of both images", "-", "plain:average"),
            Method("maximum", "Maximum of both images", "-", "plain:maximum"),
            Method("laplacian", "Laplacian pyramid, maximum of details, averaged top",
                   "Burt & Adelson, IEEE Trans. Commun. 31 (1983)", "plain:laplacian"),
            Method("contrast", "Contrast pyramid, maximum of contrasts, averaged top",
                   "Toet, Pattern Recognit. Lett. 9 (1989)", "plain:contrast"),
            Method("dtcwt", "Dual-tree complex wavelets, maximum of details, averaged low band",
                   "Lewis et al., Inf. Fusion 8 (2007)", "dtcwt_fusion:fuse", needs=("dtcwt",)),
            Method("guided-filter", "Two scales, saliency weights smoothed by guided filters",
                   "Li, Kang & Hu, IEEE TIP 22 (2013)", "guided_filter:fuse"),
            Method("mertens", "Exposure fusion by contrast and well-exposedness (OpenCV)",
                   "Mertens, Kautz & Van Reeth, Pacific Graphics 2007", "mertens:fuse", needs=("cv2",)),
        )
    }
)  # fmt: skip


def fuse(
    a: Any, b: Any, method: str = "learned", *, data_range: tuple[float, float] | None = None, **params: Any
) -> Any:
    """Fuse two registered images by any method, ours or a rival's.

    Parameters
    ----------
    a, b, data_range
        As `nmfuse.fuse`: grey or colour, uint8, uint16, float32 or float64. Colour is fused as luminance and gets its
        chroma back, whatever the method.
    method : str
        A name in `METHODS`.
    **params
        Of the method; see its function.

    Returns
    -------
    array or tensor
        Of the sources' kind, dtype and range.

    Raises
    ------
    KeyError
        Never: an unknown method is a ValueError that lists those there are.
    ValueError, TypeError
        As `nmfuse.fuse`; for an unknown method or parameter.
    ModuleNotFoundError
        If the method needs a package that is not there.

    Examples
    --------
    >>> from nmfuse.data import brain_phantom
    >>> phantom = brain_phantom(64)
    >>> fuse(phantom.t2, phantom.ct, "pca").shape
    (64, 64)
    """
    if method not in METHODS:
        raise ValueError(f"method: got {method!r}; expected one of {', '.join(METHODS)}")
    chosen = METHODS[method]
    if chosen.missing:
        raise ModuleNotFoundError(
            f"method {method!r} needs {', '.join(chosen.missing)}; pip install 'nmfuse[compare]'",
            name=chosen.missing[0],
        )
    options = {**chosen.params, **params}
    if chosen.where == "Fuser":
        return Fuser(**options).fuse(a, b, data_range=data_range)
    function = chosen.function()
    known = list(inspect.signature(function).parameters)[2:]
    for name in options:
        if name not in known:
            raise ValueError(f"{name}: is no parameter of {method!r}; expected {', '.join(known) or 'none'}")
    image_a, image_b, form = image.take_pair(a, b, data_range)
    y_a, y_b = (image.luminance(x) for x in (image_a, image_b))
    fused = function(y_a.cpu().double().numpy(), y_b.cpu().double().numpy(), **options)
    y = torch.from_numpy(np.clip(fused, 0, 1)).to(y_a)
    return image.give_back(image.with_chroma(y, image.chroma(image_a, image_b)), form)
