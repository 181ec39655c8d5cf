"""The examples of the docstrings, and of the pages that are all examples, do what they show."""

from __future__ import annotations

import doctest
import pkgutil
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import nmfuse


def _has_source(name: str) -> bool:
    spec = find_spec(name)  # compiled modules have no examples, and one may need a device
    return spec is not None and spec.origin is not None and spec.origin.endswith(".py")


MODULES = [
    name
    for name in ("nmfuse", *(module.name for module in pkgutil.walk_packages(nmfuse.__path__, "nmfuse.")))
    if name.rpartition(".")[2] != "__main__" and _has_source(name)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    if name in ("nmfuse.integrations.monai", "nmfuse.integrations.torchio"):  # classes of what they are for
        pytest.importorskip(name.rpartition(".")[2])
    result = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    with_examples = {test.name for name in MODULES for test in finder.find(import_module(name)) if test.examples}
    public = [
        "kernels.nmf.nmf",
        "kernels.hannmean.hannmean",
        "kernels._native.set_num_threads",
        "metrics.evaluate.evaluate",
        "metrics._input.take_images",
        "io.images.read_image",
        "io.sets.find_sets",
    ]
    assert {f"nmfuse.{name}" for name in public} <= with_examples


@pytest.mark.parametrize("page", ["factorize.md", "scale.md"])
def test_the_code_of_a_page_runs(page: str) -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    exec(compile("\n".join(blocks), page, "exec"), {})  # one after the other, as a reader runs them
