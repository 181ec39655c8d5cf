"""Images larger than memory: in tiles they become what they become as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from scipy import ndimage

import nmfuse
from nmfuse.io import open_image, read_image
from nmfuse.scale import fuse_tiles

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
