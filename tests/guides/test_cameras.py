"""The guides of thermal pictures, stacks, videos and geo images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nmfuse.data import street_scene
from nmfuse.io import read_image
from tests.guides.running import contrast, run_guide

pytestmark = pytest.mark.usefixtures("one_thread")


def test_thermal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_guide("guides/thermal.md", tmp_path, monkeypatch)
    person = (street_scene(240, 320).temperature > 25) & (np.arange(320) > 220)
    before, after = (contrast(read_image(name).pixels, person) for name in ("visible.jpg", "night.png"))
    assert before < 5
    assert after > 50  # grey levels: the person is seen
    assert read_image("night.png").shape == (240, 320, 3)


def test_stacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_guide("guides/stacks.md", tmp_path, monkeypatch)
    scene = street_scene(180, 240)
    inner = (slice(20, -20), slice(20, -20))
    truth = scene.photograph().astype(float)[inner]
    first, last, fused, learned = (
        np.sqrt(np.mean((read_image(name).pixels[inner] - truth) ** 2))
        for name in ("focus/IMG_1001.jpg", "focus/IMG_1005.jpg", "sharp.jpg", "learned.jpg")
    )
    assert max(fused, learned) < 0.6 * min(first, last)
    assert Path("sharp.jpg").read_bytes().count(b"2026:05:01 10:00:00") == 1  # EXIF of the first
    assert Path("sharp.jpg").read_bytes().count(b"ICC_PROFILE") >= 1
    depth = read_image("depth.png").pixels
    near, far = scene.distance == 3.0, scene.distance == 25.0
    near[:, 30:] = False
    assert np.median(depth[near]) <= 64  # the sign: the first or second picture of five
    assert np.median(depth[far]) >= 191  # the house: the last or the one before
    scene = street_scene(160, 213)
    exposed = read_image("exposed.jpg").pixels.astype(float).mean(-1)
    dark, bright = scene.light.mean(-1) < 0.05, scene.light.mean(-1) > 0.4
    assert exposed[dark].mean() > 40
    assert exposed[bright].mean() < 235
    np.testing.assert_array_equal(read_image("exposed.jpg").pixels, read_image("found/DSC_2001.jpg").pixels)
    planes = np.arange(192) * 5 // 192
    error = np.abs(np.asarray(names["depth"]).astype(int) - planes)
    assert (error <= 1).mean() > 0.95
    assert read_image("cells.tif").dtype == np.uint16


def test_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    run_guide("guides/videos.md", tmp_path, monkeypatch)
    from nmfuse.io.video import paired_frames, video_info

    assert video_info("fused.mp4").frames == video_info("infrared.mkv").frames == 8
    for video in ("fused.mp4", "again.mp4"):
        last = [moment.frames[0] for moment in paired_frames(video, video)][-1]
        person = street_scene(96, 128, person=0.22 + 0.2 * 14 / 15).temperature > 25
        person[:, :90] = False
        assert contrast(last, person) > 40


def test_geo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_guide("guides/geo.md", tmp_path, monkeypatch)
    tifffile = pytest.importorskip("tifffile")
    from nmfuse.align import resize
    from nmfuse.images import Image

    pan, sharp = read_image("pan.tif"), read_image("natural.tif")
    coarse = resize(Image(tifffile.imread("multispectral.tif")[..., :3]), pan).pixels
    detail = [np.corrcoef(np.diff(x.astype(float)).ravel(), np.diff(pan.pixels.astype(float)).ravel())[0, 1]
              for x in (coarse.mean(-1), sharp.pixels.mean(-1))]  # fmt: skip
    assert detail[1] > max(0.8, detail[0])
    with tifffile.TiffFile("natural.tif") as file:
        assert file.pages[0].tags[33550].value == (0.5, 0.5, 0.0)
        assert 32632 in file.pages[0].tags[34735].value
