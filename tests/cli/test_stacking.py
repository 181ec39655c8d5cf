"""`nmfuse stack`: a hand-held focus stack in, a sharp image and a depth map out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from nmfuse.cli.app import app
from nmfuse.images import depth_map
from nmfuse.io import list_pages, read_image, write_image
from tests.data.make_zstack import DEPTHS as DEPTHS_OF_Z
from tests.data.make_zstack import depths, z_stack

DEPTHS = 4


@pytest.fixture(scope="module")
def shaken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A scene whose depth grows from left to right, each picture sharp in one strip, moved and a little enlarged."""
    rng = np.random.default_rng(0)
    scene = ndimage.gaussian_filter(rng.random((200, 240)), 1.2)
    scene = np.rint(255 * (scene - scene.min()) / np.ptp(scene)).astype(np.uint8)
    strip = np.minimum(np.arange(240) * DEPTHS // 240, DEPTHS - 1)
    folder = tmp_path_factory.mktemp("focus")
    for k in range(DEPTHS):
        picture = np.zeros(scene.shape)
        for depth in range(DEPTHS):
            blurred = ndimage.gaussian_filter(scene.astype(float), 1.5 * abs(depth - k))
            picture[:, strip == depth] = blurred[:, strip == depth]
        centre, scale, shift = np.array([100, 120]), 1 + 0.004 * k, np.array([1.3, -0.8]) * k
        moved = ndimage.affine_transform(picture, np.eye(2) / scale, centre - (centre + shift) / scale, mode="nearest")
        write_image(folder / f"{k}.png", np.rint(np.clip(moved, 0, 255)).astype(np.uint8))
    return folder, scene


def run(*arguments: str) -> None:
    app(["stack", *arguments], standalone_mode=False)


def test_a_shaken_stack_becomes_sharp_and_its_depth_is_known(shaken: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    folder, scene = shaken
    errors = {}
    for model in ("similarity", "none"):
        out, depth = tmp_path / f"{model}.png", tmp_path / f"{model}-depth.png"
        run(str(folder), "-o", str(out), "--depth", str(depth), "--model", model, "--method", "laplacian")
        inside = (slice(24, -24), slice(24, -24))
        errors[model] = np.sqrt(np.mean((read_image(out).pixels[inside] - scene[inside].astype(float)) ** 2))
    assert errors["similarity"] < 0.4 * errors["none"]
    found = read_image(tmp_path / "similarity-depth.png").pixels
    for k in range(DEPTHS):
        middle = found[40:-40, 60 * k + 20 : 60 * k + 40]
        assert (middle == round(255 * k / (DEPTHS - 1))).mean() > 0.9


def test_the_files_may_be_named(shaken: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    folder, _ = shaken
    run(str(folder / "0.png"), str(folder / "2.png"), "-o", str(tmp_path / "x.tif"), "--method", "laplacian")
    assert read_image(tmp_path / "x.tif").shape == (200, 240)


@pytest.mark.parametrize("options", [{"ome": True}, {"imagej": True}, {"metadata": None}])
def test_the_pages_of_one_file_are_its_images(tmp_path: Path, options: dict[str, Any]) -> None:
    pages = list_pages(z_stack(tmp_path, 96))
    path, planes = tmp_path / "x.tif", np.stack([read_image(page).pixels for page in pages])
    tifffile.imwrite(path, planes, photometric="minisblack", **options)
    window = ["--model", "none", "--window", "0,8000", "--depth"]
    run(str(path), "-o", str(tmp_path / "one.tif"), *window, str(tmp_path / "one.png"))
    run(*map(str, pages), "-o", str(tmp_path / "each.tif"), *window, str(tmp_path / "each.png"))
    for name in ("one.tif", "one.png"):
        expected = read_image(tmp_path / name.replace("one", "each")).pixels
        np.testing.assert_array_equal(read_image(tmp_path / name).pixels, expected)
    depth = read_image(tmp_path / "one.png").pixels
    assert (depth[8:-8] == np.rint(depths(96) * 255 / (DEPTHS_OF_Z - 1))[8:-8]).mean() > 0.7


def test_pages_along_two_axes_are_no_stack(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.ome.tif", np.zeros((3, 2, 32, 32), np.uint8), metadata={"axes": "ZCYX"})
    with pytest.raises(ValueError, match=r"has pages along several axes \(axes Z of 3, C of 2; .*give those of one"):
        run(str(tmp_path / "x.ome.tif"), "-o", str(tmp_path / "y.tif"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["0.png", "-o", "x.png"], ValueError, "IMAGES: got 1; expected two images or more"),
        (["0.png", "1.png", "-o", "1.png", "--overwrite"], ValueError, r"1\.png: is the source"),
        (["0.png", "1.png", "-o", "x.png", "--depth", "0.png", "--overwrite"], ValueError, r"0\.png: is the source"),
        (["0.png", "1.png", "-o", "x.gif"], ValueError, "GIF cannot hold"),
        (["0.png", "1.png", "-o", "x.png", "--model", "rubber"], ValueError, "model: got 'rubber'"),
    ],
)
def test_what_is_refused(
    shaken: tuple[Path, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(shaken[0])
    with pytest.raises(error, match=message):
        run(*arguments)
    assert len(list(shaken[0].iterdir())) == DEPTHS


def test_depth_map_of_strips_is_that_of_the_whole_and_leaves_out_what_is_not_valid() -> None:
    rng = np.random.default_rng(1)
    tall = rng.random((1100, 24)).astype(np.float32)  # several strips
    upper = np.arange(1100)[:, None] < 530
    grey = np.full_like(tall, 0.5)
    found = depth_map(tall, [np.where(upper, tall, grey), np.where(upper, grey, tall)])
    assert (found[:515] == 0).all()
    assert (found[545:] == 1).all()
    with pytest.raises(ValueError, match=r"stack: image 1 is \(5, 6\); expected \(1100, 24\) as fused"):
        depth_map(tall, [tall, np.zeros((5, 6))])
    with pytest.raises(ValueError, match="stack: holds no images"):
        depth_map(tall, [])
