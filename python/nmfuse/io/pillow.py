"""PNG, JPEG, BMP, WebP, GIF and AVIF by Pillow; 16-bit colour in PNG, which Pillow halves, and WebP by imagecodecs."""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmfuse.images import Image
from nmfuse.io.carried import ORIENTATION, exif_of, for_pillow, log, of_picture
from nmfuse.io.limits import max_pixels, refuse_too_large
from nmfuse.io.orientation import upright

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_DECODERS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "AVIF", "HEIF")  # of what a file holds, whatever its suffix
_LIMIT = threading.Lock()
_WITH_ALPHA = {"1": "LA", "L": "LA", "RGB": "RGBA", "P": "RGBA", "PA": "RGBA"}  # what shows a transparent colour
_SIGNATURE, _CHUNK = 8, 12  # bytes of PNG: in front of all, and of a chunk beside its data
_COMPRESSION = 2  # of PNG: half the time of Pillow's 6 or less; a photograph 7 % smaller, a grey image 14 % larger
_AT_ONCE = 1 << 20  # pixels
_SMALL = 1 << 22  # pixels up to which nobody asks what they are stored in
_A_BYTE = {"JPEG": 1024, "MPO": 1024, "GIF": 2800}  # pixels that a byte stands for at most: 8 blocks, 2/3 of a code
_HEADER = 33  # where that of PNG ends


def read(path: Path, page: int | None = None) -> Image:
    """Return the image of a file; see `nmfuse.io.read_image`.

    CMYK is converted to sRGB by the profile of the file, or plainly where it has none, and that is logged.

    Raises
    ------
    ValueError
        For several frames of which none is chosen, one that is not there, an animation of 16-bit colour, AVIF of more
        than 8 bits, other colours than grey, RGB, CMYK and palettes, or too many pixels.
    """
    with opened(path) as file:
        refuse_too_large(path, file.width * file.height)
        _refuse_what_cannot_be_held(path, file)
        _refuse_lost_bits(path, file)
        _choose(path, file, page)
        refuse_too_large(path, file.width * file.height)  # frames of GIF may be larger than the first
        deep, still = _is_deep(file), file.format == "WEBP" and getattr(file, "n_frames", 1) == 1
        if not still:
            file.load()  # some of what a file carries stands behind its pixels
        exif = exif_of(path, file)
        carried = of_picture(path, file, exif)
        picture: Picture = file
        if picture.mode == "CMYK":
            picture, carried["icc_profile"] = _from_cmyk(path, picture, carried.get("icc_profile"))
        image = _deep(path, file) if deep else _still_webp(path, file) if still else _image(path, picture)
    orientation = exif.get(ORIENTATION, 1)
    valid = None if image.valid is None else upright(image.valid, orientation)
    return Image(upright(image.pixels, orientation), valid, carried=carried)


