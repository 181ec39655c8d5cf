"""Zarr and OME-Zarr, as other programs write and read them; and pixels that stay in their files."""

from __future__ import annotations

import json
import logging
import lzma
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr

from nmfuse.images import Grid, Image
from nmfuse.io import is_one_source, list_images, open_image, read_image, write_image

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of its own parts
    from ome_zarr.format import FormatV04, FormatV05
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader
    from ome_zarr.writer import write_image as ome_write

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 4000, (150, 203)).astype(np.uint16)
UNIT = [{"name": name, "type": "space", "unit": "micrometer"} for name in ("y", "x")]


def ome(path: Path, pixels: np.ndarray, axes: list[dict[str, str]], scale: list[float], fmt: Any, **more: Any) -> None:
    """Write an image by the reference implementation of OME-Zarr."""
    group = zarr.open_group(path, mode="w", zarr_format=fmt.zarr_format)
    ome_write(
        pixels,
        group,
        axes=axes,
        scale=dict(zip((axis["name"] for axis in axes), scale, strict=True)),
        axes_units={axis["name"]: axis["unit"] for axis in axes if "unit" in axis},
        scale_factors=[],
        fmt=fmt,
        **more,
    )


FORMATS = [FormatV04(), FormatV05()]


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.version)
def test_ome_zarr_that_its_reference_wrote(tmp_path: Path, fmt: Any) -> None:
    ome(tmp_path / "x.zarr", PIXELS, UNIT, [0.5, 0.25], fmt)
    image = read_image(tmp_path / "x.zarr")
    np.testing.assert_array_equal(image.pixels, PIXELS)
    assert image.grid is not None
    assert (image.name, image.dtype, image.grid.spacing) == ("x.zarr", np.uint16, (0.0005, 0.00025))
    np.testing.assert_array_equal(image.grid.affine @ [2, 3, 1], [0.00075, 0.001, 1])  # x and y of row 2, column 3


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.version)
def test_channels_are_pages_and_a_volume_is_one_image(tmp_path: Path, fmt: Any) -> None:
    pixels = RNG.integers(0, 255, (2, 3, 4, 20, 24), np.uint8)
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "millimeter"} for name in ("z", "y", "x")]
    ome(tmp_path / "x.zarr", pixels, axes, [1, 1, 3, 0.5, 0.5], fmt)
    with pytest.raises(ValueError, match=r"has 6 pages \(axes t of 2, c of 3; the last .*x\.zarr\[0\] to .*\[5\]"):
        read_image(tmp_path / "x.zarr")
    for page in range(6):
        image = read_image(f"{tmp_path}/x.zarr[{page}]")
        np.testing.assert_array_equal(image.pixels, pixels[page // 3, page % 3])
        assert (image.spatial, sorted(image.grid.spacing)) == (3, [0.5, 0.5, 3.0])
    np.testing.assert_array_equal(read_image(f"{tmp_path}/x.zarr:/[4]").pixels, pixels[1, 1])
    with pytest.raises(ValueError, match=r"has no page 6; it has 6, the first is .*x\.zarr\[0\]"):
        read_image(f"{tmp_path}/x.zarr[6]")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("shape", [(150, 203), (150, 203, 3), (4, 30, 40)])
def test_plain_arrays_of_both_versions(tmp_path: Path, version: Any, shape: tuple[int, ...]) -> None:
    pixels = RNG.integers(-999, 999, shape).astype(np.int16)
    chunks = tuple(min(64, n) for n in shape)
    zarr.create_array(tmp_path / "x.zarr", data=pixels, chunks=chunks, zarr_format=version)
    for found in (read_image(tmp_path / "x.zarr"), open_image(tmp_path / "x.zarr")):
        np.testing.assert_array_equal(np.asarray(found), pixels)
        assert (found.shape, found.dtype) == (shape, np.int16)
    np.testing.assert_array_equal(open_image(tmp_path / "x.zarr").pixels[2:3, 5:29], pixels[2:3, 5:29])


def test_big_endian_shards_and_groups(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "x.zarr", mode="w")
    group.create_array("a/one", data=PIXELS.astype(">u2"), chunks=(32, 32), shards=(64, 64))
    group.create_array("two", data=PIXELS[:40], chunks=(32, 32))
    with pytest.raises(ValueError, match=r"holds 2 arrays; choose one: .*x\.zarr:/a/one, .*x\.zarr:/two"):
        read_image(tmp_path / "x.zarr")
    image = read_image(f"{tmp_path}/x.zarr:/a/one")
    np.testing.assert_array_equal(image.pixels, PIXELS)
    assert image.dtype.isnative
    assert read_image(f"{tmp_path}/x.zarr:two").shape == (40, 203)
    for outside in ("nothing", "../x.zarr/two", "a/../two"):
        with pytest.raises(ValueError, match="has no array"):
            read_image(f"{tmp_path}/x.zarr:/{outside}")
    with pytest.raises(ValueError, match="plain array, which has no pages"):
        read_image(f"{tmp_path}/x.zarr:/two[1]")
    zarr.open_group(tmp_path / "empty.zarr", mode="w")
    with pytest.raises(ValueError, match="holds 0 arrays; choose one: there is none"):
        read_image(tmp_path / "empty.zarr")
    (tmp_path / "nothing.zarr").mkdir()
    with pytest.raises(ValueError, match="not a readable image"):
        read_image(tmp_path / "nothing.zarr")
    assert [path.name for path in list_images(tmp_path)] == ["empty.zarr", "nothing.zarr", "x.zarr"]
    assert is_one_source(tmp_path / "x.zarr")


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("colour", [False, True])
def test_what_is_written_is_read_by_the_reference(tmp_path: Path, dtype: str, colour: bool) -> None:
    shape = (1301, 1030, 3) if colour else (1301, 1030)
    pixels = RNG.integers(0, 200, shape).astype(dtype)
    grid = Grid(shape[:2], np.array([[0, 0.25, 5], [0.5, 0, 7], [0, 0, 1.0]]))
    write_image(tmp_path / "x.zarr", Image(pixels, grid=grid, name="made"))
    (node,) = Reader(parse_url(tmp_path / "x.zarr", mode="r"))()
    stored = np.moveaxis(pixels, -1, 0) if colour else pixels
    sizes = [(1301, 1030), (651, 515), (326, 258)]
    assert [level.shape[-2:] for level in node.data] == sizes
    np.testing.assert_array_equal(np.asarray(node.data[0]), stored)
    mean = stored[..., :1300, :].reshape(*stored.shape[:-2], 650, 2, 515, 2).astype(float).mean((-3, -1))
    last = stored[..., 1300:, :].reshape(*stored.shape[:-2], 1, 515, 2).astype(float).mean(-1)  # is repeated
    expected = np.concatenate([mean, last], axis=-2)
    np.testing.assert_array_equal(np.asarray(node.data[1]), expected if dtype == "float32" else np.rint(expected))
    transforms = node.metadata["coordinateTransformations"]
    assert [step[0]["scale"][-2:] for step in transforms] == [[0.5, 0.25], [1.0, 0.5], [2.0, 1.0]]
    assert [step[1]["translation"][-2:] for step in transforms] == [[7, 5], [7.25, 5.125], [7.75, 5.375]]
    back = read_image(tmp_path / "x.zarr")
    np.testing.assert_array_equal(back.pixels, pixels)
    assert back.grid.difference(grid) == ""


def test_volumes_and_their_header_there_and_back(tmp_path: Path) -> None:
    fmt = FORMATS[0]
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in ("z", "y", "x")]
    volume = RNG.normal(size=(4, 20, 24)).astype(np.float32)
    ome(tmp_path / "x.zarr", volume, axes, [0.1, 0.3, 0.7], fmt)
    image = read_image(tmp_path / "x.zarr")
    shown = volume > -1
    write_image(tmp_path / "y.zarr", image, valid=shown)
    back = read_image(tmp_path / "y.zarr")
    np.testing.assert_array_equal(back.pixels, np.where(shown, volume, np.nan))
    assert (back.grid.header.scale, back.grid.header.axes) == ([0.1, 0.3, 0.7], axes)
    with pytest.raises(ValueError, match="transparent"):
        write_image(tmp_path / "z.zarr", Image(np.ones((4, 4), np.uint8), np.eye(4, dtype=bool)))


def test_a_folder_of_chunks_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "x.zarr", PIXELS)
    with pytest.raises(FileExistsError, match="exists already"):
        write_image(tmp_path / "x.zarr", PIXELS)
    monkeypatch.setattr("nmfuse.io.zarr.halve", lambda *_: 1 / 0)
    with pytest.raises(OSError, match="cannot be written: division by zero"):
        write_image(tmp_path / "x.zarr", np.zeros((600, 600), np.uint8), overwrite=True)
    np.testing.assert_array_equal(read_image(tmp_path / "x.zarr").pixels, PIXELS)
    monkeypatch.undo()
    write_image(tmp_path / "x.zarr", PIXELS + 1, overwrite=True)
    np.testing.assert_array_equal(read_image(tmp_path / "x.zarr").pixels, PIXELS + 1)
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]
    (tmp_path / "plain").mkdir()
    with pytest.raises(ValueError, match="unknown image suffix"):
        write_image(tmp_path / "plain", PIXELS, overwrite=True)


