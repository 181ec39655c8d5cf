"""All methods by name, and the one way to make them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmfuse.methods.base import Method


@dataclass(frozen=True)
class Row:
    """The description of a method of fusion, which is known before its module is loaded.

    Attributes
    ----------
    name : str
        The name of the method, its key in `METHODS`.
    title : str
        What the method does, in words.
    source : str
        Author, place and year of its publication.
    where : str
        The module and the class within `nmfuse.methods`, as "module:class".
    options : mapping
        Options of its class that differ from the defaults of the class.
    needs : tuple of str
        The import names of packages that it needs in addition; ``pip install nmfuse[compare]`` installs them.

    Examples
    --------
    >>> METHODS["wavelet"].title
    'Haar wavelets, maximum of details with consistency check'
    """

    name: str
    title: str
    source: str
    where: str
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """The packages that it needs and that are not installed."""
        return tuple(package for package in self.needs if find_spec(package) is None)

    def load(self) -> type[Method]:
        """Import its module, and return its class, a dataclass of its options."""
        module, name = self.where.split(":")
        method: type[Method] = getattr(import_module(f"nmfuse.methods.{module}"), name)
        return method


METHODS: MappingProxyType[str, Row] = MappingProxyType(
    {
        row.name: row
        for row in (
            Row("learned", "Features, two-stage NMF and pyramid gates, trained together (the default)", "nmfuse",
                "learned:Learned"),
            Row("learned-all", "The same, trained also on pairs without a licence", "nmfuse", "learned:Learned",
                {"weights": "all"}),
            Row("paper", "The paper's structure, Laplacian pyramid", "Das et al., IJACSA 14 (2023); nmfuse",
                "paper:Paper"),
            Row("paper-letter", "The paper's letter: full network, denoised sources, contrast pyramid",
                "Das et al., IJACSA 14 (2023)", "paper:Paper",
                {"network": "full", "denoise": "all", "pyramid": "contrast"}),
            Row("wavelet", "Haar wavelets, maximum of details with consistency check",
                "Li, Manjunath & Mitra, Graph. Models Image Process. 57 (1995)", "rivals.wavelet:Wavelet",
                needs=("pywt",)),
            Row("fuzzy", "Mamdani inference on the grey levels", "Mamdani & Assilian, IJMMS 7 (1975)",
                "rivals.fuzzy:Fuzzy"),
            Row("pca", "Weights of the first principal component", "Rockinger & Fechner, SPIE 3374 (1998)",
                "rivals.pca:Pca"),
            Row("mst-sr", "Laplacian pyramid, sparse representation of the low band",
                "Liu, Liu & Wang, Inf. Fusion 24 (2015)", "rivals.mst_sr:MstSr"),
            Row("nsct-pc", "Contourlets without subsampling, phase congruency and local Laplacian energy",
                "Zhu et al., IEEE Access 7 (2019)", "rivals.nsct_pc:NsctPc"),
            Row("asr", "Adaptive sparse representation, seven dictionaries by gradient orientation",
                "Liu & Wang, IET Image Process. 9 (2015)", "rivals.asr:Asr"),
            Row("cnn-liu",
                "Siamese CNN weight maps, Laplacian pyramid (our focus weights unless the authors' are given)",
                "Liu et al., FUSION 2017", "rivals.cnn_liu:CnnLiu"),
            Row("average", "Mean of all images", "-", "rivals.plain:Average"),
            Row("maximum", "Maximum of all images", "-", "rivals.plain:Maximum"),
            Row("laplacian", "Laplacian pyramid, maximum of details, averaged top",
                "Burt & Adelson, IEEE Trans. Commun. 31 (1983)", "rivals.plain:Laplacian"),
            Row("contrast", "Contrast pyramid, maximum of contrasts, averaged top",
                "Toet, Pattern Recognit. Lett. 9 (1989)", "rivals.plain:Contrast"),
            Row("dtcwt", "Dual-tree complex wavelets, maximum of details, averaged low band",
                "Lewis et al., Inf. Fusion 8 (2007)", "rivals.dtcwt_fusion:Dtcwt", needs=("dtcwt",)),
            Row("guided-filter", "Two scales, saliency weights smoothed by guided filters",
                "Li, Kang & Hu, IEEE TIP 22 (2013)", "rivals.guided_filter:GuidedFilter"),
            Row("mertens", "Exposure fusion by contrast and well-exposedness (OpenCV)",
                "Mertens, Kautz & Van Reeth, Pacific Graphics 2007", "rivals.mertens:Mertens", needs=("cv2",)),
        )
    }
)  # fmt: skip


def make(name: str, **options: Any) -> Method:
    """Return a method with the given options, which replace those of its row and the defaults of its class.

    Raises
    ------
    ValueError
        For an unknown method, or an option that it does not have; the message names the methods that have it.
    ModuleNotFoundError
        If the method needs a package that is not installed.
    TypeError, ValueError
        For an option out of its range.

    Examples
    --------
    >>> make("laplacian", levels=3)
    Laplacian(levels=3)
    """
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(f"method: got {name!r}; expected one of {', '.join(METHODS)}")
    row = METHODS[name]
    if row.missing:
        raise ModuleNotFoundError(
            f"method {name!r} needs {', '.join(row.missing)}; pip install 'nmfuse[compare]'", name=row.missing[0]
        )
    method = row.load()
    known = option_names(method)
    for option in options:
        if option not in known:
            having = [other for other in METHODS if not METHODS[other].missing and option in _options_of(other)]
            whose = f"is an option of method={' or '.join(map(repr, having))}; " if having else ""
            raise ValueError(f"{option}: {whose}{name!r} has {', '.join(known) or 'no options'}")
    return method(**{**row.options, **options})


def option_names(method: type[Method]) -> tuple[str, ...]:
    """Return the names of a method's options.

    Examples
    --------
    >>> option_names(METHODS["laplacian"].load())
    ('levels',)
    """
    return tuple(f.name for f in dataclasses.fields(method))


def _options_of(name: str) -> tuple[str, ...]:
    return option_names(METHODS[name].load())
