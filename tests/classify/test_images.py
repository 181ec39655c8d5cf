"""Folders of two classes: layouts, what is refused, images of every kind, splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nmfuse import io
from nmfuse.classify.images import find_images, fit_square, read_groups, read_image, read_images, read_split


def folder_of(where: Path, names: tuple[str, str], counts: tuple[int, int] = (2, 2)) -> Path:
    for name, count in zip(names, counts, strict=True):
        (where / name).mkdir(parents=True)
        for i in range(count):
            io.write_image(where / name / f"{i}.png", np.full((20, 16), 20 * (i + 1), np.uint8))
    return where


@pytest.mark.parametrize(
    "names", [("healthy", "unhealthy"), ("no", "yes"), ("Healthy", "Brain Tumor"), ("NO", "Yes"), ("x/no", "x/yes")]
)
def test_layouts(tmp_path, names):
    folder = find_images(folder_of(tmp_path, names))
    assert folder.labels.tolist() == [0, 0, 1, 1]
    assert [path.parent.name for path in folder.paths] == [Path(names[0]).name] * 2 + [Path(names[1]).name] * 2


def test_any_two_folders_by_name(tmp_path):
    folder = find_images(folder_of(tmp_path, ("good", "bad")), ("good", "bad"))
    assert folder.classes == ("good", "bad")
    with pytest.raises(ValueError, match="expected healthy/ and unhealthy/ or no/ and yes/"):
        find_images(tmp_path)
    with pytest.raises(ValueError, match="classes: got"):
        find_images(tmp_path, ("good", "good"))


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_images(tmp_path / "none")
    with pytest.raises(ValueError, match="yes: has no images"):
        find_images(folder_of(tmp_path / "empty", ("no", "yes"), (2, 0)))
    (tmp_path / "one" / "no").mkdir(parents=True)
    with pytest.raises(ValueError, match="has no/; expected"):
        find_images(tmp_path / "one")


def test_a_class_of_few_is_warned_of(tmp_path, caplog):
    find_images(folder_of(tmp_path, ("no", "yes"), (8, 2)))
    assert "unbalanced, 8 healthy and 2 unhealthy" in caplog.text


def test_images_of_every_kind(tmp_path):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "colour.png")
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(np.stack([grey] * 3 + [np.full_like(grey, 255)], -1)).save(tmp_path / "opaque.png")
    for name in ("grey", "deep", "colour", "palette", "opaque"):
        np.testing.assert_allclose(read_image(tmp_path / f"{name}.png"), grey / 255, atol=1e-6)
    for value in (0, 51):  # what is partly transparent counts as shown
        alpha = np.where(grey > 100, 255, value).astype(np.uint8)
        Image.fromarray(np.stack([grey] * 3 + [alpha], -1)).save(tmp_path / "transparent.png")
        expected = np.where((grey > 100) | (value > 0), grey / 255, 0)
        np.testing.assert_allclose(read_image(tmp_path / "transparent.png"), expected, atol=1e-6)


def test_floats_and_signed_integers(tmp_path):
    values = np.linspace(0, 1, 64).reshape(8, 8)
    for dtype in (np.float16, np.float32, np.float64):
        io.write_image(tmp_path / "x.tif", values.astype(dtype), overwrite=True)
        assert read_image(tmp_path / "x.tif").dtype == np.float32
        np.testing.assert_allclose(read_image(tmp_path / "x.tif"), values, atol=1e-3)
    hidden = np.where(values > 0.5, values, -7)
    io.write_image(tmp_path / "x.tif", hidden, valid=values > 0.5, overwrite=True)
    np.testing.assert_allclose(read_image(tmp_path / "x.tif"), np.where(values > 0.5, values, 0), atol=1e-6)
    io.write_image(tmp_path / "x.tif", hidden, overwrite=True)
    with pytest.raises(ValueError, match=r"x\.tif: floats from -7 to 1; expected 0 to 1, scale them"):
        read_image(tmp_path / "x.tif")
    io.write_image(tmp_path / "x.tif", hidden.astype(np.int16), overwrite=True)
    with pytest.raises(ValueError, match=r"x\.tif: pixels are int16; expected uint8, uint16, or floats from 0 to 1"):
        read_image(tmp_path / "x.tif")


def test_a_square_keeps_the_aspect():
    square = fit_square(np.ones((8, 16), np.float32), 16)
    assert square.shape == (16, 16)
    np.testing.assert_array_equal(square[4:12], 1)
    assert square[:4].max() == 0


def test_an_unreadable_image_is_named(tmp_path, caplog):
    folder = folder_of(tmp_path, ("no", "yes"))
    (folder / "yes" / "0.png").write_bytes(b"broken")
    found = find_images(folder)
    with pytest.raises(ValueError, match=r"0\.png.*--skip-bad"):
        read_images(found)
    images, kept = read_images(found, skip_bad=True)
    assert kept.tolist() == [0, 1, 3]
    assert [image.shape for image in images] == [(20, 16)] * 3
    assert "0.png" in caplog.text


def test_splits(tmp_path, caplog):
    folder = find_images(folder_of(tmp_path / "data", ("no", "yes"), (3, 2)))
    table = tmp_path / "split.csv"

    def split(*rows: str) -> tuple[list[int], list[int]]:
        table.write_text("file,label,split\n" + "\n".join(rows))
        train, test = read_split(table, folder)
        return train.tolist(), test.tolist()

    good = ["no/0.png,no,train", "no/1.png,healthy,test", "yes/0.png,1,train", "yes/1.png,unhealthy,test"]
    assert split(*good) == ([0, 3], [1, 4])
    assert "1 of 5 images are in neither half" in caplog.text
    for row, message in (
        ("no/9.png,no,train", "which is not among the images"),
        ("no/2.png,yes,train", "has label 'yes'; its folder says 'no'"),
        ("no/2.png,no,dev", "expected train, test or nothing"),
        ("no/0.png,no,test", "more than once"),
    ):
        with pytest.raises(ValueError, match=message):
            split(*good, row)
    with pytest.raises(ValueError, match="the test half has no yes"):
        split(*good[:3])
    table.write_text("file,split\n")
    with pytest.raises(ValueError, match="has no column label"):
        read_split(table, folder)


def test_groups_come_from_a_column(tmp_path):
    folder = find_images(folder_of(tmp_path, ("no", "yes")))  # no/0, no/1, yes/0, yes/1
    table = tmp_path / "meta.csv"
    table.write_text("file,patient\nyes/0.png,anne\nno/1.png,anne\nno/0.png,\nsomewhere/else.png,bob\n")
    groups = read_groups(table, "patient", folder)
    assert groups[1] == groups[2]
    assert len(set(groups)) == 3  # one without a name, and one not listed, stand alone
    with pytest.raises(ValueError, match="has no column scanner; expected file, scanner"):
        read_groups(table, "scanner", folder)
    with pytest.raises(FileNotFoundError):
        read_groups(tmp_path / "none.csv", "patient", folder)