def read_heif(path: Path, page: int | None = None) -> Image:
    """Return the image of a HEIF file, as `read` does; of more than 8 bits it is refused, since they would be lost."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    bits = pillow_heif.open_heif(path, convert_hdr_to_8bit=False).info["bit_depth"]
    if bits > 8:
        raise ValueError(f"{path}: has {bits} bits a channel, which would be lost; store it as TIFF or PNG")
    return read(path, page)


@contextmanager
def opened(path: Path, *others: str) -> Iterator[Picture]:
    """Open a file of our formats, or of others of Pillow, with our limit, which is one for the whole process there.

    GIF makes room for its first frame when it is opened.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.png"
    >>> write(path, Image(np.zeros((16, 20), np.uint8)), "PNG")
    >>> with opened(path) as picture:
    ...     picture.size
    (20, 16)
    """
    from PIL import Image as Pillow

    Pillow.init()
    with _LIMIT:
        theirs, Pillow.MAX_IMAGE_PIXELS = Pillow.MAX_IMAGE_PIXELS, max_pixels()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)  # up to twice the limit
                file = Pillow.open(path, formats=[name for name in (*_DECODERS, *others) if name in Pillow.OPEN])
        except Pillow.DecompressionBombError as error:
            refuse_too_large(path, int(re.findall("[0-9]+", str(error))[0]))
            raise
        finally:
            Pillow.MAX_IMAGE_PIXELS = theirs
    with file:
        yield file


def _image(path: Path, picture: Picture) -> Image:
    key = picture.info.get("transparency")  # a colour, or a palette's alpha values
    if picture.mode.startswith("I;16"):
        pixels = np.asarray(picture).astype(np.uint16)
        return Image(pixels, None if key is None else pixels != key)
    if key is not None or picture.mode == "PA":
        picture = picture.convert(_WITH_ALPHA.get(picture.mode, picture.mode))
    elif picture.mode in ("P", "1"):
        picture = picture.convert("RGB")
    pixels = _array(picture)
    if picture.mode in ("L", "RGB"):
        return Image(pixels)
    if picture.mode in ("LA", "RGBA"):
        return _without_alpha(pixels)
    raise ValueError(f"{path}: colour mode {picture.mode} is not supported; convert it to grey or RGB")


def _array(picture: Picture) -> np.ndarray:
    """Return the pixels of a picture, copied some rows at a time: NumPy would take three times their memory."""
    rows = max(1, _AT_ONCE // picture.width)
    first = np.asarray(picture.crop((0, 0, picture.width, min(rows, picture.height))))
    pixels = np.empty((picture.height, *first.shape[1:]), first.dtype)
    for start in range(0, picture.height, rows):
        end = min(start + rows, picture.height)
        pixels[start:end] = np.asarray(picture.crop((0, start, picture.width, end)))
    return pixels


def _without_alpha(pixels: np.ndarray) -> Image:
    shown = pixels[..., 0] if pixels.shape[-1] == 2 else pixels[..., :3]
    return Image(np.ascontiguousarray(shown), pixels[..., -1] > 0)


def _from_cmyk(path: Path, picture: Picture, profile: bytes | None) -> tuple[Picture, bytes]:
    """Return the picture in sRGB, and the profile of that."""
    from PIL import ImageCms

    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    if profile is None:
        log.warning("%s: is CMYK without a profile; its colours are converted to RGB plainly", path)
        return picture.convert("RGB"), target.tobytes()
    log.warning("%s: is CMYK; its colours are converted to sRGB by its profile", path)
    converted = ImageCms.profileToProfile(picture, io.BytesIO(profile), target, outputMode="RGB")
    assert converted is not None  # it is not done in place
    return converted, target.tobytes()


def _is_deep(file: Picture) -> bool:
    """Return whether it is PNG of 16-bit colour, or 16-bit grey with alpha, of which Pillow drops the lower bits."""
    tiles = getattr(file, "tile", [])
    return file.format == "PNG" and file.mode != "I;16" and bool(tiles) and ";16" in str(tiles[0][3])


def _deep(path: Path, file: Picture) -> Image:
    import imagecodecs

    pixels: np.ndarray = imagecodecs.png_decode(path.read_bytes())
    if pixels.dtype != np.uint16 or pixels.shape[:2] != (file.height, file.width):
        raise ValueError(f"{path}: not a readable image (16 bits were expected, and {pixels.dtype} was found)")
    key = file.info.get("transparency")
    if pixels.shape[2] in (2, 4):
        return _without_alpha(pixels)
    return Image(pixels, None if key is None else (pixels != np.array(key, np.uint16)).any(-1))


def _still_webp(path: Path, file: Picture) -> Image:
    """Return the pixels of a WebP that is no animation; as one it would take Pillow five times their memory."""
    import imagecodecs

    pixels: np.ndarray = imagecodecs.webp_decode(path.read_bytes())
    if pixels.shape[:2] != (file.height, file.width):
        raise ValueError(f"{path}: not a readable image (its parts say unlike sizes)")
    return _without_alpha(pixels) if pixels.shape[2] == 4 else Image(pixels)


def _refuse_what_cannot_be_held(path: Path, file: Picture) -> None:
    """Refuse a large picture of few bytes, for which decoders would make room, and fill what is missing with grey."""
    pixels, size = file.width * file.height, path.stat().st_size
    if pixels > max(_SMALL, size * _A_BYTE.get(file.format or "", pixels)):
        raise ValueError(f"{path}: not a readable image (its header promises {pixels} pixels, in {size} bytes)")


def _refuse_lost_bits(path: Path, file: Picture) -> None:
    """Refuse what Pillow would give fewer bits, or fewer frames, without a word."""
    if _is_deep(file) and getattr(file, "n_frames", 1) != 1:
        raise ValueError(f"{path}: is an animation of 16-bit colour, which nothing here reads; extract its frames")
    if file.format == "AVIF":
        with path.open("rb") as raw:
            head = raw.read(4096)
        at = head.find(b"av1C")
        if at >= 0 and head[at + 6 : at + 7] and head[at + 6] & 0x40:
            raise ValueError(f"{path}: has more than 8 bits a channel, which would be lost; store it as TIFF or PNG")
    if file.format == "GIF":
        with path.open("rb") as raw:
            raw.seek(max(0, path.stat().st_size - 1024))
            if not raw.read().rstrip(b"\0").endswith(b";"):
                raise ValueError(f"{path}: not a readable image (it is truncated)")


def _choose(path: Path, file: Picture, frame: int | None) -> None:
    """Go to a frame; a JPEG's further pictures are previews, and not frames that one has to choose among."""
    frames = getattr(file, "n_frames", 1)
    if frame is None:
        if frames != 1 and file.format != "MPO":
            raise ValueError(
                f"{path}: has {frames} frames; choose one by its number, {path}[0] to {path}[{frames - 1}]"
            )
        return
    if frame >= frames:
        raise ValueError(f"{path}: has no frame {frame}; it has {frames}, the first is {path}[0]")
    file.seek(frame)


