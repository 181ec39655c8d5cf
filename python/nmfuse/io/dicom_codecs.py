"""The compressions of DICOM by imagecodecs: a decoder of JPEG, JPEG-LS and JPEG 2000 for pydicom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

NAME = "nmfuse"  # of this decoder among pydicom's
_CODECS = {"4.5": "jpeg8", "4.7": "jpeg8", "4.8": "jpegls", "4.9": "jpeg2k", "4.2": "jpeg2k"}  # by the UID's last parts
_ROOT = "1.2.840.10008.1.2."


def decoder_for(syntax: Any) -> str:
    """Return the name of the decoder that pydicom is to use for a transfer syntax; empty where the choice is its own.

    Examples
    --------
    >>> from pydicom.uid import JPEGLSLossless, RLELossless
    >>> decoder_for(JPEGLSLossless), decoder_for(RLELossless)
    ('nmfuse', '')
    """
    from pydicom.pixels.decoders.base import get_decoder

    if not _codec(syntax):
        return ""
    decoder = get_decoder(syntax)
    if NAME not in decoder.available_plugins:
        decoder.add_plugin(NAME, (__name__, "decode_frame"))
    return NAME


def is_available(uid: str) -> bool:
    """Return whether a transfer syntax is decoded here; pydicom asks.

    Examples
    --------
    >>> is_available("1.2.840.10008.1.2.4.70"), is_available("1.2.840.10008.1.2.5")
    (True, False)
    """
    return bool(_codec(uid))


def decode_frame(data: bytes, runner: DecodeRunner) -> bytes:
    """Return the pixels of a compressed frame; pydicom, which calls it, then does what photometric tags ask for.

    Colours of JPEG stay as they are coded, those of JPEG 2000 are RGB then.
    """
    import imagecodecs
    from pydicom.pixels.common import PhotometricInterpretation

    codec = _codec(runner.transfer_syntax)
    options = {"colorspace": "rgb", "outcolorspace": "rgb"} if codec == "jpeg8" and runner.samples_per_pixel > 1 else {}
    pixels: np.ndarray = getattr(imagecodecs, f"{codec}_decode")(data, **options)
    if runner.photometric_interpretation in (PhotometricInterpretation.YBR_ICT, PhotometricInterpretation.YBR_RCT):
        runner.set_option("photometric_interpretation", PhotometricInterpretation.RGB)
    runner.set_option("planar_configuration", 0)
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    return pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()


def _codec(syntax: str) -> str:
    return _CODECS.get(str(syntax).removeprefix(_ROOT)[:3], "")
