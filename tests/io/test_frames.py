"""Files of several frames, and what is said of their number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from nmfuse.io import check_output, find_sets, read_image, write_image
from nmfuse.io.formats import split_page

LEVELS = (0, 100, 200)


def _animation(path: Path) -> Path:
    frames = [Image.fromarray(np.full((20, 24), k, np.uint8)) for k in LEVELS]
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    return path


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_animations(tmp_path: Path, suffix: str) -> None:
    path = _animation(tmp_path / f"x{suffix}")
    with pytest.raises(ValueError, match=rf"has 3 frames; choose one by its number, .*\{suffix}\[0\] to .*\[2\]"):
        read_image(path)
    for k, level in enumerate(LEVELS):
        frame = read_image(f"{path}[{k}]")
        assert (frame.shape, frame.name) == ((20, 24), f"x{suffix}[{k}]")
        assert np.abs(frame.pixels.astype(int) - level).max() <= 1
    with pytest.raises(ValueError, match=r"has no frame 3; it has 3, the first is .*\[0\]"):
        read_image(f"{path}[3]")


def test_only_a_number_at_the_end_is_a_page(tmp_path: Path) -> None:
    assert split_page("a[1].tif") == (Path("a[1].tif"), None)
    assert split_page("a.tif[1][2]") == (Path("a.tif[1]"), 2)
    assert split_page("a.tif[-1]") == (Path("a.tif[-1]"), None)
    assert split_page("a.tif[]") == (Path("a.tif[]"), None)
    write_image(tmp_path / "x.bmp", np.eye(16, dtype=np.uint8))
    np.testing.assert_array_equal(read_image(tmp_path / "x.bmp[0]"), np.eye(16))


def test_the_file_of_a_page_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.zeros((2, 16, 16), np.uint8), photometric="minisblack")
    with pytest.raises(ValueError, match=r"is the source .*x\.tif\[0\]; a source is never overwritten"):
        check_output(path, overwrite=True, sources=[f"{path}[0]", f"{path}[1]"])


def test_pages_in_a_table(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.stack([np.eye(16)] * 2).astype("f4"), photometric="minisblack")
    table = tmp_path / "t.csv"
    table.write_text("a,b,name\nx.tif[0],x.tif[1],one\n")
    images = find_sets(table)[0].images()
    assert [image.name for image in images] == ["x.tif[0]", "x.tif[1]"]
