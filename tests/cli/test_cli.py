"""The command line through its real process: results, exit codes, messages, and nothing half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nmfuse
from nmfuse.data import brain_phantom
from nmfuse.io import read_image, write_image
from nmfuse.nets.fusion_net import FORMAT
from nmfuse.nets.weights_file import read_weights


def run(*arguments: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nmfuse.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sources")
    phantom = brain_phantom(64)
    paths = folder / "mri.png", folder / "ct.png"
    for path, x in zip(paths, (phantom.t2, phantom.ct), strict=True):
        write_image(path, np.rint(255 * x).astype(np.uint8))
    return paths


def test_fuse_writes_what_the_function_returns(sources: tuple[Path, Path], tmp_path: Path) -> None:
    done = run("fuse", *sources, "-o", tmp_path / "fused.png")
    assert (done.returncode, done.stderr) == (0, "")
    expected = nmfuse.fuse(*(read_image(path) for path in sources))
    np.testing.assert_array_equal(read_image(tmp_path / "fused.png"), expected)


def test_explain_and_config(sources: tuple[Path, Path], tmp_path: Path) -> None:
    config = tmp_path / "fuser.toml"
    config.write_text("pyramid = 'contrast'\nrank = 8\n")
    done = run("fuse", *sources, "-o", tmp_path / "f.png", "--config", config, "--explain", tmp_path / "steps")
    assert (done.returncode, done.stderr) == (0, "")
    names = {path.name for path in (tmp_path / "steps").iterdir()}
    assert {"explain.png", "W_cnn.png", "W_nmf.png", "S.png", "component_07.png"} <= names
    assert "component_08.png" not in names
    expected = nmfuse.Fuser(pyramid="contrast", rank=8).fuse(*(read_image(path) for path in sources))
    np.testing.assert_array_equal(read_image(tmp_path / "f.png"), expected)


def test_profile_says_where_the_time_goes(sources: tuple[Path, Path], tmp_path: Path) -> None:
    done = run("fuse", *sources, "-o", tmp_path / "f.png", "--profile")
    assert done.returncode == 0, done.stderr
    assert all(f" {step} " in done.stdout for step in ("pyramids", "features", "nmf", "gates", "total"))


def test_demo(tmp_path: Path) -> None:
    done = run("demo", "--output", tmp_path / "demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Q_abf" in done.stdout
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
    (folder / "broken.toml").write_text("pyramid = ")
    out = ["-o", folder / "out.png"]
    return {
        "missing": (["fuse", folder / "no.png", ct, *out], 1, "no.png: no such file"),
        "text": (["fuse", folder / "text.png", ct, *out], 1, "text.png: not a readable image"),
        "truncated": (["fuse", folder / "half.png", ct, *out], 1, "half.png: not a readable image"),
        "small": (["fuse", folder / "small.png", folder / "small.png", *out], 1, "at least 16 x 16"),
        "sizes": (["fuse", mri, folder / "other.png", *out], 1, "register and resample"),
        "folder": (["fuse", mri, ct, "-o", folder / "no" / "out.png"], 1, "does not exist; create it first"),
        "suffix": (["fuse", mri, ct, "-o", folder / "out.gif"], 1, "unknown image suffix"),
        "no output": (["fuse", mri, ct], 2, "--output"),
        "option": (["fuse", mri, ct, *out, "--colour"], 2, "No such option"),
        "command": (["mix"], 2, "No such command"),
        "config": (["fuse", mri, ct, *out, "--config", folder / "bad.toml"], 2, "pyramid: got 'ratio'"),
        "config key": (["fuse", mri, ct, *out, "--config", folder / "unknown.toml"], 2, "unknown pyramids"),
        "config toml": (["fuse", mri, ct, *out, "--config", folder / "broken.toml"], 2, "is not TOML"),
        "no config": (["fuse", mri, ct, *out, "--config", folder / "no.toml"], 2, "no.toml"),
        "one image": (["demo", mri], 2, "two images or none"),
        "train": (["train", "focus", "--images", folder / "no", "-o", folder / "w.safetensors"], 1, "no"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "what",
    ["missing", "text", "truncated", "small", "sizes", "folder", "suffix", "no output", "option", "command",
     "config", "config key", "config toml", "no config", "one image", "train"],
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
    assert run("evaluate", *paths[3:], "--data-range", "1000").stdout == small.stdout


def test_methods_are_listed() -> None:
    done = run("methods")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("learned", "wavelet", "fuzzy", "pca", "mst-sr", "nsct-pc", "asr", "cnn-liu", "guided-filter"):
        assert f" {name} " in done.stdout


def test_fuse_by_another_method_with_its_parameters(sources: tuple[Path, Path], tmp_path: Path) -> None:
    from nmfuse.baselines import fuse

    config = tmp_path / "laplacian.toml"
    config.write_text("levels = 2\n")
    done = run("fuse", *sources, "-o", tmp_path / "f.png", "--method", "laplacian", "--config", config)
    assert (done.returncode, done.stderr) == (0, "")
    expected = fuse(*(read_image(path) for path in sources), "laplacian", levels=2)
    np.testing.assert_array_equal(read_image(tmp_path / "f.png"), expected)
    assert not np.array_equal(expected, fuse(*(read_image(path) for path in sources), "laplacian"))
    wrong = run("fuse", *sources, "-o", tmp_path / "g.png", "--method", "dwt")
    assert (wrong.returncode, "method: got 'dwt'; expected one of learned," in wrong.stderr) == (1, True)
    both = run("fuse", *sources, "-o", tmp_path / "g.png", "--method", "pca", "--paper")
    assert (both.returncode, "goes with none of" in both.stderr) == (2, True)
    assert not (tmp_path / "g.png").exists()


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
        "images", "metrics.csv", "times.csv", "report.html", "tables.md",
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
