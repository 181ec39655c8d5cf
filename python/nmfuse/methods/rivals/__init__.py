"""The methods that image fusion is compared with, one file each, and what the registry says of them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nmfuse.methods.base import Rival

__all__ = ["ROWS", "Row"]


@dataclass(frozen=True)
class Row:
    """What is known of a method before its module is loaded.

    Attributes
    ----------
    name : str
        What it is asked for by.
    title : str
        In words.
    source : str
        Author, year, place.
    where : str
        "module:class" within this package.
    needs : tuple of str
        Packages beyond nmfuse's own, by import name; ``pip install nmfuse[compare]`` brings them.

    Examples
    --------
    >>> rows = {row.name: row for row in ROWS}
    >>> rows["pca"].load().__name__
    'Pca'
    """

    name: str
    title: str
    source: str
    where: str
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Packages that it needs and that are not there."""
        return tuple(package for package in self.needs if find_spec(package) is None)

    def load(self) -> type[Rival]:
        """Return its class; this imports its module."""
        module, name = self.where.split(":")
        method: type[Rival] = getattr(import_module(f"{__name__}.{module}"), name)
        return method


ROWS: tuple[Row, ...] = (
    Row("wavelet", "Haar wavelets, maximum of details with consistency check",
        "Li, Manjunath & Mitra, Graph. Models Image Process. 57 (1995)", "wavelet:Wavelet", ("pywt",)),
    Row("fuzzy", "Mamdani inference on the grey levels", "Mamdani & Assilian, IJMMS 7 (1975)", "fuzzy:Fuzzy"),
    Row("pca", "Weights of the first principal component", "Rockinger & Fechner, SPIE 3374 (1998)", "pca:Pca"),
    Row("mst-sr", "Laplacian pyramid, sparse representation of the low band",
        "Liu, Liu & Wang, Inf. Fusion 24 (2015)", "mst_sr:MstSr"),
    Row("nsct-pc", "Contourlets without subsampling, phase congruency and local Laplacian energy",
        "Zhu et al., IEEE Access 7 (2019)", "nsct_pc:NsctPc"),
    Row("asr", "Adaptive sparse representation, seven dictionaries by gradient orientation",
        "Liu & Wang, IET Image Process. 9 (2015)", "asr:Asr"),
    Row("cnn-liu", "Siamese CNN weight maps, Laplacian pyramid (our focus weights unless the authors' are given)",
        "Liu et al., FUSION 2017", "cnn_liu:CnnLiu"),
    Row("average", "Mean of all images", "-", "plain:Average"),
    Row("maximum", "Maximum of all images", "-", "plain:Maximum"),
    Row("laplacian", "Laplacian pyramid, maximum of details, averaged top",
        "Burt & Adelson, IEEE Trans. Commun. 31 (1983)", "plain:Laplacian"),
    Row("contrast", "Contrast pyramid, maximum of contrasts, averaged top",
        "Toet, Pattern Recognit. Lett. 9 (1989)", "plain:Contrast"),
    Row("dtcwt", "Dual-tree complex wavelets, maximum of details, averaged low band",
        "Lewis et al., Inf. Fusion 8 (2007)", "dtcwt_fusion:Dtcwt", ("dtcwt",)),
    Row("guided-filter", "Two scales, saliency weights smoothed by guided filters",
        "Li, Kang & Hu, IEEE TIP 22 (2013)", "guided_filter:GuidedFilter"),
    Row("mertens", "Exposure fusion by contrast and well-exposedness (OpenCV)",
        "Mertens, Kautz & Van Reeth, Pacific Graphics 2007", "mertens:Mertens", ("cv2",)),
)  # fmt: skip
