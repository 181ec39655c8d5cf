"""A figure that stands in two places is the same in both: README.md, the tables of docs/, the benchmarks' results."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\w)")
KINDS = {
    "MRI and CT": "mri_ct",
    "MRI and PET": "mri_pet",
    "MRI and SPECT": "mri_spect",
    "MRI T1 and T2": "mri_t1_t2",
    "infrared and visible": "ir_vis",
    "focus": "multi_focus",
    "exposure": "multi_exposure",
}
RESULTS = {"CPU": "EPYC-2026-11-27.md", "H200": "NVIDIA-H200-2026-11-26.md"}
PAIR = "a pair of 256 × 256 pixels fused"  # its figures are of a report of `nmfuse compare`


def rows(name: str, heading: str = "") -> list[list[str]]:
    """Return the cells of all rows of tables in a document, or in its part under a heading."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if heading:
        text = re.split(r"^## ", text[text.index(f"\n## {heading}") + 4 :], maxsplit=1, flags=re.MULTILINE)[0]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line[:2] == "| "]


def numbers(*cells: str) -> list[str]:
    return [number for cell in cells for number in NUMBER.findall(cell)]


def rounded(shown: str, exact: list[str]) -> bool:
    """Whether what is shown is one of the exact figures, to the digits that it has."""
    unit = 10.0 ** -len(shown.partition(".")[2])
    return any(abs(float(shown) - float(value)) <= 0.5 * unit + 1e-9 for value in exact)


def test_quality_of_the_readme() -> None:
    signals = rows("docs/quality.md", "Signals that one image alone shows")
    transfer = {tuple(row[:2]): row[5] for row in signals if row[0] in KINDS.values()}
    ranks = {row[0]: row for row in rows("docs/quality.md", "The price in ranks")}
    found = [row for row in rows("README.md", "How good it is") if row[0] in KINDS]
    assert len(found) == len(KINDS)
    for name, learned, laplacian, rank, best in found:
        kind = KINDS[name]
        assert [learned, laplacian] == [transfer[kind, "learned"], transfer[kind, "laplacian"]], name
        assert [rank, best] == [ranks[kind][1], ranks[kind][4].split()[0]], name


@pytest.mark.parametrize(("on", "heading"), [("CPU", "On two cores of an EPYC"), ("H200", "On an NVIDIA H200")])
def test_speed_of_the_readme(on: str, heading: str) -> None:
    measured: dict[str, list[str]] = {}
    for row in rows("docs/performance.md", heading):
        measured.setdefault(row[0], []).extend(numbers(*row[1:]))
    found = [row for row in rows("README.md", "How fast it is") if row[0] == on and row[1] != PAIR]
    assert found
    for _, what, ms, ratio, _ in found:
        assert {ms, ratio} <= set(measured[what]), what


def test_a_fused_pair_in_the_readme() -> None:
    rows_of_pairs = rows("docs/performance.md", "Fusing images on two cores")
    (measured,) = (row for row in rows_of_pairs if row[0] == "a pair of 256²")
    (found,) = (row for row in rows("README.md", "How fast it is") if row[1] == PAIR)
    assert found[2:4] == [measured[1], numbers(measured[5].partition(":")[2])[0]]


@pytest.mark.parametrize(("on", "heading"), [("CPU", "On two cores of an EPYC"), ("H200", "On an NVIDIA H200")])
def test_performance_is_what_the_benchmarks_wrote(on: str, heading: str) -> None:
    exact: dict[str, list[str]] = {}
    for row in rows(f"benchmarks/results/{RESULTS[on]}"):
        exact.setdefault(row[0], []).extend(numbers(*row[1:]))
    shown = [row for row in rows("docs/performance.md", heading) if row[0] in exact and len(row) in (4, 5)]
    assert len(shown) > 10
    for row in shown:
        for cell in row[1:3]:
            for number in numbers(cell):
                assert rounded(number, exact[row[0]]), (row[0], number)


def test_the_commands_above_the_tables_are_those_that_rebuild_them() -> None:
    text = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("quality.md", "alignment.md"))
    rebuilt = runpy.run_path(str(ROOT / "evaluation" / "all.py"))["SCRIPTS"]
    assert sorted(re.findall(r"^ {4}python evaluation/(.*)$", text, re.MULTILINE)) == sorted(rebuilt.values())


def test_a_wrong_figure_is_found() -> None:
    assert rounded("2.3", ["2.32"])
    assert not rounded("2.4", ["2.32", "57"])
    assert numbers("0.142", "91 %", "4096² float32, 9.5 times") == ["0.142", "91", "9.5"]


def test_the_standings_of_the_loss_are_those_of_the_published_figures() -> None:
    command = [sys.executable, ROOT / "evaluation" / "standings.py", ROOT / "evaluation" / "rivals.csv"]
    rebuilt = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert rebuilt == (ROOT / "python" / "nmfuse" / "training" / "standings.csv").read_text(encoding="utf-8")
