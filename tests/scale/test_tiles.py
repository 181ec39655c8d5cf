"""Images larger than memory: in tiles they become what they become as a whole."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from scipy import ndimage

import nmfuse
from nmfuse.images import Grid, Image
from nmfuse.io import open_image, read_image, write_image
from nmfuse.scale import fuse_tiles
from nmfuse.scale.tiles import tiling_methods

pytestmark = pytest.mark.usefixtures("one_thread")
RNG = np.random.default_rng(0)
SHAPE = (190, 235)


def scene(*, colour: bool = False, blur: float = 1.5) -> np.ndarray:
    """Return a picture with details of all sizes, uint8."""
    shape = (*SHAPE, 3) if colour else SHAPE
    layers = sum(ndimage.gaussian_filter(RNG.normal(size=shape), (s, s, 0) if colour else s) * s for s in (blur, 4, 15))
    low, high = layers.min(), layers.max()
    return ((layers - low) / (high - low) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return files of two grey images and one in colour, each written by another program."""
    folder = tmp_path_factory.mktemp("sources")
    a, b, c = scene(), scene(blur=3), scene(colour=True)
    zarr.create_array(folder / "a.zarr", data=a, chunks=(50, 64), zarr_format=2)
    tifffile.imwrite(folder / "b.tif", b, tile=(48, 64), compression="zlib", bigtiff=True)
    with h5py.File(folder / "c.h5", "w") as file:
        file.create_dataset("c", data=c, chunks=(40, 40, 3))
    return {"a": folder / "a.zarr", "b": folder / "b.tif", "c": folder / "c.h5", "folder": folder}


def whole(paths: list[Path], **options: Any) -> np.ndarray:
    return nmfuse.fuse(*[np.asarray(open_image(path)) for path in paths], **options)


OPTIONS: list[dict[str, Any]] = [
    {"method": "average"},
    {"method": "maximum"},
    {"method": "laplacian"},
    {"method": "contrast", "levels": 3},
    {"method": "learned", "rounding": "nearest", "output": "float32"},
    {"method": "learned"},
    {"method": "learned", "denoise": "all", "smooth": True, "sharpen": 0.5, "output": "float32", "window": "auto"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_tiles_give_what_the_whole_gives(sources: dict[str, Path], tmp_path: Path, options: dict[str, Any]) -> None:
    paths = [sources["a"], sources["b"]]
    fuse_tiles(paths, tmp_path / "f.zarr", tile=96, **options)
    found, expected = read_image(tmp_path / "f.zarr").pixels, whole(paths, **options)
    assert found.dtype == expected.dtype
    if found.dtype == np.uint8:
        assert (found == expected).mean() > 0.999
        np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=1)
    else:
        np.testing.assert_allclose(found, expected, atol=3e-6)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".nmfuse.lock"] == ["f.zarr"]


@pytest.mark.parametrize("method", ["laplacian", "learned"])
@pytest.mark.parametrize("balance", [(1, 0.5, 0.25), (0.5, 1, 0), (0, 0.5, 0)])
def test_each_source_as_much_as_it_is_wanted(
    sources: dict[str, Path], tmp_path: Path, method: str, balance: tuple[float, ...]
) -> None:
    paths = [sources["a"], sources["b"], sources["c"]]
    options: dict[str, Any] = {"method": method, "output": "float32", "balance": balance}
    fuse_tiles(paths, tmp_path / "f.zarr", tile=96, **options)
    np.testing.assert_allclose(np.asarray(open_image(tmp_path / "f.zarr")), whole(paths, **options), atol=3e-6)
    with pytest.raises(ValueError, match=r"balance: got \[1\]; expected 3 numbers from 0 to 1"):
        fuse_tiles(paths, tmp_path / "g.zarr", balance=[1])


