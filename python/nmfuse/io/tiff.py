"""TIFF by tifffile."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nmfuse.images import Image
from nmfuse.io.carried import (
    EXIF_IFD,
    GPS_IFD,
    ORIENTATION,
    TEXTS,
    kept_exif,
    kept_xmp,
    log,
    profile_for,
    resolution,
    turned,
    warnings_logged,
)
from nmfuse.io.codestreams import j2k_sizes, jpeg_sizes, lerc_sizes, png_sizes, webp_sizes
from nmfuse.io.lazy import LazyMask, LazyPixels, MappedArray, differs
from nmfuse.io.limits import refuse_too_large
from nmfuse.io.orientation import upright

DTYPES = ("uint8", "uint16", "int16", "int32", "float16", "float32", "float64")
_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6  # photometric interpretations
_OTHERS = {
    4: "a transparency mask",
    5: "CMYK",
    _YCBCR: "YCbCr without JPEG",
    8: "CIELAB",
    9: "ICCLAB",
    10: "ITULAB",
    32803: "a colour filter array",
    32844: "LogL",
    32845: "LogLuv",
    34892: "raw colours of a sensor",
    51177: "a depth map",
}
_JPEG = 7  # compression
_CHOOSE = "choose one or three channels, the first is 1: bands=(4, 3, 2), in the shell --bands 4,3,2"
_UNKNOWN, _PREMULTIPLIED = 0, 1  # extra samples: of which the file does not say what they are; by which colours shrank
_DESCRIPTION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _XMP, _ICC = 270, 282, 283, 296, 700, 34675  # tags
_OF_PIXELS = frozenset(
    (256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339, 347, 530, 532)
)  # tags without which pixels would be read wrongly
_NODATA = 42113
_GEO = (33550, 33922, 34264, 34735, 34736, 34737, 42112, _NODATA)  # where it lies, by GeoTIFF 1.1, and what GDAL adds
_NAMED = {EXIF_IFD: "ExifTag", GPS_IFD: "GPSTag"}  # tifffile takes them by their names alone
_BOUNDED = (1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000)  # compressions that fill what room they are given
_OF_THEIR_OWN = {  # compressions that say a size of their own -> what finds it
    _JPEG: jpeg_sizes, 33003: j2k_sizes, 33004: j2k_sizes, 33005: j2k_sizes, 34712: j2k_sizes, 34887: lerc_sizes,
    34933: png_sizes, 50001: webp_sizes,
}  # fmt: skip
_HEAD = 1 << 16  # bytes in which it is looked for
_PADDED = 15  # rows and columns that a part may be filled up with
_CLASSIC = 2**32 - 2**25  # bytes of pixels beyond which a file is BigTIFF
TILE = 512  # rows and columns of a tile, where they are written
_FIRST = {False: 8, True: 16}  # where the first directory is, in BigTIFF and else
_INCH = 2  # unit of resolution
_BYTE, _ASCII, _LONG = 1, 2, 4  # types of tags


def read(path: Path, page: int | None = None, bands: Sequence[int] | None = None) -> Image:
    """Return the image of a file, or of some of its bands, from 1; see `nmfuse.io.read_image`.

    Reduced copies of an image (overviews) are no pages of their own, and a mask beside one says where it is valid.

    Raises
    ------
    ValueError
        For several pages of which none is chosen, one that is not there, other colours than grey, RGB and palettes,
        channels that are none of these where no `bands` are chosen, bands that are not there, a dtype that nothing here
        takes, or too many pixels.
    """
    import tifffile

    with warnings_logged(path, "tifffile"), tifffile.TiffFile(path, _multifile=False) as file:
        _check_directories(path, file)
        chosen, mask = _chosen(path, file, page)
        keyframe = chosen.keyframe
        described = keyframe if chosen.is_virtual else chosen.aspage()  # by tags of its own, or those of the first
        _check_tags(path, file, described)
        _check(path, chosen, bands)
        _check_streams(path, file, chosen)
        pixels: np.ndarray = chosen.asarray()
        seen = None
        if mask is not None:
            _check_size(path, mask)
            _check_streams(path, file, mask)
            seen = mask.asarray() > 0
        orientation = described.tags.valueof(ORIENTATION, 1)
        carried = _carried(path, file, described, orientation)
    if keyframe.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)  # stored plane by plane
    pixels, valid = _picked(path, pixels, _extra(keyframe), bands)
    if (nodata := _nodata(carried, pixels.dtype)) is not None:
        there = differs(pixels, nodata, 2)
        seen = there if seen is None else seen & there
    if seen is not None:
        valid = seen if valid is None else valid & seen
    if int(keyframe.photometric) == _PALETTE:
        pixels = _coloured(keyframe.colormap, pixels)
    else:
        pixels = _from_black_to_white(path, pixels, keyframe)
    valid = None if valid is None else upright(valid, orientation)
    return Image(upright(pixels, orientation), valid, carried=carried)


def open_tiff(path: Path, page: int | None = None) -> Image:
    """Return the image of a file, its pixels still there; see `nmfuse.io.open_image` and `read`.

    Raises
    ------
    ValueError
        As `read`; for a file whose pixels are not those that it stores: palettes, white as 0, alpha, masks, or
        another orientation; and where a tile, or a strip, is too large.
    """
    import tifffile
    import zarr

    file = tifffile.TiffFile(path, _multifile=False)
    try:
        _check_directories(path, file)
        chosen, mask = _chosen(path, file, page)
        keyframe = chosen.keyframe
        described = keyframe if chosen.is_virtual else chosen.aspage()
        _check_tags(path, file, described)
        _check(path, chosen, None, whole=False)
        _check_streams(path, file, chosen)
        orientation = described.tags.valueof(ORIENTATION, 1)
        carried = _carried(path, file, described, orientation)
        reasons = {
            "a palette": int(keyframe.photometric) == _PALETTE,
            "white as 0": int(keyframe.photometric) == _WHITE_IS_0,
            f"{keyframe.bitspersample} bits a pixel": keyframe.bitspersample < 8,
            "channels beside its colours": bool(keyframe.extrasamples),
            "a mask": mask is not None,
            "another orientation": orientation != 1,
        }
        if any(reasons.values()):
            said = " and ".join(reason for reason, found in reasons.items() if found)
            raise ValueError(f"{path}: has {said}, which is not read by tiles; store plain grey or RGB")
        if chosen.is_memmappable:  # one strip, or strips in a row
            dtype = np.dtype(f"{file.byteorder}{keyframe.dtype.char}")
            array: Any = MappedArray(path, keyframe.shape, dtype, chosen.dataoffsets[0])
        else:
            array = zarr.open_array(chosen.aszarr(), mode="r")
        pixels = LazyPixels(path, array, colours_first=keyframe.axes == "SYX").closing(file)
        nodata = _nodata(carried, keyframe.dtype)
        return Image(pixels, None if nodata is None else LazyMask(pixels, (nodata,)), carried=carried)
    except Exception:
        file.close()
        raise


def count_pages(path: Path) -> int:
    """Return how many pages a file has; refuse pages along several axes, of which nobody says how they belong together.

    Reduced copies and masks are no pages; see `read`.
    """
    import tifffile

    with warnings_logged(path, "tifffile"), tifffile.TiffFile(path, _multifile=False) as file:
        _check_directories(path, file)
        pages, axes = _pages(path, file)
        if sum(size > 1 for _, size in axes) > 1:
            raise ValueError(
                f"{path}: has pages along several axes{_said(axes)}; give those of one, {path}[0], {path}[1], ..."
            )
        return len(pages)


def _chosen(path: Path, file: Any, number: int | None) -> tuple[Any, Any]:
    """Return a page of a file, and the mask that belongs to it, or None."""
    pages, axes = _pages(path, file)
    if number is None and len(pages) > 1:
        raise ValueError(
            f"{path}: has {len(pages)} pages{_said(axes)}; choose one by its number, {path}[0] to "
            f"{path}[{len(pages) - 1}]"
        )
    if number is not None and number >= len(pages):
        raise ValueError(f"{path}: has no page {number}; it has {len(pages)}, the first is {path}[0]")
    page, mask = pages[number or 0]
    if page is None:
        raise ValueError(f"{path}: page {number or 0} is in another file; give that one")
    return page, mask


def _pages(path: Path, file: Any) -> tuple[list[list[Any]], list[tuple[str, int]]]:
    """Return the pages of a file, each with its mask or None, and along which axes they are, if it says so."""
    pages: list[list[Any]] = []
    axes: list[tuple[str, int]] = []
    if file.is_ome or file.is_imagej or file.is_shaped:  # these say what their pages are, in an order of their own
        for series in file.series:
            pages += [[page, None] for page in series.pages if page is None or not page.keyframe.is_reduced]
        stack = file.series[0]
        if len(file.series) == 1:
            axes = [(name, size) for name, size in zip(stack.axes, stack.shape, strict=True) if name not in "YXS"]
        if axes and stack.size > len(stack.pages) * stack.keyframe.size:
            raise ValueError(f"{path}: its planes have no directories but one; store each as a page of its own")
    else:
        for page in file.pages:
            if page.is_mask and not page.is_reduced and pages and page.shape[:2] == pages[-1][0].shape[:2]:
                pages[-1][1] = page
            elif not (page.is_reduced or page.is_mask):
                pages.append([page, None])
    if not pages:
        raise ValueError(f"{path}: holds nothing but reduced copies of an image; expected the image itself")
    return pages, axes


def _said(axes: Sequence[tuple[str, int]]) -> str:
    said = ", ".join(f"{name} of {size}" for name, size in axes)
    return f" (axes {said}; the last counts fastest)" if axes else ""


def _check_directories(path: Path, file: Any) -> None:
    """Refuse pages that follow each other in a circle, which tifffile would go round for ever."""
    seen: set[int] = set()
    (at,) = struct.unpack(file.tiff.offsetformat, _bytes(file, 8 if file.is_bigtiff else 4, file.tiff.offsetsize))
    while at and at not in seen:
        seen.add(at)
        tags = _entries(file, at)[1]
        after = at + file.tiff.tagnosize + tags * file.tiff.tagsize
        following = _bytes(file, after, file.tiff.offsetsize)
        at = 0 if len(following) < file.tiff.offsetsize else struct.unpack(file.tiff.offsetformat, following)[0]
    if at:
        raise ValueError(f"{path}: not a readable image (its pages follow each other in a circle)")


def _check_tags(path: Path, file: Any, page: Any) -> None:
    """Refuse a page with a directory that is cut off, or with tags about its pixels that cannot be read."""
    entries, tags = _entries(file, page.offset)
    size = file.tiff.tagsize
    codes = {struct.unpack_from(f"{file.byteorder}H", entries, at)[0] for at in range(0, len(entries) - 1, size)}
    if len(entries) != tags * size or (codes & _OF_PIXELS) - set(page.tags.keys()):
        raise ValueError(f"{path}: not a readable image (it is truncated, or tags that say what it is are broken)")


def _entries(file: Any, offset: int) -> tuple[bytes, int]:
    """Return the entries of a directory as they are in a file, and how many it says to have."""
    head = _bytes(file, offset, file.tiff.tagnosize)
    tags = struct.unpack(file.tiff.tagnoformat, head)[0] if len(head) == file.tiff.tagnosize else 0
    return _bytes(file, offset + file.tiff.tagnosize, min(tags, 2**16) * file.tiff.tagsize), tags


def _bytes(file: Any, offset: int, count: int) -> bytes:
    if offset >= file.filehandle.size:
        return b""
    file.filehandle.seek(offset)
    return bytes(file.filehandle.read(count))


def _check(path: Path, page: Any, bands: Sequence[int] | None, *, whole: bool = True) -> None:
    """Refuse what cannot be read rightly, before any of it is; as a `whole`, or by its tiles."""
    _check_size(path, page, whole=whole)
    keyframe = page.keyframe
    kind, samples = int(keyframe.photometric), keyframe.samplesperpixel
    dtype = "bit" if keyframe.bitspersample == 1 else None if keyframe.dtype is None else keyframe.dtype.name
    if kind not in (_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE) and not (
        kind == _YCBCR and int(keyframe.compression) == _JPEG  # by its decoder
    ):
        raise ValueError(
            f"{path}: its colours are {_OTHERS.get(kind, f'of the unknown kind {kind}')}; expected grey, RGB or a "
            "palette, convert it"
        )
    if keyframe.axes not in ("YX", "YXS", "SYX"):
        raise ValueError(f"{path}: shape {keyframe.shape}; expected a grey or RGB image")
    extra = _extra(keyframe)
    if bands is not None:
        _check_bands(path, bands, samples, palette=kind == _PALETTE)
    elif (samples - len(extra) != (3 if kind in (_RGB, _YCBCR) else 1)) or len(extra) > 1:
        raise ValueError(f"{path}: has {samples} channels; expected grey or RGB, and maybe alpha; {_CHOOSE}")
    elif kind == _PALETTE and keyframe.colormap is None:
        raise ValueError(f"{path}: not a readable image (it has a palette without colours)")
    if dtype not in ("bit", *DTYPES):
        raise ValueError(f"{path}: pixels are {dtype or 'unknown'}; convert them to one of {', '.join(DTYPES)}")


def _check_size(path: Path, page: Any, *, whole: bool = True) -> None:
    """Refuse more pixels than the limit, in a tile or in all, and data that lies beyond the end of the file."""
    keyframe = page.keyframe
    of_chunk = int(np.prod(keyframe.chunks, dtype=object)) // (keyframe.samplesperpixel or 1)
    in_all = keyframe.imagewidth * keyframe.imagelength * keyframe.imagedepth
    pixels = max(in_all, of_chunk) if whole else 0 if page.is_memmappable else of_chunk
    refuse_too_large(path, pixels * -(-keyframe.samplesperpixel // 4))  # of more bands than colours and alpha each four
    end = path.stat().st_size
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if len(segments) != np.prod(keyframe.chunked, dtype=object) or any(at + size > end for at, size in segments):
        raise ValueError(f"{path}: not a readable image (it is truncated, or its size is not that of its data)")


def _check_streams(path: Path, file: Any, page: Any) -> None:
    """Refuse parts that say a larger size than the page has for them, before decoders make room for it."""
    keyframe = page.keyframe
    compression = int(keyframe.compression)
    if compression in _BOUNDED:
        return
    if compression not in _OF_THEIR_OWN:
        raise ValueError(f"{path}: its compression is {keyframe.compression.name}, which is not read; convert it")
    rows, columns = (
        (keyframe.tilelength, keyframe.tilewidth)
        if keyframe.is_tiled
        else (min(keyframe.rowsperstrip, keyframe.imagelength), keyframe.imagewidth)
    )
    room = (rows + _PADDED) * (columns + _PADDED)
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        sizes = _OF_THEIR_OWN[compression](_bytes(file, offset, min(count, _HEAD))) if count else set()
        if count and (
            len(sizes) != 1 or any(height * width > room or min(height, width) < 1 for height, width in sizes)
        ):
            found = " and ".join("{} x {}".format(*size) for size in sizes) or "none that can be found"
            raise ValueError(
                f"{path}: not a readable image (it has {rows} x {columns} pixels for each of its parts, one of which "
                f"says {found})"
            )


def _extra(keyframe: Any) -> tuple[int, ...]:
    """Return what the channels beside the colours are, by ExtraSamples."""
    return tuple(int(sample) for sample in keyframe.extrasamples)


def _check_bands(path: Path, bands: Sequence[int], count: int, *, palette: bool) -> None:
    if palette:
        raise ValueError(f"{path}: is of a palette, whose colours are no bands; leave out bands=, --bands")
    if len(bands) not in (1, 3) or not all(1 <= band <= count for band in bands):
        raise ValueError(
            f"{path}: has no bands {', '.join(map(str, bands))}; expected one, or three (red, green, blue), of 1 to "
            f"{count}"
        )


def _picked(
    path: Path, pixels: np.ndarray, extra: tuple[int, ...], bands: Sequence[int] | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the colours of pixels, or the chosen bands, without an alpha channel, and where they are valid."""
    if pixels.ndim == 2:
        return pixels, None
    colours = pixels.shape[-1] - len(extra)
    chosen = [band - 1 for band in bands or ()]
    shown = pixels[..., chosen] if chosen else pixels[..., :colours]
    shown = np.ascontiguousarray(shown[..., 0] if shown.shape[-1] == 1 else shown)
    alphas = [k for k, kind in enumerate(extra, colours) if k not in chosen and not (chosen and kind == _UNKNOWN)]
    if not alphas:
        return shown, None
    alpha, kind = pixels[..., alphas[0]], extra[alphas[0] - colours]
    opaque = 1.0 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
    if kind == _UNKNOWN and not (alpha == opaque).all():
        raise ValueError(f"{path}: has a channel beside its colours, and does not say that it is alpha; {_CHOOSE}")
    if kind == _PREMULTIPLIED and ((alpha != opaque) & (alpha != 0)).any():
        share = (alpha if shown.ndim == 2 else alpha[..., None]).astype(np.float64) / opaque
        whole = np.divide(shown, share, out=np.zeros(shown.shape), where=share > 0)
        shown = (whole if pixels.dtype.kind == "f" else np.rint(np.minimum(whole, opaque))).astype(pixels.dtype)
    return shown, alpha > 0