@pytest.mark.parametrize("version", [2, 3])
def test_chunks_that_are_broken_or_missing(tmp_path: Path, version: Any, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.zarr"
    zarr.create_array(path, data=PIXELS, chunks=(64, 64), zarr_format=version)
    chunk = path / ("1.2" if version == 2 else "c/1/2")
    kept = chunk.read_bytes()
    for broken in (b"", kept[: len(kept) // 2], b"\xff" * len(kept)):
        chunk.write_bytes(broken)
        with pytest.raises(ValueError, match=r"x\.zarr: not a readable image"):
            read_image(path)
        np.testing.assert_array_equal(open_image(path).pixels[:64], PIXELS[:64])  # where it is whole
    chunk.unlink()
    with caplog.at_level(logging.WARNING, "nmfuse.io"):
        image = read_image(path)
    assert "1 of 12 chunks are not there; by its fill_value their pixels are 0" in caplog.text
    assert not image.pixels[64:128, 128:192].any()
    if version == 2:
        header = json.loads((path / ".zarray").read_text())
        (path / ".zarray").write_text(json.dumps({**header, "fill_value": None}))
        with pytest.raises(ValueError, match="1 of 12 chunks are missing, and it says no fill_value"):
            read_image(path)


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ({"shape": [2**20, 2**20]}, r"has 1099511627776 pixels, more than 134217728"),
        ({"shape": [2**20, 2**20], "chunks": [2**20, 2**20]}, r"has 1099511627776 pixels"),
        ({"chunks": [2**20, 2**20]}, r"has 1099511627776 pixels"),
        ({"shape": [-4, 4]}, "not a readable image"),
        ({"dtype": "|O"}, r"not a readable image|pixels are object"),
        ({"dtype": "<c8", "fill_value": [0, 0]}, "not a readable image|pixels are complex64"),
        ({"dtype": "<u4"}, "pixels are uint32; convert them to one of uint8"),
        ({"filters": [{"id": "pickle"}]}, "not a readable image"),
        ({"compressor": {"id": "pickle"}}, "not a readable image"),
        ({"compressor": {"id": "nothing"}}, "not a readable image"),
        ({"zarr_format": 9}, "not a readable image"),
    ],
)
def test_lies_in_the_header_cost_no_memory(tmp_path: Path, lie: dict[str, Any], said: str) -> None:
    zarr.create_array(tmp_path / "x.zarr", data=PIXELS, chunks=(64, 64), zarr_format=2)
    header = json.loads((tmp_path / "x.zarr" / ".zarray").read_text())
    (tmp_path / "x.zarr" / ".zarray").write_text(json.dumps({**header, **lie}))
    tracemalloc.start()
    with pytest.raises(ValueError, match=said):
        read_image(tmp_path / "x.zarr")
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


def test_ome_metadata_that_lies(tmp_path: Path) -> None:
    write_image(tmp_path / "x.zarr", PIXELS)
    text = (tmp_path / "x.zarr/zarr.json").read_text()
    for old, new, said in (
        ('"path": "0"', '"path": "9"', "not a readable image"),
        ('"path": "0"', '"path": "../../secret"', "not a readable image"),
        ('"name": "y"', '"name": "q"', r"axes q, x of shape \(150, 203\); expected those of space last"),
        ('"datasets"', '"others"', "says that it has several levels, and names none"),
    ):
        assert old in text
        (tmp_path / "x.zarr/zarr.json").write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=said):
            read_image(tmp_path / "x.zarr")


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    large = np.broadcast_to(np.arange(2048, dtype=np.uint16), (2048, 2048))
    tile = slice(100, 140), slice(2000, 2048)
    tifffile.imwrite(tmp_path / "tiled.tif", large, tile=(128, 128), compression="zlib", bigtiff=True)
    tifffile.imwrite(tmp_path / "big_endian.tif", large, byteorder=">")  # as it is, in strips
    tifffile.imwrite(tmp_path / "strips.tif", large, rowsperstrip=16, compression="zlib", predictor=True)
    np.save(tmp_path / "rows.npy", large)
    np.save(tmp_path / "columns.npy", np.asfortranarray(large))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("t1", data=large, chunks=(64, 64), compression="gzip")
    zarr.create_array(tmp_path / "x.zarr", data=np.ascontiguousarray(large), chunks=(128, 128))
    for name in ("tiled.tif", "big_endian.tif", "strips.tif", "rows.npy", "columns.npy", "x.h5", "x.h5:/t1", "x.zarr"):
        image = open_image(tmp_path / name)
        assert (image.name, image.shape, image.dtype) == (Path(name).name, (2048, 2048), np.uint16)
        tracemalloc.start()
        np.testing.assert_array_equal(image.pixels[tile], large[tile])
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert used < large.nbytes / 4, name