@pytest.mark.parametrize("options", [{}, {"rounding": "nearest", "output": "float32"}], ids=["uint8", "float32"])
def test_parts_see_as_far_as_the_network_does(tmp_path: Path, options: dict[str, Any]) -> None:
    pixels = [RNG.integers(0, 256, (40, 1100), np.uint8) for _ in range(3)]
    smooth = [ndimage.gaussian_filter(x.astype(float), 3) for x in pixels]
    for number, x in enumerate(smooth):
        np.save(tmp_path / f"{number}.npy", np.clip(4 * x - 380, 0, 255).astype(np.uint8))
    paths = [tmp_path / f"{number}.npy" for number in range(3)]
    fuse_tiles(paths, tmp_path / "f.zarr", tile=64, **options)
    found, expected = read_image(tmp_path / "f.zarr").pixels, whole(paths, **options)
    if options:
        np.testing.assert_allclose(found, expected, atol=3e-6)
    else:
        assert (found == expected).mean() > 0.999


def test_colour_windows_and_tiled_tiff(sources: dict[str, Path], tmp_path: Path) -> None:
    paths = [sources["c"], sources["a"]]
    options: dict[str, Any] = {"window": ["auto", (20, 180)], "output": "uint16"}
    fuse_tiles(paths, tmp_path / "f.tif", tile=64, **options)
    with tifffile.TiffFile(tmp_path / "f.tif") as file:
        page = file.pages.first
        assert (file.is_bigtiff, page.is_tiled, page.shape) == (True, True, (*SHAPE, 3))
    np.testing.assert_allclose(read_image(tmp_path / "f.tif").pixels, whole(paths, **options), atol=2)
    fuse_tiles(paths[::-1], tmp_path / "g.zarr", tile=64, window=options["window"][::-1], output="uint16")
    np.testing.assert_array_equal(read_image(tmp_path / "f.tif").pixels, read_image(tmp_path / "g.zarr").pixels)


@pytest.mark.parametrize("window", [None, "minmax", "auto", (-100, 900), [(-100, 900), "auto"]], ids=str)
def test_windows_of_floats_and_integers(tmp_path: Path, window: Any) -> None:
    a, b = RNG.normal(300, 90, (64, 100)).astype(np.float32), RNG.normal(250, 120, (64, 100)).astype(np.float32)
    np.save(tmp_path / "a.npy", a)
    np.save(tmp_path / "b.npy", b)
    fuse_tiles([tmp_path / "a.npy", tmp_path / "b.npy"], tmp_path / "f.zarr", method="average", tile=32, window=window)
    expected = nmfuse.fuse(a, b, method="average", window=window)
    np.testing.assert_allclose(read_image(tmp_path / "f.zarr").pixels, expected, rtol=1e-5)


def test_ranges_that_differ_are_asked_for(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RNG.integers(0, 256, (40, 40), np.uint8))
    np.save(tmp_path / "b.npy", RNG.integers(0, 4000, (40, 40), np.uint16))
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    with pytest.raises(ValueError, match=r"window: not given, .* ranges differ \(a.npy uint8, 0 to 255; b.npy uint16"):
        fuse_tiles(paths, tmp_path / "f.zarr", method="average")
    with pytest.raises(ValueError, match=r"data_range: got .* but the images span \d+ to 3"):
        fuse_tiles(paths, tmp_path / "f.zarr", method="average", data_range=(0, 255))
    with pytest.raises(ValueError, match="window: got 3 windows, and 2 sources"):
        fuse_tiles(paths, tmp_path / "f.zarr", method="average", window=["auto"] * 3)


def test_where_it_lies_is_kept(tmp_path: Path) -> None:
    grid = Grid((40, 60), np.array([[0, 0.002, 0], [0.003, 0, 0], [0, 0, 1]]))
    for name in "ab":
        write_image(tmp_path / f"{name}.zarr", Image(RNG.integers(0, 256, (40, 60), np.uint8), grid=grid))
    fuse_tiles([tmp_path / "a.zarr", tmp_path / "b.zarr"], tmp_path / "f.zarr", method="average", tile=32)
    assert read_image(tmp_path / "f.zarr").grid.difference(grid) == ""
    moved = Grid((40, 60), np.array([[0, 0.002, 5], [0.003, 0, 0], [0, 0, 1]]))
    write_image(tmp_path / "m.zarr", Image(RNG.integers(0, 256, (40, 60), np.uint8), grid=moved))
    with pytest.raises(ValueError, match=r"m\.zarr: is not on the grid of a\.zarr: first pixels 5 mm apart"):
        fuse_tiles([tmp_path / "a.zarr", tmp_path / "m.zarr"], tmp_path / "f.zarr", method="average", overwrite=True)


