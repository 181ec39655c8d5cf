"""`nmfuse fuse` of whole folders: what belongs together, what goes on after what, and what is said of it."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer import BadParameter

import nmfuse
from nmfuse.cli.app import app
from nmfuse.io import read_image, write_image
from nmfuse.io.locks import LOCK_FILE, locked
from tests.cli.test_cli import run

AVERAGE = ("--method", "average")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders of three images of the same names; their formats differ."""
    rng = np.random.default_rng(0)
    found = tmp_path / "infrared", tmp_path / "visible"
    for folder, suffix in zip(found, (".png", ".tif"), strict=True):
        folder.mkdir()
        for name in ("a", "b c", "ü[1]"):
            write_image(folder / f"{name}{suffix}", rng.integers(0, 256, (32, 48), np.uint8))
    return found


def shell(*arguments: str | Path) -> None:
    """Run a command in this process, where errors are raised."""
    app([str(argument) for argument in arguments], standalone_mode=False)


def results(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.name != LOCK_FILE)


def average(*paths: Path) -> np.ndarray:
    return np.asarray(nmfuse.fuse(*map(read_image, paths), method="average"))


def test_folders_are_matched_by_name(folders: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    (folders[1] / "b c.tif").unlink()
    done = run("fuse", *folders, "-o", out, *AVERAGE)
    assert done.returncode == 0
    assert done.stderr == f"{folders[0]}/b c.png: has no partner b c.* in {folders[1]}\n"
    assert "│ fused                    │ 2      │" in done.stdout
    assert "│ images without a partner │ 1      │" in done.stdout
    assert results(out) == ["a.png", "ü[1].png"]
    for name in ("a", "ü[1]"):
        expected = average(folders[0] / f"{name}.png", folders[1] / f"{name}.tif")
        np.testing.assert_array_equal(read_image(out / f"{name}.png"), expected)


def test_what_is_there_is_left_alone(folders: tuple[Path, Path], tmp_path: Path, capfd: Any) -> None:
    out, log = tmp_path / "out", tmp_path / "log.jsonl"
    out.mkdir()
    (out / "a.tif").write_text("mine")
    for name in ("b c.png", "a.tif"):  # of killed runs; another run has made the second result meanwhile
        (out / f".0123456789ab-{name}").write_text("half")
    log.write_text('{"torn')
    shell("fuse", *folders, "-o", out, *AVERAGE, "--log", log)
    assert (out / "a.tif").read_text() == "mine"
    assert results(out) == ["a.tif", "b c.png", "ü[1].png"]
    lines = [json.loads(line) for line in log.read_text().splitlines()[1:]]
    assert [(line["set"], line["state"]) for line in lines] == [
        ("a", "done before"), ("b c", "fused"), ("ü[1]", "fused"),
    ]  # fmt: skip
    assert lines[1]["sources"] == [str(folders[0] / "b c.png"), str(folders[1] / "b c.tif")]
    assert (lines[1]["output"], lines[1]["error"], lines[1]["seconds"] > 0) == (str(out / "b c.png"), None, True)
    before = (out / "b c.png").stat().st_mtime_ns
    shell("fuse", *folders, "-o", out, *AVERAGE, "--suffix", ".png")
    assert (results(out), (out / "b c.png").stat().st_mtime_ns) == (["a.png", "a.tif", "b c.png", "ü[1].png"], before)
    shell("fuse", *folders, "-o", out, *AVERAGE, "--suffix", "png", "--overwrite")
    assert (out / "b c.png").stat().st_mtime_ns > before
    assert "│ done before              │ 2      │" in capfd.readouterr().out


def test_one_bad_file_does_not_stop_the_others(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (folders[1] / "a.tif").write_text("broken")
    write_image(folders[1] / "b c.tif", np.zeros((32, 49), np.uint8), overwrite=True)
    out, log = tmp_path / "out", tmp_path / "log.jsonl"
    done = run("fuse", *folders, "-o", out, *AVERAGE, "--log", log)
    assert (done.returncode, results(out)) == (1, ["ü[1].png"])
    assert f"failed: a: {folders[1]}/a.tif: not a readable image" in done.stderr
    assert "failed: b c: " in done.stderr
    assert done.stderr.endswith("nmfuse: 2 of 3 sets have no result; the same command tries these again\n")
    assert "│ failed                   │ 2      │" in done.stdout
    errors = [json.loads(line)["error"] for line in log.read_text().splitlines()]
    assert [error is None for error in errors] == [False, False, True]


def test_processes_do_the_same(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (folders[1] / "a.tif").write_text("broken")
    done = run("fuse", *folders, "-o", tmp_path / "out", *AVERAGE, "--jobs", "2")
    assert (done.returncode, "failed: a: " in done.stderr) == (1, True)
    assert results(tmp_path / "out") == ["b c.png", "ü[1].png"]
    for name in ("b c", "ü[1]"):
        expected = average(folders[0] / f"{name}.png", folders[1] / f"{name}.tif")
        np.testing.assert_array_equal(read_image(tmp_path / "out" / f"{name}.png"), expected)


def test_the_log_may_be_among_the_results(folders: tuple[Path, Path], tmp_path: Path) -> None:
    log = tmp_path / "out" / "log.jsonl"
    shell("fuse", *folders, "-o", log.parent, *AVERAGE, "--log", log)
    assert len(log.read_text().splitlines()) == 3


def test_dry_run_lists_and_writes_nothing(folders: tuple[Path, Path], tmp_path: Path, capfd: Any) -> None:
    out = tmp_path / "out"
    shell("fuse", *folders, "-o", out, "--dry-run")
    said = capfd.readouterr().out
    assert said.splitlines()[0] == f"{out}/a.png  <-  {folders[0]}/a.png  {folders[1]}/a.tif"
    assert said.splitlines()[-1] == "3 sets, 0 done before, 0 images without a partner; nothing was written"
    assert not out.exists()


def test_patterns_in_one_folder(tmp_path: Path) -> None:
    folder, out = tmp_path / "flight", tmp_path / "out"
    folder.mkdir()
    images = {}
    for name in ("DJI_1_0001_T.JPG", "DJI_2_0001_V.JPG", "DJI_3_0002_T.JPG", "DJI_3_0002_V.JPG", "DJI_3_0002_V.png"):
        images[name] = np.full((32, 32), 20 * len(images) + 20, np.uint8)
        Image.fromarray(images[name]).save(folder / name)
    ask = ("--pattern", "DJI_*_{name}_T.jpg", "--pattern", "DJI_*_{name}_V.jpg")
    shell("fuse", folder, *ask, "-o", out, *AVERAGE, "--suffix", ".png")
    assert results(out) == ["0001.png", "0002.png"]
    expected = average(folder / "DJI_3_0002_T.JPG", folder / "DJI_3_0002_V.JPG")
    np.testing.assert_array_equal(read_image(out / "0002.png"), expected)


def test_groups_of_a_table_and_a_folder_of_pairs(folders: tuple[Path, Path], tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    rows = ["infrared/a.png,visible/a.tif,,", "infrared/a.png,visible/a.tif,infrared/b c.png,three"]
    table.write_text("\n".join(["a,b,c,name", *rows]))
    shell("fuse", "--groups", table, "-o", tmp_path / "out", *AVERAGE)
    assert results(tmp_path / "out") == ["a.png", "three.png"]
    expected = average(folders[0] / "a.png", folders[1] / "a.tif", folders[0] / "b c.png")
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "three.png"), expected)
    for kind in ("mri_ct", "mri_pet"):
        (tmp_path / "pairs" / kind).mkdir(parents=True)
        for letter in "AB":
            write_image(tmp_path / "pairs" / kind / f"1_{letter}.png", read_image(folders[0] / "a.png"))
    (tmp_path / "pairs" / "loop").symlink_to(tmp_path / "pairs")
    shell("fuse", tmp_path / "pairs", "-o", tmp_path / "kinds", *AVERAGE)
    assert [results(tmp_path / "kinds" / kind) for kind in ("mri_ct", "mri_pet")] == [["1.png"], ["1.png"]]


def test_group_by_exif(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(4):
        exif = Image.Exif()
        exif.get_ifd(34665).update({36867: f"2024:06:01 12:00:{k % 2 + k // 2 * 30:02d}", 33434: (1 + k % 2 * 9) / 100})
        Image.fromarray(np.full((32, 32), 60 * k, np.uint8)).save(folder / f"IMG_{k}.jpg", exif=exif)
    shell("fuse", folder, "--group-by", "exif", "-o", tmp_path / "out", *AVERAGE)
    assert results(tmp_path / "out") == ["IMG_0.jpg", "IMG_2.jpg"]
    shell("fuse", folder, "--group-by", "exif", "--gap", "60", "-o", tmp_path / "out2", *AVERAGE, "--suffix", ".png")
    assert results(tmp_path / "out2") == ["IMG_0.png", "IMG_2.png"]  # a repeated exposure begins a new bracket


def test_the_format_is_one_that_can_hold_the_result(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for path in folders[0].iterdir():
        path.unlink()
    Image.fromarray(np.zeros((32, 48), np.uint8)).save(folders[0] / "a.gif")
    out = tmp_path / "out"
    shell("fuse", *folders, "-o", out, *AVERAGE)
    shell("fuse", *folders[::-1], "-o", out / "deep", *AVERAGE, "--dtype", "float32")
    shell("fuse", *folders, "-o", out / "float", *AVERAGE, "--dtype", "float32")
    assert [results(out / name) for name in ("deep", "float")] == [["a.tif"], ["a.tif"]]
    assert (out / "a.png").is_file()
    assert tifffile.imread(out / "float" / "a.tif").dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("{0}", "{1}/a.tif", "-o", "out"),
            "{0}: is a folder, and {1}/a.tif is none; give folders, or the images",
        ),
        (("{0}", "-o", "out"), "has no pairs NAME_A.*, NAME_B.*"),
        (("{0}", "{1}", "-o", "{0}"), "is a folder of the sources; give another one for the results"),
        (
            ("{0}", "{1}", "-o", "out", "--pattern", "{{name}}_T"),
            "pattern: got 1 for 2 folders; expected one for",
        ),
        (
            ("{0}", "-o", "out", "--pattern", "x", "--pattern", "{{name}}"),
            "pattern: got 'x'; expected the name of",
        ),
        (
            ("{0}", "{0}/..", "-o", "out"),
            "no images belong together by {{name}} and {{name}}; a.png has no partner",
        ),
        (("{0}", "{1}", "-o", "out", "--suffix", ".gif"), "GIF cannot hold images (it is only read)"),
        (("{0}", "{1}", "-o", "out", "--explain", "steps"), "is of one result, and not of folders"),
        (
            ("{0}", "{1}", "-o", "out", "--group-by", "exif"),
            "got 'exif'; expected exif, and one folder",
        ),
        (
            ("{0}", "-o", "out", "--group-by", "exif"),
            "no pictures belong together by their EXIF; a.png has no EXIF",
        ),
        (
            ("{0}/a.png", "{1}/a.tif", "-o", "out.png", "--jobs", "2"),
            "is for folders, and IMAGES are files",
        ),
        (("{0}/a.png", "{1}/a.tif", "-o", "out.png", "--suffix", ".tif"), "is for folders and for -o -"),
        (
            ("{0}", "{1}", "-o", "out", "--groups", "x.csv"),
            "give images, or folders of them, or --groups",
        ),
        (("-o", "out"), "give images, or folders of them, or --groups"),
        (("--groups", "no.csv", "-o", "out"), "no.csv: no such folder or CSV file"),
        (("{0}", "{1}", "-o", "{0}/a.png/out"), "Not a directory"),
    ],
)
def test_what_is_wrong_is_said(
    arguments: tuple[str, ...],
    message: str,
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, OSError, BadParameter), match=re.escape(message.format(*folders))):
        shell("fuse", *(text.format(*folders) for text in arguments), *AVERAGE)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_ends_the_run(folders: tuple[Path, Path], tmp_path: Path, monkeypatch: Any, capfd: Any) -> None:
    def write(path: Path, *_: Any, **__: Any) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as full:
        full.setattr("nmfuse.io.pillow.write", write)
        with pytest.raises(RuntimeError, match="3 of 3 sets have no result; the same command tries these again"):
            shell("fuse", *folders, "-o", tmp_path / "out", *AVERAGE)
    said = capfd.readouterr()
    assert "out/a.png: cannot be written: No space left on device" in said.err
    assert "│ not begun                │ 2      │" in said.out
    assert results(tmp_path / "out") == []
    shell("fuse", *folders, "-o", tmp_path / "out", *AVERAGE)
    assert len(results(tmp_path / "out")) == 3