def test_colour_of_a_tiled_tiff_plane_by_plane(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (100, 90, 3), np.uint8)
    tifffile.imwrite(tmp_path / "c.tif", pixels, tile=(32, 32), photometric="rgb", resolution=(300, 300))
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    tifffile.imwrite(tmp_path / "p.tif", planes, tile=(32, 32), photometric="rgb", planarconfig="separate")
    for name in ("c.tif", "p.tif"):
        image = open_image(tmp_path / name)
        assert (image.shape, image.spatial) == ((100, 90, 3), 2)
        np.testing.assert_array_equal(image.pixels[10:40, 20:70], pixels[10:40, 20:70])
    assert open_image(tmp_path / "c.tif").carried["dpi"] == (300, 300)


def test_a_page_of_several_in_its_file(tmp_path: Path) -> None:
    stack = RNG.integers(0, 255, (3, 70, 90), np.uint8)
    for name, options in {"x.ome.tif": {"tile": (32, 32), "metadata": {"axes": "ZYX"}}, "y.tif": {}}.items():
        tifffile.imwrite(tmp_path / name, stack, photometric="minisblack", **options)
        np.testing.assert_array_equal(open_image(f"{tmp_path / name}[2]").pixels[5:60, 7:], stack[2, 5:60, 7:])
        with pytest.raises(ValueError, match=r"has 3 pages.*choose one by its number"):
            open_image(tmp_path / name)


