"""Every public name is there: those of each ``__all__``, those that the documents name, and the subpackages."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import nmfuse

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "evaluation").glob("*.md"))]
CODE = re.compile(r"^```.*?^```|^(?: {4}|\t).*?$|`[^`\n]+`", re.MULTILINE | re.DOTALL)  # blocks, indented ones, spans
NAME = re.compile(r"(?<![\w./-])nmfuse(?:\.[A-Za-z_]\w*)+(?!\w*[/-])")
FILE = (".json", ".cpp", ".h", ".py", ".toml", ".md", ".csv", ".safetensors", ".classifier")  # what no name ends in
PUBLIC = [
    name
    for name in ("nmfuse", *(module.name for module in pkgutil.walk_packages(nmfuse.__path__, "nmfuse.")))
    if not any(part.startswith("_") for part in name.split("."))
]


def named_in(text: str) -> set[str]:
    """Return the names of nmfuse in the code of a document; what `python -m` runs is a module, and a file is none."""
    code = " ".join(re.sub(r"python3? -m [\w.]+", "", block) for block in CODE.findall(text))
    return {name for name in NAME.findall(code) if not name.endswith(FILE)}


def resolve(name: str) -> object:
    """Return what a dotted name stands for, modules on its way imported; AttributeError where there is none."""

    def step(so_far: tuple[str, object], part: str) -> tuple[str, object]:
        path, parent = f"{so_far[0]}.{part}", so_far[1]
        if not hasattr(parent, part) and hasattr(parent, "__path__") and find_spec(path) is not None:
            return path, import_module(path)
        return path, getattr(parent, part)

    first, *parts = name.split(".")
    return reduce(step, parts, (first, import_module(first)))[1]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_of_all_is_there(name: str) -> None:
    if name in ("nmfuse.integrations.monai", "nmfuse.integrations.torchio"):  # classes of what they are for
        pytest.importorskip(name.rpartition(".")[2])
    module = import_module(name)
    names = getattr(module, "__all__", [])
    assert [each for each in names if not hasattr(module, each)] == []
    assert len(names) == len(set(names))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_name_in_the_documents_is_there(document: Path) -> None:
    missing = []
    for name in sorted(named_in(document.read_text(encoding="utf-8"))):
        try:
            resolve(name)
        except AttributeError:
            missing.append(name)
    assert missing == []


def test_names_are_found_in_documents() -> None:
    text = (
        "`nmfuse.fuse(a)`, nmfuse.prose, `nmfuse.io.nothing`\n\n```python\nnmfuse.metrics.evaluate(x)\n```\n\n"
        "    nmfuse.kernels.nmf(V)\n\n`python -m nmfuse.cli`, `nmfuse.json`, `results/nmfuse.x`, `nmfuse fuse a.png`\n"
    )
    names = {"nmfuse.fuse", "nmfuse.io.nothing", "nmfuse.metrics.evaluate", "nmfuse.kernels.nmf"}
    assert named_in(text) == names
    assert callable(resolve("nmfuse.metrics.evaluate"))
    with pytest.raises(AttributeError, match="nothing"):
        resolve("nmfuse.io.nothing")
    assert sum(len(named_in(path.read_text(encoding="utf-8"))) for path in DOCUMENTS) >= 10


def run(code: str) -> None:
    """Run code in a process of its own, where nothing is imported yet."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_subpackages_are_attributes() -> None:
    run(
        "import pkgutil, nmfuse\n"
        "at_once, lacking = set(vars(nmfuse)), []\n"
        "for module in pkgutil.iter_modules(nmfuse.__path__):\n"
        "    if module.ispkg and module.name not in at_once:\n"
        "        try: assert nmfuse.__getattr__(module.name).__name__ == 'nmfuse.' + module.name\n"
        "        except AttributeError as error: lacking.append(str(error))\n"
        "assert not lacking, lacking"
    )


def test_no_module_hides_a_function() -> None:
    """A module of the same name takes a function's place as soon as it is imported."""
    run(
        "import pkgutil, types, importlib, nmfuse\n"
        "functions = [n for n in nmfuse.__all__ if not isinstance(getattr(nmfuse, n), types.ModuleType)]\n"
        "names = [m.name for m in pkgutil.iter_modules(nmfuse.__path__) if not m.name.startswith('_')]\n"
        "for name in names: importlib.import_module('nmfuse.' + name)\n"
        "hidden = [n for n in functions if isinstance(getattr(nmfuse, n), types.ModuleType)]\n"
        "assert not hidden, hidden"
    )
