"""The examples of the docstrings do what they show."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

import nmfuse

MODULES = [
    module.name
    for module in pkgutil.walk_packages(nmfuse.__path__, "nmfuse.")
    if not module.name.rpartition(".")[2].startswith(("_", "__main__"))
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    with_examples = {test.name for name in MODULES for test in finder.find(import_module(name)) if test.examples}
    public = ["kernels.nmf.nmf", "kernels.hannmean.hannmean", "fusion.pipeline.fuse", "metrics.evaluate.evaluate"]
    assert {f"nmfuse.{name}" for name in public} <= with_examples
