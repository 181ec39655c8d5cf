"""The command line through its real process: results, exit codes, messages, and nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import nmfuse
from nmfuse.data import brain_phantom
from nmfuse.io import read_image, write_image
from nmfuse.nets.fusion_net import FORMAT
from nmfuse.nets.weights_file import read_weights


def run(*arguments: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nmfuse.cli", *map(str, arguments)]
    wide = {**os.environ, "COLUMNS": "300"}  # long paths of files are not broken into lines
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=wide)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("sources")
    phantom = brain_phantom(64)
    paths = folder / "mri.png", folder / "ct.png", folder / "pet.png"
    for path, x in zip(paths, (phantom.t2, phantom.ct, phantom.pet), strict=True):
        write_image(path, np.rint(255 * x).astype(np.uint8))
    return paths


@pytest.fixture(scope="module")
def sources(three: tuple[Path, Path, Path]) -> tuple[Path, Path]:
    return three[:2]


@pytest.mark.parametrize("count", [2, 3])
def test_fuse_writes_what_the_function_returns(three: tuple[Path, ...], count: int, tmp_path: Path) -> None:
    sources = three[:count]
    done = run("fuse", *sources, "-o", tmp_path / "fused.png")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(tmp_path / "fused.png")]
    expected = nmfuse.fuse(*(read_image(path) for path in sources))
    np.testing.assert_array_equal(read_image(tmp_path / "fused.png"), expected)


def test_more_images_than_are_held_at_once(three: tuple[Path, ...], tmp_path: Path) -> None:
    """Six, of which the last alone is in colour."""
    paths = [*three]
    for k in range(3):
        paths.append(tmp_path / f"more{k}.png")
        image = read_image(three[k]).pixels // 2 + np.uint8(10 * k)
        write_image(paths[-1], np.stack([image, image // 2, image // 4], axis=-1) if k == 2 else image)
    done = run("fuse", *paths, "-o", tmp_path / "f.png")
    assert (done.returncode, done.stderr) == (0, "")
    expected = nmfuse.fuse(*(read_image(path) for path in paths))
    assert expected.shape == (64, 64, 3)
    np.testing.assert_array_equal(read_image(tmp_path / "f.png"), expected)


def test_explain_and_config(sources: tuple[Path, Path], tmp_path: Path) -> None:
    config = tmp_path / "fuser.toml"
    config.write_text("pyramid = 'contrast'\nrank = 8\n")
    asked = ("--method", "paper", "--config", config)
    done = run("fuse", *sources, "-o", tmp_path / "f.png", *asked, "--explain", tmp_path / "steps")
    assert (done.returncode, done.stderr) == (0, "")
    each = ("sources", "denoised", "S", "W_cnn", "W_nmf", "W", "provenance")
    assert {path.name for path in (tmp_path / "steps").iterdir()} == {
        "explain.png", "luminance.png", "conflict.png", *(f"{step}_{letter}.png" for step in each for letter in "AB"),
        *(f"component_{k:02d}.png" for k in range(8)),
    }  # fmt: skip
    fuser = nmfuse.Fuser("paper", pyramid="contrast", rank=8)
    explanation = fuser.explain(*(read_image(path) for path in sources))
    np.testing.assert_array_equal(read_image(tmp_path / "f.png"), explanation.fused)
    for s, letter in enumerate("AB"):
        shown = read_image(tmp_path / "steps" / f"W_{letter}.png").pixels
        np.testing.assert_array_equal(shown, np.rint(255 * explanation["W"][s]))


def test_explain_of_three_by_the_default(three: tuple[Path, ...], tmp_path: Path) -> None:
    steps = tmp_path / "steps"
    done = run("fuse", *three, "-o", tmp_path / "f.png", "--explain", steps)
    assert (done.returncode, done.stderr) == (0, "")
    each = ("sources", "context", "gates", "provenance")
    assert {path.name for path in steps.iterdir()} == {
        "explain.png", "luminance.png", "conflict.png", *(f"{step}_{x}.png" for step in each for x in "ABC"),
        *(f"parts_{x}_{k:02d}.png" for x in "ABC" for k in range(3)),
    }  # fmt: skip
    for letter, path in zip("ABC", three, strict=True):  # in the order in which they were given
        np.testing.assert_array_equal(read_image(steps / f"sources_{letter}.png"), read_image(path))


def test_windows_range_and_dtype(three: tuple[Path, ...], tmp_path: Path) -> None:
    images = [read_image(path).pixels for path in three]
    scaled = [images[0], (images[1] * 12.0 - 1000).astype(np.int16), images[2].astype(np.float32) * 40]
    paths = [tmp_path / f"{k}.tif" for k in range(3)]
    for path, image in zip(paths, scaled, strict=True):
        write_image(path, image)
    out = tmp_path / "f.tif"
    unsaid = run("fuse", *paths, "-o", out)
    assert (unsaid.returncode, "window: not given, and the images' ranges differ" in unsaid.stderr) == (1, True)
    assert not out.exists()
    each = ("--window", "dtype", "--window=-1000,2060", "--window", "auto", "--dtype", "float32")
    done = run("fuse", *paths, "-o", out, *each)
    assert (done.returncode, done.stderr) == (0, "")
    expected = nmfuse.fuse(*scaled, window=[None, (-1000, 2060), "auto"], output="float32")
    assert (expected.dtype, expected.max() <= 1) == (np.float32, True)
    np.testing.assert_array_equal(read_image(out), expected)
    done = run("fuse", *paths, "-o", out, "--window", "minmax", "--overwrite")
    assert (done.returncode, done.stderr) == (0, "")
    np.testing.assert_array_equal(read_image(out), nmfuse.fuse(*scaled, window="minmax"))
    few = run("fuse", *paths, "-o", out, *each[:2], *each[3:5], "--overwrite")
    assert (few.returncode, "window: got 2 windows, and 3 sources; expected one for each" in few.stderr) == (1, True)
    floats = [tmp_path / f"float{k}.tif" for k in range(2)]
    for path, image in zip(floats, images, strict=False):
        write_image(path, image.astype(np.float32) * 2)
    done = run("fuse", *floats, "-o", out, "--range", "0,510", "--overwrite")
    assert (done.returncode, done.stderr) == (0, "")
    np.testing.assert_array_equal(
        read_image(out), nmfuse.fuse(*(read_image(path).pixels for path in floats), data_range=(0, 510))
    )
    beyond = run("fuse", *floats, "-o", out, "--range", "0,1", "--overwrite")
    assert (beyond.returncode, "data_range: got (0.0, 1.0), but the images span 0 to" in beyond.stderr) == (1, True)


def test_one_window_dtype_is_that_of_each_image(sources: tuple[Path, Path], tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    write_image(paths[0], read_image(sources[0]))
    write_image(paths[1], read_image(sources[1]).pixels.astype(np.uint16) * 257)
    done = run("fuse", *paths, "-o", tmp_path / "f.png", "--window", "dtype")
    assert (done.returncode, done.stderr) == (0, "")
    expected = nmfuse.fuse(*(read_image(path) for path in sources))
    np.testing.assert_array_equal(read_image(tmp_path / "f.png"), expected)
    done = run("evaluate", tmp_path / "f.png", *paths, "--metrics", "SSIM", "--window", "dtype")
    assert (done.returncode, done.stderr) == (0, "")
    value = nmfuse.metrics.evaluate(expected.pixels, [read_image(x).pixels for x in sources], metrics=["SSIM"])
    assert f"{value['SSIM']:.4f}" in done.stdout


def test_what_no_image_shows_is_transparent_or_filled(sources: tuple[Path, Path], tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    valid = np.ones((64, 64), bool)
    valid[:10] = False
    for path, source in zip(paths, sources, strict=True):
        write_image(path, read_image(source), valid=valid)
    done = run("fuse", *paths, "-o", tmp_path / "f.png")
    assert (done.returncode, done.stderr) == (0, "")
    np.testing.assert_array_equal(read_image(tmp_path / "f.png").valid, valid)
    done = run("fuse", *paths, "-o", tmp_path / "g.png", "--fill", "7")
    assert (done.returncode, done.stderr) == (0, "")
    filled = read_image(tmp_path / "g.png")
    assert (filled.valid, (filled.pixels[:10] == 7).all()) == (None, True)


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("x.xyz", (), "x.xyz: unknown image suffix '.xyz'"),
        ("no/x.png", (), "the folder {folder}/no does not exist; create it first"),
        ("x.png", ("--dtype", "float32"), "x.png: PNG cannot hold float32 grey images"),
        ("x.jpg", ("--dtype", "uint16"), "x.jpg: JPEG cannot hold uint16"),
        ("deep.png", (), "deep.png: PNG cannot hold float32 grey images"),
        ("mri.png", ("--overwrite",), "mri.png: is the source {folder}/mri.png; a source is never overwritten"),
        ("link.png", ("--overwrite",), "link.png: is the source {folder}/mri.png; a source is never overwritten"),
        ("mri.png", (), "mri.png: is the source {folder}/mri.png; a source is never overwritten"),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(
    name: str, option: tuple[str, ...], message: str, sources: tuple[Path, Path], tmp_path: Path
) -> None:
    """The images are so large that fusing them would take longer."""
    paths = [tmp_path / path.name for path in sources]
    for path, source in zip(paths, sources, strict=True):
        write_image(path, np.tile(read_image(source).pixels, (32, 32)))
    if name == "deep.png":
        paths = [tmp_path / "0.tif", tmp_path / "1.tif"]
        for path in paths:
            write_image(path, np.full((2048, 2048), 0.5, np.float32))
    (tmp_path / "link.png").symlink_to(tmp_path / "mri.png")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    start = time.perf_counter()
    done = run("fuse", *paths, "-o", tmp_path / name, *option, "--explain", tmp_path / "steps", timeout=60)
    assert time.perf_counter() - start < 20
    assert (done.returncode, done.stdout) == (1, "")
    assert message.format(folder=tmp_path) in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_paper_is_a_method_now(sources: tuple[Path, Path], tmp_path: Path) -> None:
    done = run("fuse", *sources, "-o", tmp_path / "f.png", "--paper")
    text = " ".join(done.stderr.replace("│", " ").split())
    assert (done.returncode, "--paper: is --method paper-letter now" in text) == (2, True)
    assert not (tmp_path / "f.png").exists()


def test_profile_says_where_the_time_goes(sources: tuple[Path, Path], tmp_path: Path) -> None:
    done = run("fuse", *sources, "-o", tmp_path / "f.png", "--profile")
    assert done.returncode == 0, done.stderr
    assert all(f" {step} " in done.stdout for step in ("pyramids", "features", "nmf", "gates", "total"))


def test_demo(tmp_path: Path) -> None:
    done = run("demo", "--output", tmp_path / "demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Q_abf" in done.stdout
    assert all(str(tmp_path / "demo" / name) in done.stdout for name in ("fused.png", "explain.png"))
    assert read_image(tmp_path / "demo" / "fused.png").shape == (256, 256)
    assert (tmp_path / "demo" / "explain.png").stat().st_size > 10_000


def test_info() -> None:
    done = run("info")
    assert done.returncode == 0
    for word in ("nmfuse", nmfuse.__version__, "compiler", "instruction set", "threads", "torch", "cuda"):
        assert word in done.stdout


def test_existing_output_is_kept_without_overwrite(sources: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "fused.png"
    out.write_text("mine")
    done = run("fuse", *sources, "-o", out)
    assert done.returncode == 1
    assert "exists already; pass --overwrite" in done.stderr
    assert out.read_text() == "mine"
    assert run("fuse", *sources, "-o", out, "--overwrite").returncode == 0
    assert read_image(out).shape == (64, 64)


def _bad_inputs(folder: Path, sources: tuple[Path, Path]) -> dict[str, tuple[list, int, str]]:
    mri, ct = sources
    (folder / "text.png").write_text("hello")
    (folder / "half.png").write_bytes(mri.read_bytes()[:500])
    write_image(folder / "small.png", np.zeros((8, 8), np.uint8))
    write_image(folder / "other.png", np.zeros((64, 65), np.uint8))
    (folder / "bad.toml").write_text("pyramid = 'ratio'")
    (folder / "unknown.toml").write_text("pyramids = 'contrast'")
    (folder / "other.toml").write_text("rank = 8")
    (folder / "broken.toml").write_text("pyramid = ")
    out, paper = ["-o", folder / "out.png"], ["--method", "paper"]
    return {
        "missing": (["fuse", folder / "no.png", ct, *out], 1, "no.png: no such file"),
        "text": (["fuse", folder / "text.png", ct, *out], 1, "text.png: not a readable image"),
        "truncated": (["fuse", folder / "half.png", ct, *out], 1, "half.png: not a readable image"),
        "small": (["fuse", folder / "small.png", folder / "small.png", *out], 1, "at least 16 x 16"),
        "sizes": (["fuse", mri, folder / "other.png", *out], 1, "register and resample"),
        "folder": (["fuse", mri, ct, "-o", folder / "no" / "out.png"], 1, "does not exist; create it first"),
        "suffix": (["fuse", mri, ct, "-o", folder / "out.xyz"], 1, "unknown image suffix"),
        "no output": (["fuse", mri, ct], 2, "--output"),
        "option": (["fuse", mri, ct, *out, "--colour"], 2, "No such option"),
        "command": (["mix"], 2, "No such command"),
        "config": (["fuse", mri, ct, *out, *paper, "--config", folder / "bad.toml"], 2, "pyramid: got 'ratio'"),
        "config key": (["fuse", mri, ct, *out, *paper, "--config", folder / "unknown.toml"], 2,
                       "pyramids: 'paper' has hannmean_size,"),
        "other's": (["fuse", mri, ct, *out, "--config", folder / "other.toml"], 2,
                    "rank: is an option of method='paper' or 'paper-letter'; 'learned' has"),
        "one source": (["fuse", mri, *out], 1, "sources: got 1; expected two or more images"),
        "window": (["fuse", mri, ct, *out, "--window", "ct-brian"], 1, "window: got 'ct-brian'; expected 'minmax'"),
        "window of one": (["fuse", mri, ct, *out, "--window", "80,"], 2, "got '80,'; expected LOW,HIGH, two numbers"),
        "range": (["fuse", mri, ct, *out, "--range", "80"], 2, "got '80'; expected LOW,HIGH, two numbers"),
        "range and window": (["fuse", mri, ct, *out, "--range", "0,255", "--window", "auto"], 1,
                             "window, data_range: got both"),
        "dtype": (["fuse", mri, ct, *out, "--dtype", "uint7"], 1, "uint7"),
        "config toml": (["fuse", mri, ct, *out, "--config", folder / "broken.toml"], 2, "is not TOML"),
        "no config": (["fuse", mri, ct, *out, "--config", folder / "no.toml"], 2, "no.toml"),
        "one image": (["demo", mri], 2, "give two images or more, or none"),
        "train": (["train", "focus", "--images", folder / "no", "-o", folder / "w.safetensors"], 1, "no"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "what",
    ["missing", "text", "truncated", "small", "sizes", "folder", "suffix", "no output", "option", "command",
     "config", "config key", "other's", "one source", "window", "window of one", "range", "range and window", "dtype",
     "config toml", "no config", "one image", "train"],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_an_exit_code(what: str, sources: tuple[Path, Path], tmp_path: Path) -> None:
    arguments, code, message = _bad_inputs(tmp_path, sources)[what]
    before = sorted(tmp_path.iterdir())
    done = run(*arguments)
    text = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode == code
    assert message in text
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(tmp_path.iterdir()) == before
    if code == 1:
        assert done.stderr.startswith("nmfuse: ")
        assert done.stderr.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = run("fuse", tmp_path / "no.png", tmp_path / "no.png", "-o", tmp_path / "f.png", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_evaluate_prints_the_values_of_the_function(sources: tuple[Path, Path], tmp_path: Path) -> None:
    fused = np.maximum(*(read_image(path) for path in sources))
    write_image(tmp_path / "fused.png", fused)
    done = run("evaluate", tmp_path / "fused.png", *sources, "--metrics", "Q_abf,VIF")
    assert (done.returncode, done.stderr) == (0, "")
    expected = nmfuse.metrics.evaluate(fused, [read_image(path) for path in sources], metrics=["Q_abf", "VIF"])
    for name, value in expected.items():
        assert name in done.stdout
        assert f"{value:.4f}" in done.stdout
    unknown = run("evaluate", tmp_path / "fused.png", *sources, "--metrics", "Q")
    assert unknown.returncode == 1
    assert "metrics: 'Q' is not known" in unknown.stderr


def test_evaluate_a_method(three: tuple[Path, ...]) -> None:
    images = [read_image(path) for path in three]
    done = run("evaluate", "--method", "laplacian", *three, "--metrics", "Q_abf")
    assert (done.returncode, done.stderr) == (0, "")
    fused = nmfuse.fuse(*images, method="laplacian")
    assert f"{nmfuse.metrics.measure(fused, images, ['Q_abf'])['Q_abf']:.4f}" in done.stdout
    done = run("evaluate", "--method", "average", *three, "--transfer")
    assert (done.returncode, done.stderr) == (0, "")
    found = nmfuse.metrics.transfer(nmfuse.Fuser("average"), images)
    rows = {line.split("│")[1].strip(): line.split("│")[2:-1] for line in done.stdout.splitlines() if "│" in line}
    assert set(rows) == {*(f"in {path.name} alone" for path in three), "all", "contradicted by another image"}
    assert [cell.strip() for cell in rows["all"]][:2] == [str(len(found.signals)), f"{found.mean:.2f}"]
    for wrong, said in (
        (("evaluate", *three, "--transfer"), "give --method"),
        (("evaluate", "--method", "average", *three, "--transfer", "--metrics", "EN"), "has no --metrics"),
    ):
        refused = run(*wrong)
        assert refused.returncode == 2
        assert said in refused.stderr
    few = run("evaluate", *three[:2])
    assert (few.returncode, few.stdout) == (1, "")
    assert "images: got 2; expected 3 or more: a fused image and its sources" in few.stderr


def test_balance(three: tuple[Path, ...], tmp_path: Path) -> None:
    done = run("fuse", *three, "-o", tmp_path / "f.png", "--balance", "1,0.5,0")
    assert (done.returncode, done.stderr) == (0, "")
    expected = nmfuse.fuse(*(read_image(path) for path in three), balance=[1, 0.5, 0])
    np.testing.assert_array_equal(read_image(tmp_path / "f.png"), expected)
    page = tmp_path / "page.html"
    again = run("fuse", *three, "-o", tmp_path / "g.png", "--balance", "1,0.5,0", "--report", page)
    assert (again.returncode, again.stderr) == (0, "")
    assert page.read_text().count('class="source"') == 2  # the third has no part in it
    kept = run("fuse", *three, "-o", tmp_path / "h.png", "--report", page)
    assert (kept.returncode, (tmp_path / "h.png").exists()) == (1, False)
    refused = run("fuse", *three, "-o", tmp_path / "g.png", "--balance", "1,much")
    assert refused.returncode == 2
    assert "expected numbers such as 1,0.5" in refused.stderr


def test_evaluate_says_what_is_not_defined_and_asks_what_is_white(tmp_path: Path) -> None:
    images = [np.random.default_rng(k).random((60, 50)).astype(np.float32) for k in range(3)]
    paths = [tmp_path / f"{k}.tiff" for k in range(6)]
    for path, image in zip(paths, [*images, *(1000 * x for x in images)], strict=True):
        write_image(path, image)
    small = run("evaluate", *paths[:3])
    assert (small.returncode, small.stderr) == (0, "")
    assert "Not defined for 2 sources of 60 x 50: MS_SSIM" in small.stdout
    assert f"{nmfuse.metrics.evaluate(images[0], images[1:], data_range=1, metrics=['SD'])['SD']:.4f}" in small.stdout
    three = run("evaluate", paths[0], *paths[:3])
    assert "Not defined for 3 sources of 60 x 50: Q_TE, Q_TE_toolbox, MS_SSIM, Q_Y, SCD" in three.stdout
    unknown = run("evaluate", *paths[3:])
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "whose white is not known; metrics expect 0 to 1: scale them, or say what is white" in unknown.stderr
    assert "(nmfuse evaluate --range)" in unknown.stderr
    assert run("evaluate", *paths[3:], "--range", "0,1000").stdout == small.stdout
    assert run("evaluate", *paths[3:], "--window", "0,1000").stdout == small.stdout
    each = [word for top in (1, 1, 1000) for word in ("--window", f"0,{top}")]
    assert run("evaluate", *paths[:2], paths[5], *each).stdout == small.stdout


def test_methods_are_listed() -> None:
    done = run("methods")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("learned", "wavelet", "fuzzy", "pca", "mst-sr", "nsct-pc", "asr", "cnn-liu", "guided-filter"):
        assert f" {name} " in done.stdout


def test_fuse_by_another_method_with_its_parameters(sources: tuple[Path, Path], tmp_path: Path) -> None:
    images = [read_image(path) for path in sources]
    config = tmp_path / "laplacian.toml"
    config.write_text("levels = 2\n")
    done = run("fuse", *sources, "-o", tmp_path / "f.png", "--method", "laplacian", "--config", config)
    assert (done.returncode, done.stderr) == (0, "")
    expected = nmfuse.fuse(*images, method="laplacian", levels=2).pixels
    np.testing.assert_array_equal(read_image(tmp_path / "f.png"), expected)
    assert not np.array_equal(expected, nmfuse.fuse(*images, method="laplacian").pixels)
    wrong = run("fuse", *sources, "-o", tmp_path / "g.png", "--method", "dwt")
    text = " ".join(wrong.stderr.replace("│", " ").split())
    assert (wrong.returncode, "--method: got 'dwt'; expected one of learned," in text) == (2, True)
    assert not (tmp_path / "g.png").exists()


@pytest.mark.parametrize("method", ["nsct-pc", "mst-sr", "paper-letter"])
def test_three_images_by_methods_with_a_hyphen(method: str, three: tuple[Path, ...], tmp_path: Path) -> None:
    done = run("fuse", *three, "-o", tmp_path / "f.png", "--method", method)
    assert (done.returncode, done.stderr) == (0, "")
    expected = nmfuse.fuse(*(read_image(path) for path in three), method=method)
    np.testing.assert_array_equal(read_image(tmp_path / "f.png"), expected)


def test_compare_and_the_papers_table(sources: tuple[Path, Path], tmp_path: Path) -> None:
    pairs = tmp_path / "brain"
    pairs.mkdir()
    for side, path in zip("AB", sources, strict=True):
        (pairs / f"01_{side}.png").write_bytes(path.read_bytes())
    config = tmp_path / "methods.toml"
    config.write_text("[laplacian]\nlevels = 2\n")
    asked = ("compare", pairs, "-o", tmp_path / "report", "--methods", "laplacian,average", "--config", config)
    done = run(*asked)
    assert done.returncode == 0, done.stderr
    assert "mean rank" in done.stdout
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        ".nmfuse.lock", "images", "metrics.csv", "times.csv", "report.html", "tables.md",
    }  # fmt: skip
    wrong = run(*asked, "--metrics", "entropy")
    assert (wrong.returncode, "metrics: 'entropy' is not known" in wrong.stderr) == (1, True)
    table = run("compare", pairs, "-o", tmp_path / "paper", "--methods", "mst-sr", "--paper")
    assert table.returncode == 0, table.stderr
    assert "| mst-sr |" in table.stdout
    assert "(0.97)" in table.stdout


def test_train_fusion_goes_on_with_larger_crops(tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    common = ("train", "fusion", "--phantoms", "2", "--steps", "1", "-o")
    done = run(*common, first, "--batch", "1", "--crop", "64")
    assert done.returncode == 0, done.stderr
    assert "expected mean rank of held-out crops" in done.stdout
    done = run(*common, second, "--batch", "2", "--crop", "96", "--start", first, "--lr", "0.001")
    assert done.returncode == 0, done.stderr
    recipe = json.loads(read_weights(second, FORMAT)[1]["recipe"])
    assert (recipe["batch"], recipe["crop"], recipe["lr"]) == (2, 96, 0.001)
    assert (recipe["start"]["batch"], recipe["start"]["crop"]) == (1, 64)


def test_classify_trains_predicts_and_evaluates(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows = ["file,label,split,patient"]
    for seed in range(16):
        label = ("healthy", "unhealthy")[seed % 2]
        image = nmfuse.data.brain_phantom(64, seed=seed).t2.copy()
        if seed % 2:
            image[24:32, 20:30] = 1
        (data / label).mkdir(parents=True, exist_ok=True)
        write_image(data / label / f"{seed}.png", (image * 255).astype(np.uint8))
        rows.append(f"{label}/{seed}.png,{label},{'train' if seed < 8 else 'test'},{seed // 4}")
    split = tmp_path / "split.csv"
    split.write_text("\n".join(rows))
    model = tmp_path / "model.safetensors"
    trained = run("classify", "train", "--data", data, "--split", split, "--frozen", "-o", model)
    assert trained.returncode == 0, trained.stderr
    assert "learned from 8 images" in trained.stdout
    again = run("classify", "train", "--data", data, "-o", model)
    assert again.returncode == 1
    assert "exists already" in again.stderr
    common = ("classify", "train", "--data", data, "--epochs", "1", "--group", "patient", "-o")
    first, second = (tmp_path / f"{name}.safetensors" for name in ("first", "second"))
    torn = run(*common, first)
    assert (torn.returncode, "but no split; give --split as well" in torn.stderr) == (1, True)
    assert run(*common, first, "--split", split).returncode == 0
    assert run(*common, second, "--split", split, "--start", first).returncode == 0
    frozen = run(*common, tmp_path / "third.safetensors", "--split", split, "--start", model)
    assert (frozen.returncode, "has frozen branches" in frozen.stderr) == (1, True)
    told = run("classify", "predict", data / "unhealthy" / "15.png", "--model", model, "--heat", tmp_path / "heat")
    assert told.returncode == 0, told.stderr
    assert "probability of unhealthy" in told.stdout
    assert (tmp_path / "heat" / "15.png").stat().st_size > 1000
    report = tmp_path / "report"
    options = ("--methods", "frozen,HOG + SVM", "--seeds", "1", "--epochs", "4")
    measured = run("classify", "evaluate", "--data", data, "--split", split, *options, "-o", report)
    assert measured.returncode == 0, measured.stderr
    assert {path.name for path in report.iterdir()} == {
        "confusion.png", "curves.csv", "curves.png", "measures.csv", "reliability.png", "roc.png", "tables.md",
    }  # fmt: skip
    assert "| frozen |" in (report / "tables.md").read_text()
    shutil.copy(data / "healthy" / "0.png", data / "healthy" / "copy.png")
    split.write_text("\n".join([*rows, "healthy/copy.png,healthy,test,9"]))
    found = run("classify", "audit", data, "--split", split)
    assert found.returncode == 0, found.stderr
    assert "same pixels as another image: 1" in found.stdout
    assert "test images with a copy in the training half: 1 of 9" in found.stdout
    leaking = ("classify", "evaluate", "--data", data, "--split", split, *options, "-o", report, "--overwrite")
    refused = run(*leaking)
    assert refused.returncode == 1
    assert "healthy/copy.png; split by group" in refused.stderr
    assert run(*leaking, "--allow-leaks").returncode == 0
    (data / "healthy" / "0.png").write_bytes(b"broken")
    broken = run("classify", "train", "--data", data, "-o", tmp_path / "m.safetensors")
    assert broken.returncode == 1
    assert "0.png" in broken.stderr
    assert "Traceback" not in broken.stderr
    assert not (tmp_path / "m.safetensors").exists()


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{nmfuse.__version__}\n", "")
    check = (
        "import sys; from nmfuse.cli.app import app\n"
        "try: app(['--version'])\n"
        "except SystemExit: print([name for name in ('torch', 'PIL', 'scipy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[1] == "[]"


def test_pages_of_a_file(three: tuple[Path, ...], tmp_path: Path) -> None:
    pages = [read_image(path).pixels for path in three]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack(pages[:2]), photometric="minisblack")
    done = run("fuse", f"{path}[0]", f"{path}[1]", "-o", tmp_path / "f.png", "--method", "average")
    assert (done.returncode, done.stderr) == (0, "")
    np.testing.assert_array_equal(read_image(tmp_path / "f.png"), nmfuse.fuse(*pages[:2], method="average"))
    done = run("fuse", path, three[0], "-o", tmp_path / "g.png", "--method", "average")
    assert done.returncode == 1
    assert "a.tif: has 2 pages" in done.stderr
    done = run("fuse", f"{path}[0]", f"{path}[1]", "-o", path, "--overwrite", "--method", "average")
    assert done.returncode == 1
    assert "a source is never overwritten" in done.stderr


def test_what_the_first_file_carries_is_kept(three: tuple[Path, ...], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[271], exif[274] = "A maker", 1
    with Image.open(three[0]) as picture:
        picture.save(tmp_path / "a.jpg", exif=exif, dpi=(300, 300), quality=95)
    done = run("fuse", tmp_path / "a.jpg", three[1], "-o", tmp_path / "f.png", "--method", "average")
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(tmp_path / "f.png") as fused:
        assert fused.getexif()[271] == "A maker"
        np.testing.assert_allclose(fused.info["dpi"], (300, 300), rtol=1e-3)


def test_sigterm_while_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    script = (
        "import time\n"
        "from nmfuse import cli\n"
        "from nmfuse.cli import app\n"
        "from nmfuse.io import new_file\n"
        "def write(**_):\n"
        f"    with new_file({str(tmp_path / 'x.png')!r}) as temporary:\n"
        "        temporary.write_text('half')\n"
        "        print('writing', flush=True)\n"
        "        time.sleep(60)\n"
        "app.app = write\n"
        "cli.main()\n"
    )
    running = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    with running.stdout as said:
        assert said.readline() == "writing\n"
        assert len(list(tmp_path.iterdir())) == 1
        running.terminate()
        assert running.wait(timeout=60) == 143
    assert list(tmp_path.iterdir()) == []