def test_what_cannot_be_fused_in_tiles_is_refused_before_any_work(sources: dict[str, Path], tmp_path: Path) -> None:
    a, b = sources["a"], sources["b"]
    target = tmp_path / "f.zarr"
    with pytest.raises(ValueError, match=r"looks at the whole image.*choose one of learned, learned-all, average, max"):
        fuse_tiles([a, b], target, method="paper")
    assert tiling_methods() == ["learned", "learned-all", "average", "maximum", "laplacian", "contrast"]
    with pytest.raises(ValueError, match="looks at the whole image"):
        fuse_tiles([a, b], target, method="laplacian", levels=9)
    with pytest.raises(ValueError, match=r"sources: got 1; expected two or more"):
        fuse_tiles([a], target)
    with pytest.raises(ValueError, match=r"f\.png: images larger than memory are written as \.zarr or \.tif"):
        fuse_tiles([a, b], tmp_path / "f.png")
    with pytest.raises(ValueError, match="tile: got 1056; expected a multiple of 32, and of 1024 from there on"):
        fuse_tiles([a, b], target, tile=1056)
    write_image(tmp_path / "small.zarr", np.zeros((190, 234), np.uint8))
    with pytest.raises(ValueError, match=r"small\.zarr: size 190 x 234, but .*a\.zarr is 190 x 235 \(rows x columns\)"):
        fuse_tiles([a, tmp_path / "small.zarr"], target)
    write_image(tmp_path / "volume.zarr", np.zeros((4, 190, 235), np.uint8))
    with pytest.raises(ValueError, match=r"volume\.zarr: is a volume of shape \(4, 190, 235\)"):
        fuse_tiles([a, tmp_path / "volume.zarr"], target)
    np.save(tmp_path / "nan.npy", np.where(np.eye(190, 235), np.nan, 0.5))
    with pytest.raises(ValueError, match="fill: not given, and some pixels are valid in no source, which uint8 cannot"):
        fuse_tiles([tmp_path / "nan.npy"] * 2, target, method="average", window=(0, 1), output="uint8")
    with pytest.raises(ValueError, match="nodata: got 3 values; expected one, or one for each of the 2 sources"):
        fuse_tiles([a, a], target, nodata=[0, 0, 0])
    with pytest.raises(ValueError, match=r"nodata: got 300; .* has uint8, which is never that"):
        fuse_tiles([a, a], target, nodata=300)
    parts = []
    for k in range(5):  # each pair of five sources is alone somewhere
        shown = np.full(SHAPE, np.nan)
        for number, pair in enumerate(itertools.combinations(range(5), 2)):
            if k in pair:
                shown[10 * number : 10 * number + 10] = 0.5
        np.save(tmp_path / f"{k}.npy", shown)
        parts.append(tmp_path / f"{k}.npy")
    with pytest.raises(ValueError, match="10 different sets of them are valid together somewhere"):
        fuse_tiles(parts, target, method="average", window=(0, 1))
    with pytest.raises(ValueError, match="a source is never overwritten"):
        fuse_tiles([a, b], a, overwrite=True)
    write_image(target, np.zeros((20, 20), np.uint8))
    with pytest.raises(FileExistsError, match="exists already"):
        fuse_tiles([a, b], target)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("name", ["f.zarr", "f.tif"])