def _coloured(colormap: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return the colours of a palette's indices: in 8 bits where its 16 repeat or fill up 8, else in 16."""
    colours = np.moveaxis(colormap[:, indices.astype(np.intp)], 0, -1)
    if not (colormap % 257).any():
        return (colours // 257).astype(np.uint8)
    return (colours // 256).astype(np.uint8) if not (colormap % 256).any() else colours


def _from_black_to_white(path: Path, pixels: np.ndarray, page: Any) -> np.ndarray:
    """Return the pixels with black as 0, and those of fewer than 8 bits as 8."""
    bits = page.bitspersample
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    white = 2**bits - 1
    if int(page.photometric) == _WHITE_IS_0:
        if pixels.dtype.kind != "u":
            raise ValueError(f"{path}: says that white is 0, in {pixels.dtype}; store it with black as 0")
        pixels = np.asarray(white - pixels, pixels.dtype)
    if bits >= 8:
        return pixels
    if 255 % white:
        raise ValueError(f"{path}: has {bits} bits a pixel; expected 1, 2, 4, 8 or more, convert it")
    return np.asarray(pixels * (255 // white), np.uint8)


def _carried(path: Path, file: Any, page: Any, orientation: int) -> dict[str, Any]:
    """Return what a page carries besides its pixels; see `nmfuse.io.carried`."""
    from PIL.Image import Exif

    tags = page.tags
    carried: dict[str, Any] = {}
    if profile := tags.valueof(_ICC):
        carried["icc_profile"] = bytes(profile)
    if xmp := tags.valueof(_XMP):
        carried["xmp"] = kept_xmp(xmp if isinstance(xmp, str) else bytes(xmp))
    x, y = tags.valueof(_X_RESOLUTION), tags.valueof(_Y_RESOLUTION)
    if x and y and x[1] and y[1]:
        dpi = resolution(x[0] / x[1], y[0] / y[1], int(tags.valueof(_RESOLUTION_UNIT, _INCH)))
        if dpi is not None:
            carried["dpi"] = turned(dpi, orientation)
    with path.open("rb") as raw:
        exif = Exif()
        exif.endian, exif.bigtiff = file.byteorder, file.is_bigtiff
        try:
            exif.load_from_fp(raw, page.offset)
        except Exception as error:  # broken in what is no part of the image
            log.warning("%s: its EXIF cannot be understood, and is left out (%s)", path, error)
            exif = Exif()
        if file.is_ome or file.is_imagej or file.is_shaped:
            exif.pop(_DESCRIPTION, None)  # says what the stack is, which one image is not
        if kept := kept_exif(path, exif):
            carried["exif"] = kept
    geo = {code: (int(tags[code].dtype), tags[code].count, tags[code].value) for code in _GEO if code in tags}
    if geo and orientation != 1:
        log.warning("%s: is georeferenced in another orientation than its own; where it lies is left out", path)
        geo = {_NODATA: geo[_NODATA]} if _NODATA in geo else {}
    if geo:
        carried["geotiff"] = geo
    return carried


def _nodata(carried: dict[str, Any], dtype: np.dtype) -> Any:
    """Return the value of pixels that show nothing, where a file says one that its dtype can hold."""
    try:
        value = float(carried["geotiff"][_NODATA][2])
    except (KeyError, ValueError):
        return None
    if dtype.kind == "f":
        return dtype.type(value)
    if dtype.kind not in "iu" or not value.is_integer():
        return None
    info = np.iinfo(dtype)
    return dtype.type(value) if info.min <= value <= info.max else None


def write(path: Path, image: Image, tiles: Iterator[np.ndarray] | None = None) -> None:
    """Write an image and what it carries.

    Pixels that are not valid are told by GDAL_NODATA where the image carries one that no valid pixel has, else by an
    alpha channel. Where `tiles` are given, they are the pixels, row by row of tiles of `TILE` x `TILE`, of an image
    that is valid everywhere, and of whose own pixels only shape and dtype are looked at.
    """
    import tifffile

    pixels, valid, carried = image.pixels, image.valid, image.carried
    geo = dict(carried.get("geotiff", {}))
    if _NODATA in geo:
        nodata = _nodata(carried, pixels.dtype)
        if nodata is None or (~differs(pixels, nodata, 2) & (True if valid is None else valid)).any():
            log.warning(
                "%s: its value for no data, %s, is one that the image has or cannot have, and is left out",
                image.name or "image",
                geo.pop(_NODATA)[2],
            )
        elif valid is not None:
            pixels, valid = np.where(valid if pixels.ndim == 2 else valid[..., None], pixels, nodata), None
    options: dict[str, Any] = {"photometric": "minisblack", "metadata": None, "software": False, "byteorder": "<"}
    if pixels.ndim == 3:
        options |= {"photometric": "rgb", "planarconfig": "contig"}
    if valid is not None:
        opaque = 1.0 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
        pixels = np.dstack([pixels, np.where(valid, opaque, 0).astype(pixels.dtype)])
        options |= {"planarconfig": "contig", "extrasamples": ["unassalpha"]}
    if "dpi" in carried:
        options |= {"resolution": carried["dpi"], "resolutionunit": _INCH}
    tags: list[tuple[Any, ...]] = [(code, *geo[code], True) for code in geo]
    if xmp := carried.get("xmp"):
        tags.append((_XMP, _BYTE, len(xmp), xmp, True))
    texts, inner = _exif(carried.get("exif"))
    tags += [(code, _ASCII, 0, text, True) for code, text in texts.items()]
    bigtiff = tiles is not None or pixels.nbytes > _CLASSIC  # how large tiles become is not known before
    if tiles is not None:
        options |= {"shape": image.shape, "dtype": image.dtype, "tile": (TILE, TILE), "compression": "zlib"}
    tags += [(_NAMED[code], _LONG, 1, _FIRST[bigtiff], True) for code in inner]  # a directory, until there is theirs
    data: Any = pixels if tiles is None else tiles
    tifffile.imwrite(path, data, bigtiff=bigtiff, iccprofile=profile_for(image), extratags=tags, **options)
    if inner:
        _append_directories(path, inner)


def _exif(exif: bytes | None) -> tuple[dict[int, bytes], dict[int, dict[int, Any]]]:
    """Return the texts of EXIF, and its directories, by their tags."""
    from PIL.Image import Exif

    read = Exif()
    read.load(exif or b"")
    texts = {code: str(read[code]).encode() for code in TEXTS if code in read}
    return texts, {code: dict(read.get_ifd(code)) for code in (EXIF_IFD, GPS_IFD) if read.get_ifd(code)}


def _append_directories(path: Path, directories: dict[int, dict[int, Any]]) -> None:
    """Write directories of EXIF at the end of a file, and their places into the tags that wait for them."""
    import tifffile
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    with tifffile.TiffFile(path, mode="r+") as file:
        head = b"II\x2b\0\x08\0\0\0\x10\0\0\0\0\0\0\0" if file.is_bigtiff else b"II\x2a\0\x08\0\0\0"
        for code, entries in directories.items():
            directory = ImageFileDirectory_v2(head, group=code)
            for tag, value in entries.items():
                directory[tag] = value
            file.filehandle.seek(0, 2)
            at = file.filehandle.tell() + file.filehandle.tell() % 2
            file.filehandle.seek(at)
            file.filehandle.write(directory.tobytes(at))
            file.pages.first.tags[code].overwrite(at)