def write(path: Path, image: Image, name: str, **options: Any) -> None:
    """Write an image that the format of a name holds, with an alpha channel where some of it is not valid."""
    from PIL import Image as Pillow

    pixels = image.pixels
    if image.valid is not None:
        alpha = np.where(image.valid, np.iinfo(pixels.dtype).max, 0).astype(pixels.dtype)
        pixels = np.dstack([pixels, alpha])
    options |= for_pillow(image, name)
    if pixels.dtype == np.uint16 and pixels.ndim == 3:
        _write_deep(path, pixels, options)
    else:
        if name == "PNG":
            options["compress_level"] = _COMPRESSION
        encoded = io.BytesIO()  # into a file on a full disk Pillow writes some of it, and says nothing
        Pillow.fromarray(pixels).save(encoded, name, **options)
        path.write_bytes(encoded.getbuffer())


def _write_deep(path: Path, pixels: np.ndarray, options: dict[str, Any]) -> None:
    """Write PNG of 16-bit channels: the pixels by imagecodecs, the chunks of what they carry by Pillow."""
    import imagecodecs
    from PIL import Image as Pillow

    one_pixel = io.BytesIO()
    Pillow.new("RGB" if pixels.shape[2] > 2 else "L", (1, 1)).save(one_pixel, "PNG", **options)
    data, chunks, at = one_pixel.getvalue(), b"", _SIGNATURE
    while at < len(data):
        end = at + _CHUNK + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] not in (b"IHDR", b"IDAT", b"IEND"):
            chunks += data[at:end]
        at = end
    encoded = imagecodecs.png_encode(pixels, level=_COMPRESSION)
    path.write_bytes(encoded[:_HEADER] + chunks + encoded[_HEADER:])