@pytest.mark.parametrize("method", ["average", "learned"])
def test_a_run_goes_on_where_it_was_ended(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, method: str
) -> None:
    paths, fused, ended = [sources["a"], sources["b"]], [], 0
    (tmp_path / "whole").mkdir()
    fuse_tiles(paths, tmp_path / "whole" / name, method=method, tile=96)
    of_method = type(nmfuse.Fuser(method).options)
    plain = of_method.fuse_part

    def counted(self: Any, part: Any, known: Any) -> Any:
        fused.append((part.there[0].start, part.there[1].start))
        return plain(self, part, known)

    monkeypatch.setattr(of_method, "fuse_part", counted)
    while not (tmp_path / name).exists():
        calls = 0

        def report(done: int, total: int, what: str, most: int = 5 + 7 * ended) -> None:
            nonlocal calls
            calls += 1
            if calls > most:
                raise Killed

        try:
            fuse_tiles(paths, tmp_path / name, method=method, tile=96, report=report)
        except Killed:
            ended += 1
            assert not (tmp_path / name).exists()
    assert ended >= 2
    again = len(fused) - len(set(fused))
    assert set(fused) == {(row, column) for row in (0, 96) for column in (0, 96, 192)}
    assert again <= 2  # that were being fused when the run was ended
    assert contents(tmp_path / name) == contents(tmp_path / "whole" / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".nmfuse.lock", name, "whole"]


def contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {file.relative_to(path.parent).as_posix(): file.read_bytes() for file in files}


def test_work_of_other_options_or_sources_is_begun_anew(
    sources: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.asarray(open_image(sources[name])))
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]

    def stop(done: int, total: int, what: str) -> None:
        if (done, what) == (2, "fuse"):
            raise Killed

    def begin(**options: Any) -> str:
        caplog.clear()
        with pytest.raises(Killed):
            fuse_tiles(paths, tmp_path / "f.zarr", tile=96, report=stop, **options)
        return caplog.text

    assert begin(method="average") == begin(method="average") == ""
    assert "is of a run with other sources or options, and is begun anew" in begin(method="maximum")
    np.save(tmp_path / "b.npy", np.asarray(open_image(sources["b"]))[::-1])
    assert "begun anew" in begin(method="maximum")
    fuse_tiles(paths, tmp_path / "f.zarr", tile=96, method="maximum")
    np.testing.assert_array_equal(read_image(tmp_path / "f.zarr").pixels, whole(paths, method="maximum"))


def test_a_run_that_was_ended_after_its_last_step(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [sources["a"], sources["b"]]

    def put_and_end(made: Path, target: Path) -> None:
        made.rename(target)
        raise Killed

    monkeypatch.setattr("nmfuse.scale.tiles.put_in_place", put_and_end)
    with pytest.raises(Killed):
        fuse_tiles(paths, tmp_path / "f.zarr", method="average", tile=96)
    monkeypatch.undo()
    assert (tmp_path / ".f.zarr.part" / "journal").exists()
    np.testing.assert_array_equal(read_image(tmp_path / "f.zarr").pixels, whole(paths, method="average"))
    fuse_tiles(paths, tmp_path / "f.zarr", method="average", tile=96, overwrite=True)
    np.testing.assert_array_equal(read_image(tmp_path / "f.zarr").pixels, whole(paths, method="average"))
    assert not (tmp_path / ".f.zarr.part").exists()


def test_a_chunk_that_is_broken_ends_the_run_and_is_named(sources: dict[str, Path], tmp_path: Path) -> None:
    a = np.asarray(open_image(sources["a"]))
    zarr.create_array(tmp_path / "x.zarr", data=a, chunks=(64, 64))
    chunk = tmp_path / "x.zarr" / "c" / "2" / "1"
    kept = chunk.read_bytes()
    chunk.write_bytes(kept[:-9])
    paths = [tmp_path / "x.zarr", sources["b"]]
    with pytest.raises(ValueError, match=r"x\.zarr: not a readable image"):
        fuse_tiles(paths, tmp_path / "f.zarr", method="average", tile=64)
    assert not (tmp_path / "f.zarr").exists()
    chunk.write_bytes(kept)
    fuse_tiles(paths, tmp_path / "f.zarr", method="average", tile=64)
    np.testing.assert_array_equal(read_image(tmp_path / "f.zarr").pixels, whole(paths, method="average"))
