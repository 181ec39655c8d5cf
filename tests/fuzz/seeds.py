"""Small files of every format, written by the libraries of that format: what the fuzzing of a reader starts from."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image as Pillow

from nmfuse.images import Image
from nmfuse.io import write_image

GREY = (np.add.outer(np.arange(9), np.arange(12)) * 11).astype(np.uint8)
COLOUR = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])
DEEP = GREY.astype(np.uint16) * 257
VOLUME = (np.arange(4 * 5 * 6).reshape(4, 5, 6) * 2).astype(np.int16)
_VALID = np.add.outer(np.arange(9), np.arange(12)) > 3


def seeds(suffix: str) -> list[bytes]:
    """Return small files of a format, by its suffix."""
    with tempfile.TemporaryDirectory() as folder:
        return _MAKERS[suffix](Path(folder))


def _by_us(suffix: str, *images: Any) -> Any:
    def make(folder: Path) -> list[bytes]:
        return [_written(folder / f"{k}{suffix}", image) for k, image in enumerate(images)]

    return make


def _written(path: Path, image: Any) -> bytes:
    write_image(path, image)
    return path.read_bytes()


def _by_pillow(kind: str, *modes: str, **options: Any) -> list[bytes]:
    files = []
    for mode in modes:
        file = io.BytesIO()
        Pillow.fromarray(COLOUR).convert(mode).save(file, kind, **options)
        files.append(file.getvalue())
    return files


def _frames(kind: str) -> list[bytes]:
    file = io.BytesIO()
    first, *others = (Pillow.fromarray(np.roll(COLOUR, k, 1)) for k in range(3))
    first.save(file, kind, save_all=True, append_images=others)
    return [file.getvalue()]


def _png(folder: Path) -> list[bytes]:
    ours = _by_us(".png", GREY, DEEP, np.dstack([DEEP, DEEP[::-1], DEEP]), Image(COLOUR, _VALID), Image(DEEP, _VALID))
    return ours(folder) + _by_pillow("PNG", "P", "1", "LA") + _frames("PNG")


def _jpeg(folder: Path) -> list[bytes]:
    exif = Pillow.Exif()
    exif[271], exif[274] = "a maker", 6
    return [
        *_by_us(".jpg", GREY)(folder),
        *_by_pillow("JPEG", "RGB", "CMYK", exif=exif),
        *_by_pillow("JPEG", "RGB", progressive=True, subsampling=0),
    ]


def _tiff(folder: Path) -> list[bytes]:
    path, made = folder / "x.tif", []
    for pixels, options in (
        (GREY, {}),
        (COLOUR, {"compression": "zlib", "predictor": True}),
        (COLOUR, {"compression": "lzw"}),
        (COLOUR, {"compression": "jpeg"}),
        (GREY, {"compression": "packbits", "bigtiff": True}),
        (DEEP, {"byteorder": ">", "photometric": "miniswhite"}),
        (DEEP.astype(np.float32), {"compression": "lerc", "metadata": None}),
        (np.kron(GREY, np.ones((4, 4), np.uint8)), {"tile": (16, 16), "compression": "zstd"}),
        (VOLUME, {"imagej": True}),
        (VOLUME, {"ome": True, "metadata": {"axes": "ZYX"}}),
        (np.dstack([COLOUR, GREY]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    ):
        tifffile.imwrite(path, pixels, **options)
        made.append(path.read_bytes())
    return made + _by_pillow("TIFF", "P") + _by_pillow("TIFF", "1", compression="group4")


def _heif(folder: Path) -> list[bytes]:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return _by_pillow("HEIF", "RGB", "L", quality=50)


def _raw(folder: Path) -> list[bytes]:
    from tests.io.test_raw import dng, halves

    dng(folder / "x.dng", halves())
    return [(folder / "x.dng").read_bytes()]


def _gzipped(folder: Path) -> list[bytes]:
    return _by_us(".nii.gz", VOLUME)(folder)


def _npz(folder: Path) -> list[bytes]:
    one, packed = io.BytesIO(), io.BytesIO()
    np.savez(one, grey=GREY)
    np.savez_compressed(packed, grey=GREY)
    return [one.getvalue(), packed.getvalue()]


def _hdf5(folder: Path) -> list[bytes]:
    import h5py

    made = []
    for options in ({}, {"compression": "gzip", "chunks": (5, 6)}):
        with h5py.File(folder / "x.h5", "w") as file:
            file.create_dataset("grey", data=GREY, **options)
        made.append((folder / "x.h5").read_bytes())
    return made


def _dicom(folder: Path) -> list[bytes]:
    from pydicom.data import get_testdata_file

    from tests.data.make_dicom import enhanced, image, series

    names = (
        "MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "JPGExtended", "SC_rgb_jpeg_dcmtk",
        "image_dfl", "examples_palette", "MR_small_bigendian",
    )  # fmt: skip
    known = [Path(str(get_testdata_file(f"{name}.dcm"))).read_bytes() for name in names]
    known = [data for data in known if len(data) < 50_000]
    for dataset in (image(GREY, "OT"), enhanced(series(VOLUME.astype(np.uint16), "MR"))):
        dataset.save_as(folder / "x.dcm", enforce_file_format=True)
        known.append((folder / "x.dcm").read_bytes())
    return known


_FLOAT = DEEP.astype(np.float32)
_MAKERS: dict[str, Any] = {
    ".png": _png,
    ".jpg": _jpeg,
    ".bmp": lambda _: _by_pillow("BMP", "RGB", "L", "P", "1"),
    ".gif": lambda _: _by_pillow("GIF", "P") + _frames("GIF"),
    ".webp": lambda _: _by_pillow("WEBP", "RGB", "RGBA") + _by_pillow("WEBP", "RGB", lossless=True) + _frames("WEBP"),
    ".avif": lambda _: _by_pillow("AVIF", "RGB", "RGBA", speed=10),
    ".heic": _heif,
    ".tif": _tiff,
    ".dng": _raw,
    ".npy": _by_us(".npy", GREY, _FLOAT, VOLUME),
    ".npz": _npz,
    ".h5": _hdf5,
    ".exr": _by_us(".exr", _FLOAT, Image(_FLOAT, _VALID), np.dstack([_FLOAT] * 2 + [_FLOAT[::-1]])),
    ".nii": _by_us(".nii", VOLUME, VOLUME.astype(np.float32)),
    ".nii.gz": _gzipped,
    ".nrrd": _by_us(".nrrd", VOLUME, GREY),
    ".mha": _by_us(".mha", VOLUME, COLOUR),
    ".dcm": _dicom,
}
FORMATS = tuple(_MAKERS)
