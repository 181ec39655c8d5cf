"""`nmfuse align`, `nmfuse check`, and what `nmfuse fuse` does with --align, --resize and --match."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from nmfuse.align import Transform, check
from nmfuse.cli.app import app
from nmfuse.images import Image
from nmfuse.io import read_image, write_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of a scene: sharp, shifted by (4, -3) and darker, and half as large."""
    where, rng = tmp_path_factory.mktemp("scene"), np.random.default_rng(0)
    scene = sum(ndimage.gaussian_filter(rng.normal(size=(200, 240)), s) * s for s in (1, 2, 4, 8))
    scene = np.clip(128 + 60 * scene, 10, 240)
    write_image(where / "a.png", scene.astype(np.uint8))
    write_image(where / "b.jpg", np.rint(0.7 * np.roll(scene, (4, -3), (0, 1))).astype(np.uint8))
    write_image(where / "half.png", ndimage.zoom(scene, 0.5, order=1).astype(np.uint8))
    return where


def shell(*arguments: str | Path) -> None:
    app([*map(str, arguments)], standalone_mode=False)


def test_align_writes_images_and_transforms(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell("align", folder / "a.png", folder / "b.jpg", "-o", tmp_path / "out", "--model", "translation", "--match")
    said = capsys.readouterr().out.split()
    assert [Path(name).name for name in said] == ["a.png", "b.json", "b.tif"]  # JPEG cannot say what is not valid
    found = Transform.load(tmp_path / "out" / "b.json")
    np.testing.assert_allclose(found.matrix[:2, 2], [4, -3], atol=0.1)
    first, result = read_image(tmp_path / "out" / "a.png"), read_image(tmp_path / "out" / "b.tif")
    np.testing.assert_array_equal(first, read_image(folder / "a.png"))
    assert check(result, first).verdict == "registered"
    assert np.abs(result.pixels.astype(float) - first)[result.valid].mean() < 12  # 30 % darker before
    shell(
        "align", folder / "a.png", folder / "b.jpg", "-o", tmp_path / "again", "--fill", "0",
        "--transform", tmp_path / "out" / "b.json",
    )  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["a.png", "b.jpg"]
    with pytest.raises(FileExistsError, match="--overwrite"):
        shell("align", folder / "a.png", folder / "b.jpg", "-o", tmp_path / "out")
    with pytest.raises(ValueError, match=r"a\.png: is the source .*a\.png; a source is never overwritten"):
        shell("align", folder / "a.png", folder / "b.jpg", "-o", folder, "--overwrite")
    with pytest.raises(ValueError, match=r"sources: a\.png occurs twice"):
        shell("align", folder / "a.png", folder / "a.png", "-o", tmp_path / "out")


def test_check_prints_how_far(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell("check", folder / "a.png", folder / "b.jpg", folder / "a.png")
    lines = capsys.readouterr().out.splitlines()
    assert f"{folder / 'b.jpg'}: misregistered: off by " in lines[0]
    assert "registered: off by 0.00 pixels" in lines[1]


def test_fuse_warns_and_aligns(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = ("--method", "average", "--dtype", "float32", "-o")
    shell("fuse", folder / "a.png", folder / "b.jpg", *plain, tmp_path / "f.tif")
    assert "b.jpg: seems to be off a.png by 5.0 pixels; see nmfuse check and --align" in caplog.text
    caplog.clear()
    shell("fuse", folder / "a.png", folder / "b.jpg", *plain, tmp_path / "g.tif", "--align", "similarity", "--match")
    assert caplog.text == ""
    first = read_image(folder / "a.png").pixels.astype(float)
    off = [
        np.abs(255 * read_image(tmp_path / name).pixels - first)[10:-10, 10:-10].mean() for name in ("f.tif", "g.tif")
    ]
    assert off[1] < 0.4 * off[0]


def test_unlike_sizes(folder: Path, tmp_path: Path) -> None:
    sources = (folder / "a.png", folder / "half.png")
    with pytest.raises(
        ValueError, match=r"size 100 x 120, but a\.png is 200 x 240.*--align similarity, or by --resize 1"
    ):
        shell("fuse", *sources, "-o", tmp_path / "f.png", "--method", "average")
    for name, option in (("1", ("--resize", "1")), ("2", ("--resize", "2")), ("3", ("--align", "similarity"))):
        shell("fuse", *sources, "-o", tmp_path / f"{name}.png", "--method", "average", *option)
    assert [read_image(tmp_path / f"{k}.png").shape for k in "123"] == [(200, 240), (100, 120), (200, 240)]
    with pytest.raises(ValueError, match="--resize: got 3; expected 1 to 2, or a file"):
        shell("fuse", *sources, "-o", tmp_path / "f.png", "--resize", "3")
    first = read_image(sources[0])
    assert check(Image(read_image(tmp_path / "3.png").pixels), first).shift < 0.5


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return T1 and FLAIR of one head as NIfTI of int16, registered by their headers."""
    pytest.importorskip("SimpleITK")
    pytest.importorskip("nibabel")
    from tests.data.make_nifti import t1_and_flair

    return t1_and_flair(tmp_path_factory.mktemp("volumes"), 64, 12)


def test_volumes_are_registered_rigidly_by_default(volumes: tuple[Path, Path], tmp_path: Path) -> None:
    shell("align", *volumes, "-o", tmp_path / "out", "--fill", "0")
    found = Transform.load(tmp_path / "out" / "flair.tfm")
    np.testing.assert_allclose(np.linalg.det(found.matrix[:3, :3]), 1, atol=1e-6)  # no scale
    t1, flair = (read_image(tmp_path / "out" / path.name) for path in volumes)
    assert check(flair, t1).shift < 0.5


def test_volumes_that_could_not_be_written_are_refused_before_the_work(
    volumes: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmfuse.cli.aligning.register", lambda *_, **__: pytest.fail("was registered"))
    with pytest.raises(ValueError, match=r"flair\.nii\.gz: NIfTI cannot hold int16 .*not valid.*--fill"):
        shell("align", *volumes, "-o", tmp_path / "out")


def test_dicom_series_are_written_as_dicom(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from tests.data.make_dicom import pet_and_ct

    ct = pet_and_ct(tmp_path, 32)[1]
    moved = tmp_path / "moved"
    ct.rename(tmp_path / "still")
    pet_and_ct(tmp_path, 32)[1].rename(moved)
    Transform(np.eye(4), "rigid", "mm").save(tmp_path / "same.tfm")
    shell(
        "align", tmp_path / "still", moved, "-o", tmp_path / "out", "--transform", tmp_path / "same.tfm", "--fill", "0"
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["moved.dcm", "still.dcm"]
