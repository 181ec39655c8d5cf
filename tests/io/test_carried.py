"""What files carry besides their pixels: read, kept, and written where there is a place for it."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageCms
from PIL.TiffImagePlugin import IFDRational

from nmfuse.images import Image
from nmfuse.io import read_image, to_profile_of, write_image

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (40, 48), np.uint8)
COLOUR = RNG.integers(0, 256, (40, 48, 3), np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
OF_LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6" dc:title="\xc3\xa4"/></x:xmpmeta>'
EXIF_IFD, GPS_IFD = 34665, 34853
WRITTEN = (".png", ".jpg", ".webp", ".tif")


def _swapped() -> bytes:
    """Return a profile of sRGB whose red and blue are exchanged."""
    profile = bytearray(SRGB)
    for at in range(132, 132 + 12 * int.from_bytes(SRGB[128:132], "big"), 12):
        if profile[at : at + 4] in (b"rXYZ", b"bXYZ"):
            profile[at : at + 1] = b"b" if profile[at : at + 1] == b"r" else b"r"
    return bytes(profile)


def _exif(orientation: int = 1) -> Pillow.Exif:
    exif = Pillow.Exif()
    exif[271], exif[306], exif[274] = "A maker", "2026:11:30 12:00:00", orientation
    exif[EXIF_IFD] = {
        33434: IFDRational(1, 250),
        36867: "2026:11:30 11:59:59",
        34855: 400,
        37500: b"note",
        40962: 48,
        40963: 40,
    }
    exif[GPS_IFD] = {1: "N", 2: (52.0, 31.0, 12.5), 3: "E", 4: (13.0, 24.0, 18.0)}
    return exif


def _photograph(path: Path, pixels: np.ndarray = COLOUR, **options: Any) -> Path:
    """Write a file with all that a file carries, by Pillow or tifffile."""
    picture = Pillow.fromarray(pixels)
    exif = options.pop("exif", _exif())
    if path.suffix == ".tif":
        exif[700] = XMP  # Pillow has no other way
    picture.save(path, exif=exif.tobytes(), icc_profile=SRGB, dpi=(300, 150), xmp=XMP, quality=100, **options)
    return path


def _read_exif(path: Path) -> dict[int, Any]:
    with Pillow.open(path) as file:
        exif = file.getexif()
        return {**exif, "exif": dict(exif.get_ifd(EXIF_IFD)), "gps": dict(exif.get_ifd(GPS_IFD))}


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("source", [".jpg", ".webp", ".tif"])
def test_from_one_format_to_another(tmp_path: Path, source: str, written: str) -> None:
    first = read_image(_photograph(tmp_path / f"a{source}"))
    path = tmp_path / f"f{written}"
    write_image(path, first.with_pixels(COLOUR))
    back = read_image(path)
    assert back.carried["icc_profile"] == SRGB
    expected = (300.0, 150.0) if source != ".webp" else None  # where Pillow writes none
    if expected:
        np.testing.assert_allclose(back.carried["dpi"], expected, rtol=2e-4)
    assert back.carried["xmp"].replace(b' tiff:Orientation="6"', b"") == XMP.replace(b' tiff:Orientation="6"', b"")
    assert b"Orientation" not in back.carried["xmp"]
    exif = _read_exif(path)
    assert (exif[271], exif[306]) == ("A maker", "2026:11:30 12:00:00")
    assert exif.get(274, 1) == 1
    assert float(exif["exif"][33434]) == pytest.approx(1 / 250)
    assert (exif["exif"][36867], exif["exif"][34855]) == ("2026:11:30 11:59:59", 400)
    assert not {37500, 40962, 40963} & exif["exif"].keys()
    assert exif["gps"][1] == "N"
    assert [float(x) for x in exif["gps"][2]] == [52.0, 31.0, 12.5]


@pytest.mark.parametrize("suffix", WRITTEN)
def test_it_is_kept_from_file_to_file(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / f"a{suffix}", read_image(_photograph(tmp_path / "a0.jpg")))
    once = read_image(tmp_path / f"a{suffix}")
    write_image(tmp_path / f"b{suffix}", once)
    assert read_image(tmp_path / f"b{suffix}").carried == once.carried
    assert once.carried.keys() == {"icc_profile", "exif", "xmp", "dpi"}


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png"])
def test_what_is_turned_is_turned_once(tmp_path: Path, suffix: str) -> None:
    path = _photograph(tmp_path / f"a{suffix}", exif=_exif(6))
    image = read_image(path)
    assert image.shape == (48, 40, 3)
    if "dpi" in image.carried:
        np.testing.assert_allclose(image.carried["dpi"], (150, 300), rtol=2e-4)
    write_image(tmp_path / f"b{suffix}", image)
    assert read_image(tmp_path / f"b{suffix}").shape == (48, 40, 3)


def test_the_thumbnail_is_not_kept(tmp_path: Path) -> None:
    thumbnail = io.BytesIO()
    Pillow.fromarray(COLOUR).save(thumbnail, "JPEG")
    exif = _exif()
    exif.get_ifd(1).update({513: thumbnail.getvalue(), 514: len(thumbnail.getvalue())})
    image = read_image(_photograph(tmp_path / "a.jpg", exif=exif))
    kept = Pillow.Exif()
    kept.load(image.carried["exif"])
    assert kept.get_ifd(1) == {}
    assert thumbnail.getvalue()[:20] not in image.carried["exif"]


def test_broken_exif_is_left_out_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = bytearray(_photograph(tmp_path / "a.jpg").read_bytes())
    at = data.index(b"Exif\0\0") + 14
    data[at : at + 40] = b"\xff" * 40
    (tmp_path / "a.jpg").write_bytes(data)
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg").shape, COLOUR.shape)


def test_a_profile_of_other_colours_is_not_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for suffix in WRITTEN:
        path = tmp_path / f"a{suffix}"
        write_image(path, Image(GREY, name="a.jpg", carried={"icc_profile": SRGB}))
        assert "icc_profile" not in read_image(path).carried
        assert "a.jpg: its colour profile (RGB) does not fit the grey image that is written" in caplog.text
        caplog.clear()
        write_image(path, Image(COLOUR, carried={"icc_profile": OF_LAB}), overwrite=True)
        assert "image: its colour profile (Lab) does not fit the colour image that is written" in caplog.text


def test_more_than_jpeg_has_room_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = Image(GREY, name="a.png", carried={"xmp": b"x" * 70_000})
    write_image(tmp_path / "a.jpg", image)
    assert "a.png: its xmp of 70000 bytes does not fit JPEG, and is left out" in caplog.text
    write_image(tmp_path / "a.png", image)
    assert read_image(tmp_path / "a.png").carried == image.carried


GEO = {
    33550: (12, 3, (0.5, 0.5, 0.0)),
    33922: (12, 6, (0.0, 0.0, 0.0, 400000.0, 5800000.25, 0.0)),
    34735: (3, 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)),
    34736: (12, 2, (6378137.0, 298.25)),
    34737: (2, 13, "WGS 84 / UTM|"),
    42112: (2, 17, "<GDALMetadata/>"),
}


def _geotiff(path: Path, pixels: np.ndarray, nodata: str | None = None) -> Path:
    tags = [(code, *tag, True) for code, tag in GEO.items()]
    if nodata is not None:
        tags.append((42113, 2, 0, nodata, True))
    kind: dict[str, Any] = {"photometric": "rgb" if pixels.ndim == 3 else "minisblack"}
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, extratags=tags, metadata=None, tile=(16, 16), compression="lzw", **kind)
        file.write(pixels[::2, ::2], subfiletype=1, metadata=None, **kind)
    return path


@pytest.mark.parametrize("pixels", [GREY, COLOUR, GREY.astype(np.float32)], ids=["grey", "colour", "float"])
def test_where_a_geotiff_lies(tmp_path: Path, pixels: np.ndarray) -> None:
    first = read_image(_geotiff(tmp_path / "a.tif", pixels))
    assert first.valid is None
    np.testing.assert_array_equal(first, pixels)
    write_image(tmp_path / "f.tif", first.with_pixels(pixels[::-1]))
    with tifffile.TiffFile(tmp_path / "f.tif") as file:
        tags = file.pages.first.tags
        for code, (_, _, value) in GEO.items():
            assert tags[code].value == value, code
        assert file.geotiff_metadata["ProjectedCSTypeGeoKey"] == 32633
    assert read_image(tmp_path / "f.tif").carried == first.carried


@pytest.mark.parametrize(
    ("dtype", "nodata", "value"), [("uint8", "0", 0), ("int16", "-9999", -9999), ("float32", "nan", np.nan)]
)
def test_no_data(tmp_path: Path, dtype: str, nodata: str, value: float, caplog: pytest.LogCaptureFixture) -> None:
    seen = GREY > 60
    pixels = np.where(seen, GREY.astype(dtype), np.array(value, dtype))
    first = read_image(_geotiff(tmp_path / "a.tif", pixels, nodata))
    np.testing.assert_array_equal(first.valid, seen)
    write_image(tmp_path / "f.tif", first.with_pixels(GREY.astype(dtype) // 2 + 1, seen))
    back = read_image(tmp_path / "f.tif")
    assert back.carried == first.carried
    np.testing.assert_array_equal(back.valid, seen)
    with tifffile.TiffFile(tmp_path / "f.tif") as file:
        assert file.pages.first.samplesperpixel == 1  # told by the value, as it was
    assert caplog.text == ""
    if dtype == "uint8":  # a valid pixel has the value now
        write_image(tmp_path / "f.tif", first.with_pixels(pixels, np.ones_like(seen)), overwrite=True)
        assert "a.tif: its value for no data, 0, is one that the image has or cannot have" in caplog.text
        assert read_image(tmp_path / "f.tif").valid is None


def test_a_value_for_no_data_that_the_dtype_cannot_hold(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = read_image(_geotiff(tmp_path / "a.tif", GREY, "-9999"))
    assert first.valid is None
    write_image(tmp_path / "f.tif", first.with_pixels(GREY, GREY > 9))
    np.testing.assert_array_equal(read_image(tmp_path / "f.tif").valid, GREY > 9)
    assert "is one that the image has or cannot have, and is left out" in caplog.text


def test_cmyk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.jpg"
    rgb = Pillow.fromarray(np.tile(np.uint8([200, 60, 30]), (16, 16, 1)))
    rgb.convert("CMYK").save(path, quality=100)
    image = read_image(path)
    assert np.abs(image.pixels.astype(int) - [200, 60, 30]).max() <= 3
    assert "a.jpg: is CMYK without a profile; its colours are converted to RGB plainly" in caplog.text
    assert image.carried["icc_profile"][16:20] == b"RGB "


def test_cmyk_is_converted_by_its_profile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    Pillow.new("CMYK", (16, 16), (10, 20, 30, 40)).save(path, icc_profile=b"of a press")
    asked = []

    def convert(picture: Pillow.Image, source: io.BytesIO, *_: Any, outputMode: str) -> Pillow.Image:
        asked.append((picture.mode, source.getvalue()))
        return Pillow.new(outputMode, picture.size, (1, 2, 3))

    monkeypatch.setattr(ImageCms, "profileToProfile", convert)
    assert read_image(path).pixels[0, 0].tolist() == [1, 2, 3]
    assert asked == [("CMYK", b"of a press")]
    assert "a.jpg: is CMYK; its colours are converted to sRGB by its profile" in caplog.text


def test_profiles_are_brought_to_the_first(caplog: pytest.LogCaptureFixture) -> None:
    first = Image(COLOUR, name="a.jpg", carried={"icc_profile": SRGB})
    other = Image(COLOUR, GREY > 9, "b.jpg", carried={"icc_profile": _swapped(), "xmp": XMP})
    converted = to_profile_of(other, first)
    assert np.abs(converted.pixels.astype(int) - COLOUR[..., ::-1]).max() <= 2
    assert converted.carried == {"icc_profile": SRGB, "xmp": XMP}
    assert converted.valid is other.valid
    assert "b.jpg: is converted from its colour profile to that of a.jpg" in caplog.text
    for alike in (first, Image(COLOUR), Image(GREY, carried=other.carried)):
        assert to_profile_of(alike, first) is alike
    deep = other.with_pixels(COLOUR.astype(np.uint16))
    assert to_profile_of(deep, first) is deep
    assert "b.jpg: has another colour profile than a.jpg, and is of uint16: not converted" in caplog.text
    broken = Image(COLOUR, name="c.jpg", carried={"icc_profile": SRGB[:200]})
    with pytest.raises(ValueError, match=r"c\.jpg: cannot be converted to the colour profile of a\.jpg .*; remove one"):
        to_profile_of(broken, first)


def test_nothing_is_logged_of_what_carries_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for suffix in (*WRITTEN, ".bmp", ".npy", ".avif"):
        write_image(tmp_path / f"a{suffix}", GREY)
        assert read_image(tmp_path / f"a{suffix}").carried.keys() <= {"dpi", "icc_profile"}
    assert caplog.text == ""