def test_what_is_not_read_in_parts(tmp_path: Path) -> None:
    write_image(tmp_path / "x.png", PIXELS)
    with pytest.raises(ValueError, match=r"PNG is not read in parts; store it as tiled TIFF, Zarr, HDF5 or \.npy"):
        open_image(tmp_path / "x.png")
    write_image(tmp_path / "x.tif", PIXELS, valid=PIXELS > 9)
    with pytest.raises(ValueError, match="has channels beside its colours, which is not read by tiles"):
        open_image(tmp_path / "x.tif")
    tifffile.imwrite(tmp_path / "y.tif", PIXELS, compression="zlib")
    (tmp_path / "y.tif").write_bytes((tmp_path / "y.tif").read_bytes()[:-200])
    with pytest.raises(ValueError, match="not a readable image"):
        open_image(tmp_path / "y.tif")


CODECS_OF_2 = [
    numcodecs.GZip(),
    numcodecs.Zlib(),
    numcodecs.BZ2(),
    numcodecs.LZMA(),
    numcodecs.Zstd(),
    numcodecs.LZ4(),
    numcodecs.Blosc(),
]
CODECS_OF_3 = [zarr.codecs.GzipCodec(), zarr.codecs.ZstdCodec(), zarr.codecs.BloscCodec()]


