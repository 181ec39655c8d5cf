"""What a file carries besides its pixels, by the names that it has in `Image.carried`.

The ICC profile, EXIF and XMP (``icc_profile``, ``exif``, ``xmp``) are bytes, the resolution (``dpi``) is (x, y) in
pixels per inch, all as Pillow has them; ``geotiff`` is a dict of TIFF tags: code -> (type, count, value).
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmfuse.images import Image
from nmfuse.io.orientation import TURNED

if TYPE_CHECKING:
    from PIL.Image import Exif
    from PIL.Image import Image as Picture

log = logging.getLogger("nmfuse.io")
ORIENTATION = 274
EXIF_IFD, GPS_IFD = 34665, 34853
TEXTS = (270, 271, 272, 305, 306, 315, 316, 33432)  # description, make, model, software, date, artist, host, copyright
_X, _Y, _UNIT = 282, 283, 296  # resolution
_INCH, _CM = 2, 3
_NO_LONGER_TRUE = (37500, 40962, 40963, 40965)  # a maker's note, whose offsets are of its file; sizes; interoperability
_TAKEN = {
    "PNG": ("icc_profile", "exif", "xmp", "dpi"),
    "JPEG": ("icc_profile", "exif", "xmp", "dpi"),
    "WebP": ("icc_profile", "exif", "xmp"),
    "AVIF": ("icc_profile", "exif", "xmp"),
    "BMP": ("dpi",),
}
_SEGMENT = 65000  # bytes that a JPEG has for EXIF, and for XMP
_TURNED_XMP = re.compile(rb'\s*tiff:Orientation="[0-9]"|<tiff:Orientation>[0-9]</tiff:Orientation>')


@contextmanager
def warnings_logged(path: Path, library: str) -> Iterator[None]:
    """Log what a library warns of or logs: most files break their standard somewhere in what is no part of the image.

    Examples
    --------
    >>> with warnings_logged(Path("x.tif"), "tifffile"):
    ...     warnings.warn("said in the log of nmfuse.io", stacklevel=1)
    """
    theirs, said = logging.getLogger(library), []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    propagate, theirs.propagate = theirs.propagate, False
    theirs.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        theirs.removeHandler(handler)
        theirs.propagate = propagate
        for text in dict.fromkeys([*said, *(str(warning.message) for warning in caught)]):
            log.info("%s: %s", path, text)


def exif_of(path: Path, picture: Picture) -> Exif:
    """Return the EXIF of a picture of Pillow; none where it is broken, which is logged.

    Examples
    --------
    >>> from PIL import Image as Pillow
    >>> len(exif_of(Path("x.png"), Pillow.new("L", (4, 4))))
    0
    """
    from PIL.Image import Exif as Empty

    try:
        return picture.getexif()
    except Exception as error:  # what cameras write is often broken, and the image is not
        log.warning("%s: its EXIF cannot be understood, and is left out (%s: %s)", path, type(error).__name__, error)
        return Empty()


def of_picture(path: Path, picture: Picture, exif: Exif) -> dict[str, Any]:
    """Return what a picture of Pillow carries, but for its orientation, which the reader applies.

    Examples
    --------
    >>> from PIL import Image as Pillow
    >>> picture = Pillow.new("L", (4, 4))
    >>> picture.info["dpi"] = (300.0, 300.0)
    >>> of_picture(Path("x.png"), picture, picture.getexif())
    {'dpi': (300.0, 300.0)}
    """
    carried: dict[str, Any] = {}
    if profile := picture.info.get("icc_profile"):
        carried["icc_profile"] = bytes(profile)
    if kept := kept_exif(path, exif):
        carried["exif"] = kept
    if xmp := picture.info.get("xmp"):
        carried["xmp"] = kept_xmp(xmp)
    if dpi := picture.info.get("dpi") or _dpi_of(exif):
        carried["dpi"] = turned((float(dpi[0]), float(dpi[1])), exif.get(ORIENTATION, 1))
    return carried


def turned(dpi: tuple[float, float], orientation: int) -> tuple[float, float]:
    """Return a resolution as it is when the image is upright.

    Examples
    --------
    >>> turned((300.0, 150.0), 6)
    (150.0, 300.0)
    """
    return (dpi[1], dpi[0]) if orientation in TURNED else dpi


def kept_exif(path: Path, exif: Exif) -> bytes | None:
    """Return EXIF without orientation, thumbnail, and what holds no longer; None where nothing is left.

    Examples
    --------
    >>> from PIL import Image as Pillow
    >>> exif = Pillow.Exif()
    >>> exif[274], exif[271] = 6, "a maker"
    >>> kept = Pillow.Exif()
    >>> kept.load(kept_exif(Path("x.jpg"), exif))
    >>> dict(kept)
    {271: 'a maker'}
    """
    from PIL.Image import Exif as Empty

    try:
        kept = Empty()
        for code in TEXTS:
            if code in exif:
                kept[code] = exif[code]
        for code in (EXIF_IFD, GPS_IFD):
            inner = {tag: value for tag, value in exif.get_ifd(code).items() if tag not in _NO_LONGER_TRUE}
            if inner:
                kept[code] = inner
        return kept.tobytes() if len(kept) else None
    except Exception as error:  # as above: what is in it
        log.warning("%s: its EXIF cannot be understood, and is left out (%s: %s)", path, type(error).__name__, error)
        return None


def kept_xmp(xmp: bytes | str) -> bytes:
    """Return XMP without the orientation.

    Examples
    --------
    >>> kept_xmp('<x tiff:Orientation="6" a="b"/>')
    b'<x a="b"/>'
    """
    return _TURNED_XMP.sub(b"", xmp.encode() if isinstance(xmp, str) else bytes(xmp))


def resolution(x: Any, y: Any, unit: int) -> tuple[float, float] | None:
    """Return a resolution in pixels per inch; None where its unit is no length.

    Examples
    --------
    >>> resolution(100, 100, 3)
    (254.0, 254.0)
    """
    if unit not in (_INCH, _CM) or not (0 < float(x) < 1e6 and 0 < float(y) < 1e6):
        return None
    factor = 2.54 if unit == _CM else 1.0
    return float(x) * factor, float(y) * factor


def _dpi_of(exif: Exif) -> tuple[float, float] | None:
    try:
        return resolution(exif[_X], exif[_Y], exif.get(_UNIT, _INCH))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def profile_for(image: Image) -> bytes | None:
    """Return the ICC profile of an image, where it fits its pixels; that it does not is logged.

    Examples
    --------
    >>> import numpy as np
    >>> profile_for(Image(np.zeros((4, 4), np.uint8)))
    """
    profile: bytes | None = image.carried.get("icc_profile")
    kind, space = ("colour", b"RGB ") if image.ndim == 3 else ("grey", b"GRAY")
    if profile is None or profile[16:20] == space:
        return profile
    log.warning(
        "%s: its colour profile (%s) does not fit the %s image that is written, and is left out",
        image.name or "image",
        profile[16:20].decode("ascii", "replace").strip(),
        kind,
    )
    return None


def for_pillow(image: Image, name: str) -> dict[str, Any]:
    """Return what an image carries as options of Pillow's ``save``, as far as the format of a name takes them.

    Examples
    --------
    >>> import numpy as np
    >>> image = Image(np.zeros((4, 4), np.uint8), carried={"dpi": (72.0, 72.0), "xmp": b"<x/>"})
    >>> for_pillow(image, "BMP")
    {'dpi': (72.0, 72.0)}
    """
    from PIL.Image import Exif as Empty
    from PIL.PngImagePlugin import PngInfo

    carried = image.carried
    options: dict[str, Any] = {key: carried[key] for key in _TAKEN[name] if key in carried}
    if "icc_profile" in options:
        options["icc_profile"] = profile_for(image)
    if "exif" in _TAKEN[name] and "dpi" not in _TAKEN[name] and "dpi" in carried:  # which has no other place there
        exif = Empty()
        exif.load(carried.get("exif", b""))
        exif[_X], exif[_Y], exif[_UNIT] = (carried["dpi"][0], carried["dpi"][1], _INCH)
        options["exif"] = exif.tobytes()
    if name == "PNG" and "xmp" in options:
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode("utf-8", "replace"))
    for key in ("exif", "xmp"):
        if name == "JPEG" and len(options.get(key, b"")) > _SEGMENT:
            size = len(options.pop(key))
            log.warning("%s: its %s of %d bytes does not fit JPEG, and is left out", image.name or "image", key, size)
    return options
