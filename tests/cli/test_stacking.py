"""`nmfuse stack`: a hand-held focus stack in, a sharp image and a depth map out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from nmfuse.cli.app import app
from nmfuse.images import depth_map
from nmfuse.io import read_image, write_image

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