@pytest.mark.parametrize(
    ("codec", "zarr_format", "sharded"),
    [(codec, 2, False) for codec in CODECS_OF_2] + [(codec, 3, how) for codec in CODECS_OF_3 for how in (False, True)],
)
def test_a_chunk_that_unpacks_to_more_than_it_holds(
    tmp_path: Path, codec: Any, zarr_format: int, sharded: bool
) -> None:
    options: dict[str, Any] = {"compressors": codec, "zarr_format": zarr_format}
    paths = [tmp_path / "x.zarr", tmp_path / "y.zarr"]
    for path, rows in zip(paths, (64, 4096), strict=True):
        shards = {"shards": (2 * rows, 64)} if sharded else {}
        zarr.create_array(path, shape=(2 * rows, 64), chunks=(rows, 64), dtype=np.uint8, **shards, **options)[...] = 7
    np.testing.assert_array_equal(read_image(paths[0]).pixels, np.full((128, 64), 7))
    for file in paths[1].rglob("*"):
        if file.is_file() and file.name not in ("zarr.json", ".zarray", ".zattrs"):
            (paths[0] / file.relative_to(paths[1])).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match="unpacks to more than the 4096 that it is to hold"):
        read_image(paths[0])


def test_chunks_by_lzma_of_its_raw_format(tmp_path: Path) -> None:
    codec = numcodecs.LZMA(lzma.FORMAT_RAW, check=-1, preset=None, filters=[{"id": lzma.FILTER_LZMA2, "preset": 1}])
    path, options = tmp_path / "x.zarr", {"compressors": codec, "zarr_format": 2}
    zarr.create_array(path, shape=(64, 64), chunks=(64, 64), dtype=np.uint8, **options)[...] = 7
    np.testing.assert_array_equal(read_image(path).pixels, np.full((64, 64), 7))


@pytest.mark.parametrize(("blocks", "error"), [(1, None), (4, "by zstd, unpacks to more than the 131072 that")])
def test_frames_of_zstd_that_do_not_say_their_size(tmp_path: Path, blocks: int, error: str | None) -> None:
    """Written by hand: a header without a size, and blocks of 128 KiB that repeat one byte (RFC 8878)."""
    path = tmp_path / "x.zarr"
    zarr.create_array(path, shape=(256, 512), chunks=(256, 512), dtype=np.uint8, compressors=zarr.codecs.ZstdCodec())
    heads = [(k == blocks - 1) | 1 << 1 | 2**17 << 3 for k in range(blocks)]
    chunk = path / "c" / "0" / "0"
    chunk.parent.mkdir(parents=True)
    chunk.write_bytes(b"\x28\xb5\x2f\xfd\0\x50" + b"".join(head.to_bytes(3, "little") + b"\7" for head in heads))
    if error is None:
        assert (read_image(path).pixels == 7).all()
    else:
        with pytest.raises(ValueError, match=error):
            read_image(path)
