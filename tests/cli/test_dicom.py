"""DICOM through the shell: folders of series in, a derived file out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

import nmfuse
from nmfuse.align import resample
from nmfuse.cli.app import app
from nmfuse.io import read_image, to_suv
from tests.cli.test_cli import run
from tests.data.make_dicom import pet_and_ct

WINDOWS = ("--window", "suv", "--window", "ct-soft")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return pet_and_ct(tmp_path_factory.mktemp("dicom"))


def shell(*arguments: str | Path) -> None:
    """Run `nmfuse fuse` in this process, where errors are raised."""
    app(["fuse", *map(str, arguments), "--method", "laplacian"], standalone_mode=False)


def test_pet_in_suv_and_ct_on_the_grid_of_the_pet(pair: tuple[Path, Path], tmp_path: Path) -> None:
    done = run("fuse", *pair, "-o", tmp_path / "f.dcm", *WINDOWS, "--resample-to", "1", "--method", "laplacian")
    assert (done.returncode, done.stderr) == (0, "")
    pet, ct = to_suv(read_image(pair[0])), read_image(pair[1])
    expected = nmfuse.fuse(pet, resample(ct, pet.grid), window=["suv", "ct-soft"], method="laplacian")
    found, stored = read_image(tmp_path / "f.dcm"), pydicom.dcmread(tmp_path / "f.dcm")
    assert found.grid.difference(pet.grid) == ""
    np.testing.assert_allclose(found.pixels, expected.pixels, atol=np.ptp(expected.pixels) / 65534)
    assert len(stored.SourceImageSequence) == 5 + 10
    assert stored.SeriesDescription == "nmfuse: PT + CT"


def test_the_first_decides_on_range_and_dtype(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shell(pair[1], pair[0], "-o", tmp_path / "f.dcm", *reversed_windows(), "--resample-to", "finest")
    found = read_image(tmp_path / "f.dcm")
    assert (found.shape, found.dtype) == (read_image(pair[1]).shape, np.int16)
    assert -150 <= found.pixels.min() < found.pixels.max() <= 250
    shell(pair[1], pair[0], "-o", tmp_path / "g.dcm", *reversed_windows(), "--resample-to", "1", "--dtype", "uint8")
    assert read_image(tmp_path / "g.dcm").dtype == np.uint8


def reversed_windows() -> tuple[str, ...]:
    return (*WINDOWS[2:], *WINDOWS[:2])


def test_a_series_among_several(pair: tuple[Path, Path], tmp_path: Path) -> None:
    both = pair[0].parent
    with pytest.raises(
        ValueError, match=r"holds several series; choose one by its SeriesInstanceUID: .*\(CT 'a CT', 10"
    ):
        shell(both, pair[1], "-o", tmp_path / "f.dcm", "--window", "auto")
    uids = [read_image(folder).carried["sources"][0].header.SeriesInstanceUID for folder in pair]
    shell(*(f"{both}[{uid}]" for uid in uids), "-o", tmp_path / "f.dcm", *WINDOWS, "--resample-to", "1")
    shell(*pair, "-o", tmp_path / "g.dcm", *WINDOWS, "--resample-to", "1")
    np.testing.assert_array_equal(read_image(tmp_path / "f.dcm"), read_image(tmp_path / "g.dcm"))


def test_what_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "f.dcm"
    for arguments, message in (
        ((*pair, "-o", out, *WINDOWS), r"ct: is not on the grid of pet: 10 x 64 x 64 pixels against 5 x 32 x 32"),
        ((*pair, "-o", pair[1] / "f.dcm", *WINDOWS), r"f\.dcm: lies in the source .*ct; nothing is written there"),
        (
            (*pair, "-o", out, "--window", "ct-soft", "--window", "auto", "--resample-to", "1"),
            "'ct-soft' is in HU, and pet in Bq/ml",
        ),
        (
            (*pair, "-o", out, "--window", "suv", "--resample-to", "1"),
            "ct: SUV needs Units, CorrectedImage, DecayCorrection",
        ),
        ((*pair, "-o", out, *WINDOWS, "--window", "auto", "--resample-to", "1"), "got 3 windows, and 2 sources"),
        ((*pair, "-o", out, *WINDOWS, "--resample-to", "1", "--dtype", "float64"), "DICOM cannot hold float64"),
    ):
        with pytest.raises(ValueError, match=message):
            shell(*arguments)
        assert not out.exists()


def test_evaluate_knows_suv(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    one, other = sorted(pair[0].iterdir())[:2]
    app(
        ["evaluate", "--method", "average", "--metrics", "EN", *map(str, (one, other)), "--window", "suv"],
        standalone_mode=False,
    )
    in_suv = capsys.readouterr().out
    fused = nmfuse.fuse(*(to_suv(read_image(path)) for path in (one, other)), method="average", window="suv")
    assert f"{nmfuse.metrics.measure(fused, [fused, fused], ['EN'], window='suv')['EN']:.4f}" in in_suv


def test_folders_of_dicom_files_that_are_no_series(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """A folder of DICOM files is one series, unless a pattern says that each file is an image."""
    for folder, source in zip("AB", pair, strict=True):
        (tmp_path / folder).mkdir()
        for k, file in enumerate(sorted(source.iterdir())[:2]):
            dataset = pydicom.dcmread(file)
            dataset.SeriesInstanceUID += f".{k}"
            dataset.Rows = dataset.Columns = 32
            dataset.PixelData = dataset.PixelData[: 2 * 32 * 32]
            dataset.save_as(tmp_path / folder / f"{k}.dcm")
    folders, out = (tmp_path / "A", tmp_path / "B"), tmp_path / "F"
    with pytest.raises(
        ValueError, match=r"A: holds several series; choose one by its SeriesInstanceUID: .*A\[.*\] \(PT"
    ):
        shell(*folders, "-o", tmp_path / "f.dcm", "--window", "auto")
    shell(*folders, "-o", out, "--window", "auto", "--pattern", "{name}.dcm", "--pattern", "{name}.dcm")
    assert sorted(path.name for path in out.glob("*.dcm")) == ["0.dcm", "1.dcm"]
