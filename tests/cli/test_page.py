"""The page about one fused image, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nmfuse
from nmfuse.cli.page import write_page
from nmfuse.data import brain_phantom, pet_rgb

NAMES = ["t2.png", "ct.png", "<pet>.png"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    phantom = brain_phantom(128)
    sources = [np.rint(255 * x).astype(np.uint8) for x in (phantom.t2, phantom.ct)]
    fuser = nmfuse.Fuser("laplacian")
    path = tmp_path_factory.mktemp("page") / "page.html"
    explanation = fuser.explain(*sources, pet_rgb(phantom.pet))
    write_page(path, fuser, explanation, NAMES, overwrite=False, options={})
    return path


def test_it_needs_no_other_file_and_is_not_overwritten(page: Path) -> None:
    text = page.read_text()
    assert "http" not in text.replace("http-equiv", "")
    assert "&lt;pet&gt;.png" in text
    assert "<pet>" not in text
    explanation = nmfuse.Fuser("average").explain(*np.zeros((2, 64, 64), np.uint8))
    with pytest.raises(FileExistsError):
        write_page(page, nmfuse.Fuser("average"), explanation, ["a", "b"], overwrite=False, options={})


def test_sources_are_chosen_blended_and_flickered(page: Path, browser: Any) -> None:
    browser.get(page.resolve().as_uri())
    run = browser.execute_script
    shown = "return [...document.querySelectorAll('img.source')].map(image => !image.hidden)"
    opacity = "return Number(getComputedStyle(document.getElementById('fused')).opacity)"
    broken = "return [...document.images].filter(i => !(i.complete && i.naturalWidth > 0)).length"
    assert run("return document.images.length") == 3 + 1 + 2 + 3
    assert run(broken) == 0
    assert (run(shown), run(opacity)) == ([True, False, False], 1)
    press = "document.dispatchEvent(new KeyboardEvent(arguments[0], {key: arguments[1]}))"
    run(press, "keydown", "3")
    assert run(shown) == [False, False, True]
    run(press, "keydown", "f")
    assert run(opacity) == 0
    run(press, "keyup", "f")
    assert run(opacity) == 1
    run("const s = document.getElementById('blend'); s.value = 40; s.dispatchEvent(new Event('input'))")
    assert run(opacity) == pytest.approx(0.4)
    marks = "return [...document.querySelectorAll('svg.marks')].map(svg => svg.getBoundingClientRect().width > 0)"
    assert run(marks) == [False, False, False]
    run("document.getElementById('marks').click()")
    assert run(marks) == [False, False, True]
    assert run("return document.querySelectorAll('svg.marks')[2].children.length") == 4  # every 64 pixels


def test_its_figures_are_those_of_the_function(page: Path, browser: Any) -> None:
    phantom = brain_phantom(128)
    sources = [np.rint(255 * x).astype(np.uint8) for x in (phantom.t2, phantom.ct)]
    planes = nmfuse.Fuser("laplacian").explain(*sources, pet_rgb(phantom.pet))["sources"]
    found = nmfuse.metrics.transfer_grid(nmfuse.Fuser("laplacian"), list(planes))
    browser.get(page.resolve().as_uri())
    rows = browser.execute_script(
        "return [...document.querySelector('tbody').rows].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert [row[0] for row in rows] == NAMES
    assert [row[2] for row in rows] == [f"{found.of(k).mean:.2f}" for k in range(3)]
