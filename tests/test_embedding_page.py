"""The examples of docs/embedding.md, each in a namespace of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "embedding.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch.compile itself warns of what it does
@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example(code: str) -> None:
    if "napari" in code:  # large, and imported in tests/integrations/test_napari.py, where its warnings are ignored
        pytest.skip("napari is tried in tests/integrations/test_napari.py")
    for package in ("jax", "monai", "torchio"):
        if re.search(rf"^(import|from) {package}", code, re.MULTILINE):
            pytest.importorskip(package)
    exec(compile(code, "docs/embedding.md", "exec"), {})


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 7
