"""The comparison: what it writes, that it goes on where it was cut off, and its report in a real browser."""

from __future__ import annotations

import csv
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from nmfuse import fuse
from nmfuse.cli.app import app
from nmfuse.compare import Comparison, ablate, compare, paper_table, write_report
from nmfuse.compare.ablation import VARIANTS
from nmfuse.images.luma import grey
from nmfuse.io import SourceSet, find_sets, read_image
from nmfuse.metrics import METRICS, evaluate

NAMES = ["learned", "pca", "average"]
SHOWN = ["EN", "VIF", "N_abf", "RMSE"]


@pytest.fixture(scope="module")
def comparison(pairs_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("compare") / "report"
    done = compare(pairs_dir, folder, methods=NAMES, metrics=SHOWN, workers=2)
    write_report(done)
    return done


def test_images_and_values_are_those_of_the_functions(comparison: Comparison, pairs_dir: Path) -> None:
    assert (comparison.kinds, comparison.methods, comparison.errors) == (["mri_ct", "mri_pet"], NAMES, {})
    for pair in find_sets(pairs_dir):
        fused = read_image(comparison.image(pair, "learned"))
        np.testing.assert_array_equal(fused, fuse(*pair.images()))
        expected = evaluate(grey(fused), list(pair.luminances()), metrics=SHOWN)
        assert comparison.values[pair.label, "learned"] == pytest.approx(expected, rel=1e-6)
    assert set(comparison.seconds) == {(kind, name) for kind in comparison.kinds for name in NAMES}
    assert all(seconds > 0 and size == "64 x 64" for seconds, size in comparison.seconds.values())


def test_it_goes_on_where_it_was_cut_off(comparison: Comparison, pairs_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    shutil.copytree(comparison.folder, folder)
    lines = (folder / "metrics.csv").read_text().splitlines(keepends=True)
    lost = next(csv.DictReader([lines[0], lines[-2]]))
    (folder / "metrics.csv").write_text("".join(lines[:-2]) + lines[-1][:-20])  # one lost, one torn
    pair = find_sets(pairs_dir)[0]
    kept = comparison.image(pair, "pca").relative_to(comparison.folder)
    before = (folder / kept).stat().st_mtime_ns
    seen: list[tuple[int, int, str]] = []
    again = compare(
        pairs_dir, folder, methods=NAMES, metrics=SHOWN, workers=1, progress=lambda *what: seen.append(what)
    )
    assert again.values == comparison.values
    fused_again = [what for *_, what in seen if not what.startswith("time")]
    assert len(fused_again) == 2
    assert f"{lost['kind']}/{lost['pair']}, {lost['method']}" in fused_again
    if f"{pair.label}, pca" not in fused_again:
        assert (folder / kept).stat().st_mtime_ns == before


def test_other_parameters_and_new_metrics_are_measured_again(
    comparison: Comparison, pairs_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "report"
    shutil.copytree(comparison.folder, folder)
    changed = compare(
        pairs_dir / "mri_ct", folder, methods=["learned"], metrics=["EN", "SD"], workers=1,
        params={"learned": {"weights": "all"}},
    )  # fmt: skip
    pair = find_sets(pairs_dir)[0]
    np.testing.assert_array_equal(read_image(changed.image(pair, "learned")), fuse(*pair.images(), weights="all"))
    assert set(changed.values[pair.label, "learned"]) == {"EN", "SD"}


def test_one_failure_ends_nothing(pairs_dir: Path, tmp_path: Path) -> None:
    done = compare(
        pairs_dir / "mri_pet", tmp_path / "r", methods=["pca", "wavelet"], metrics=["EN"], workers=1,
        params={"wavelet": {"wavelet": "no such"}},
    )  # fmt: skip
    assert list(done.values) == [("mri_pet/00", "pca")]
    assert "no such" in done.errors["mri_pet/00", "wavelet"]
    assert "no such" in write_report(done).read_text()


def test_a_broken_file_ends_nothing(pairs_dir: Path, tmp_path: Path) -> None:
    """Not even where it is the first of its kind, whose times are taken, or where a kind has no other."""
    pairs = tmp_path / "pairs"
    shutil.copytree(pairs_dir, pairs)
    (pairs / "mri_ct" / "00_B.png").write_text("broken")
    (pairs / "mri_pet" / "00_A.png").write_text("broken")
    done = compare(pairs, tmp_path / "r", methods=["average", "maximum"], metrics=["EN"], workers=1)
    assert list(done.values) == [("mri_ct/01", "average"), ("mri_ct/01", "maximum")]
    assert set(done.errors) == {(pair, m) for pair in ("mri_ct/00", "mri_pet/00") for m in ("average", "maximum")}
    assert all("not a readable image" in error for error in done.errors.values())
    assert set(done.seconds) == {("mri_ct", "average"), ("mri_ct", "maximum")}
    page = write_report(done).read_text()
    assert page.count("not a readable image") == 4


def test_patterns_and_the_exit_code_in_the_shell(pairs_dir: Path, tmp_path: Path, capfd: Any) -> None:
    flight = tmp_path / "flight"
    flight.mkdir()
    for name, source in (("1_T", "00_A"), ("1_V", "00_B"), ("2_T", "01_A")):
        shutil.copy(pairs_dir / "mri_ct" / f"{source}.png", flight / f"DJI_{name}.png")
    (flight / "DJI_3_T.png").write_text("broken")
    shutil.copy(flight / "DJI_1_V.png", flight / "DJI_3_V.png")
    asked = ("--methods", "average", "--metrics", "EN", "--workers", "1", "-o", str(tmp_path / "r"))
    patterns = ("--pattern", "{name}_T", "--pattern", "{name}_V")
    with pytest.raises(RuntimeError, match=r"1 of 2 failed; .*report\.html names them"):
        app(["compare", str(flight), *patterns, *asked], standalone_mode=False)
    said = capfd.readouterr()
    assert "DJI_2_T.png: has no partner DJI_2_V.*" in said.err
    assert "failed: average on flight/DJI_3: ValueError: " in said.out
    assert (tmp_path / "r" / "images" / "flight" / "DJI_1_average.png").is_file()


def test_sets_are_taken_as_they_are(pairs_dir: Path, tmp_path: Path) -> None:
    stack = tmp_path / "stack.tif"
    pages = [read_image(pairs_dir / "mri_ct" / f"00_{letter}.png").pixels for letter in "AB"]
    tifffile.imwrite(stack, np.stack(pages), photometric="minisblack")
    one = SourceSet("stack", "1", (Path(f"{stack}[0]"), Path(f"{stack}[1]")))
    done = compare([one], tmp_path / "r", methods=["average"], metrics=["EN"], workers=1)
    np.testing.assert_array_equal(read_image(done.image(one, "average")), fuse(*pages, method="average"))


def test_two_runs_into_one_folder_write_each_row_once(pairs_dir: Path, tmp_path: Path) -> None:
    """And what a killed run has left half-written is gone; what failed for want of space is tried again."""
    folder = tmp_path / "r"
    (folder / "images" / "mri_ct").mkdir(parents=True)
    left = folder / "images" / "mri_ct" / ".0123456789ab-00_average.png"
    left.write_text("half")
    options = ("--methods", "average,maximum", "--metrics", "EN", "--workers", "1")
    command = [sys.executable, "-m", "nmfuse.cli", "compare", pairs_dir, "-o", folder, *options]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=120) for one in running]
    assert [one.returncode for one in running] == [0, 0], said
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [(row["kind"], row["pair"], row["method"]) for row in csv.DictReader(file)]
    assert len(rows) == len(set(rows)) == 6
    assert any("another comparison is written there; waiting until it is done" in errors for _, errors in said)
    assert not left.exists()
    table = (folder / "metrics.csv").read_text().replace('",,', '",OSError: No space left on device,', 1)
    assert "OSError" in table
    (folder / "metrics.csv").write_text(table)
    again = compare(pairs_dir, folder, methods=["average", "maximum"], metrics=["EN"], workers=1)
    assert (again.errors, len(again.values)) == ({}, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["dwt"]}, "methods: 'dwt' is not known; expected some of learned, "),
        ({"metrics": ["entropy"]}, "metrics: 'entropy' is not known"),
        ({"params": {"dwt": {}}}, "params: 'dwt' is not known"),
    ],
)
def test_bad_names(options: dict, message: str, pairs_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        compare(pairs_dir, tmp_path / "r", **options)
    assert not (tmp_path / "r").exists()


def test_tables_hold_means_and_the_best_in_bold(comparison: Comparison) -> None:
    text = (comparison.folder / "tables.md").read_text()
    values = [comparison.values[f"mri_ct/0{i}", "learned"]["VIF"] for i in range(2)]
    cell = f"{np.mean(values):.3f}"
    row = next(line for line in text.partition("## mri_ct")[2].splitlines() if line.startswith("| learned"))
    assert cell in row
    assert "**" in text
    assert "| processor |" in text
    assert str(Path.home()) not in text


def test_report_holds_all_that_it_shows(comparison: Comparison) -> None:
    page = (comparison.folder / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    assert "<script src" not in page
    assert page.count("data:image/webp") == 3 * (2 + 2 * len(NAMES))
    assert page.count("<svg") == 2


def test_report_in_a_browser(comparison: Comparison, browser: Any) -> None:
    browser.get((comparison.folder / "report.html").resolve().as_uri())
    run = browser.execute_script
    assert run("return document.querySelectorAll('table.sortable').length") == 4
    broken = "return [...document.images].filter(i => !(i.complete && i.naturalWidth > 0)).length"
    assert run("return document.images.length") == 3 * (2 + 2 * len(NAMES))
    assert run(broken) == 0
    column = (
        "return [...document.querySelectorAll('table.sortable')[1].tBodies[0].rows].map(r => +r.cells[3].dataset.v)"
    )
    click = "document.querySelectorAll('table.sortable')[1].tHead.rows[0].cells[3].click()"
    run(click)
    assert run(column) == sorted(run(column))
    run(click)
    assert run(column) == sorted(run(column), reverse=True)
    run("document.querySelectorAll('.wall button')[2].click()")
    assert run("return document.querySelector('dialog').open")
    assert run("return document.querySelector('dialog h3').textContent") == "mri_ct/00, learned"
    link = run("return document.querySelector('dialog a').href")
    assert link.endswith("images/mri_ct/00_learned.png")
    shot = comparison.folder / "shot.png"
    assert browser.save_screenshot(str(shot))
    pixels = read_image(shot).pixels
    assert min(pixels.shape[:2]) > 600
    assert pixels.std() > 5  # not blank


def test_the_papers_table(comparison: Comparison, pairs_dir: Path, tmp_path: Path) -> None:
    done = compare(
        pairs_dir / "mri_ct", tmp_path / "r", methods=["cnn-liu", "paper-letter", "learned"], workers=1,
        metrics=["Q_TE_toolbox", "Q_abf", "IR", "Q_MI", "Q_TE", "VIF", "VIFF"],
    )  # fmt: skip
    text = paper_table(done)
    row = next(line for line in text.splitlines() if line.startswith("| cnn-liu"))
    mean = np.mean([done.values[f"mri_ct/0{i}", "cnn-liu"]["Q_abf"] for i in range(2)])
    assert f"{mean:.3f} (0.62)" in row
    assert "not defined in the paper" in text


def test_ablation(pairs_dir: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    output = tmp_path / "ablation.md"
    found = ablate(pairs_dir, output, progress=lambda *what: seen.append(what))
    assert set(found) == set(VARIANTS)
    assert all(1 <= rank <= len(VARIANTS) for rank in found.values())
    assert seen[-1][:2] == (3 * len(VARIANTS), 3 * len(VARIANTS))
    text = output.read_text()
    assert all(f"| {name} |" in text for name in VARIANTS)
    assert all(f" {name} |" in text for name in METRICS)
    assert not math.isnan(sum(found.values()))
    with pytest.raises(FileExistsError, match="exists already"):
        ablate(pairs_dir, output)
