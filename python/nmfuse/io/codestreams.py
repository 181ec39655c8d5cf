"""The sizes that compressed streams inside of other files say of themselves: decoders make room for these, at once."""

from __future__ import annotations

import struct


def jpeg_sizes(frame: bytes) -> set[tuple[int, int]]:
    r"""Return the rows and columns that the frame headers of JPEG or JPEG-LS say, up to the first scan.

    Examples
    --------
    >>> jpeg_sizes(b"\xff\xd8\xff\xc0\0\x0b\x08\0\x10\0\x14\x01\x01\x11\0")
    {(16, 20)}
    """
    sizes, at = set(), 2
    while at + 9 <= len(frame) and frame[at] == 0xFF and frame[at + 1] != 0xDA:
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            sizes.add(struct.unpack_from(">HH", frame, at + 5))
        at += 1 if marker == 0xFF else 2 + length
    return sizes


def j2k_sizes(frame: bytes) -> set[tuple[int, int]]:
    """Return the rows and columns that a JPEG 2000 codestream says, in a JP2 file or not; nothing where it is none.

    Examples
    --------
    >>> j2k_sizes(b"no JPEG 2000")
    set()
    """
    at = frame.find(b"\xff\x4f\xff\x51")
    if at < 0 or len(frame) < at + 24:
        return set()
    x, y, x0, y0 = struct.unpack_from(">4I", frame, at + 8)
    return {(y - y0, x - x0)}


def png_sizes(data: bytes) -> set[tuple[int, int]]:
    """Return the rows and columns that the header of PNG says; nothing where it is none.

    Examples
    --------
    >>> png_sizes(b"no PNG")
    set()
    """
    return {struct.unpack_from(">II", data, 16)[::-1]} if data[12:16] == b"IHDR" and len(data) >= 24 else set()


def webp_sizes(data: bytes) -> set[tuple[int, int]]:
    """Return the rows and columns that the header of a WebP image says; nothing where it is none.

    Examples
    --------
    >>> webp_sizes(b"no WebP")
    set()
    """
    kind = data[12:16]
    if len(data) < 30:
        return set()
    if kind == b"VP8 ":
        columns, rows = (n & 0x3FFF for n in struct.unpack_from("<HH", data, 26))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        columns, rows = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8X":
        columns, rows = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    else:
        return set()
    return {(rows, columns)}


def lerc_sizes(data: bytes) -> set[tuple[int, int]]:
    """Return the rows and columns that the header of LERC says; nothing where it is none.

    Examples
    --------
    >>> lerc_sizes(b"no LERC")
    set()
    """
    if data[:6] != b"Lerc2 " or len(data) < 22:
        return set()
    (version,) = struct.unpack_from("<i", data, 6)
    return {struct.unpack_from("<ii", data, 14 if version >= 3 else 10)}  # from the third on with a checksum