def test_a_folder_that_cannot_be_written(folders: tuple[Path, Path], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path / "out")  # root may write anywhere
    with pytest.raises(PermissionError, match=r"nothing can be written to the folder .*out; choose another one"):
        shell("fuse", *folders, "-o", tmp_path / "out", *AVERAGE)


def test_links_that_form_a_loop(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (folders[0] / "x.png").symlink_to(folders[0] / "y.png")
    (folders[0] / "y.png").symlink_to(folders[0] / "x.png")
    (folders[0] / "again").symlink_to(folders[0])
    write_image(folders[1] / "x.png", np.zeros((32, 32), np.uint8))
    shell("fuse", *folders, "-o", tmp_path / "out", *AVERAGE)
    assert results(tmp_path / "out") == ["a.png", "b c.png", "ü[1].png"]


def _hold(folder: Path, name: str, held: Any, free: Any) -> None:
    with locked(folder, name):
        held.set()
        free.wait(60)
        write_image(folder / "a.png", np.zeros((32, 48), np.uint8))  # as another run would, that holds the lock


def test_what_another_run_makes_is_waited_for(folders: tuple[Path, Path], tmp_path: Path, capfd: Any) -> None:
    out, spawn = tmp_path / "out", multiprocessing.get_context("spawn")
    out.mkdir()
    held, free = spawn.Event(), spawn.Event()
    other = spawn.Process(target=_hold, args=(out, "a", held, free))
    other.start()
    assert held.wait(60)
    command = [sys.executable, "-m", "nmfuse.cli", "fuse", *folders, "-o", out, *AVERAGE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        while len(list(out.glob("[!.]*"))) < 2 and running.poll() is None:  # the others are done meanwhile
            time.sleep(0.01)
        made = results(out)
        free.set()
        said, _ = running.communicate(timeout=60)
    other.join()
    assert made == ["b c.png", "ü[1].png"]
    assert running.returncode == 0
    assert "│ fused                    │ 2      │" in said
    assert "│ done before              │ 1      │" in said
    np.testing.assert_array_equal(read_image(out / "a.png").pixels, 0)
