"""What the type checker knows of the native modules is what they have."""

from __future__ import annotations

import ast
import runpy
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import nmfuse
from nmfuse.kernels import _operations

FOLDER = Path(nmfuse.__file__).parent
ROOT = Path(__file__).parents[2]
MODULES = [name for name in ("_cpu", "_cuda", "_simt") if find_spec(f"nmfuse.{name}") is not None]
OWN = {  # what one module alone has, beside its operations
    "_cpu": {name for name in vars(_operations.CpuOperations) if not name.startswith("_")}
    | {"version", "compiler", "flags"},
    "_cuda": {"version", "toolkit", "architectures", "why_not", "devices"},
    "_simt": set(),
}


@pytest.mark.skipif("_simt" not in MODULES, reason="built without the SIMT runner (NMFUSE_SIMT=ON)")
def test_the_stubs_are_those_of_the_modules():
    written = runpy.run_path(str(ROOT / "csrc" / "python" / "stubs.py"))["written"]()
    there = Path(_operations.__file__).read_text()
    assert ast.dump(ast.parse(written)) == ast.dump(ast.parse(there)), "run `make stubs`"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_the_table_and_no_more(module):
    declared = {name for name in vars(_operations.Operations) if not name.startswith("_")}
    declared |= set(_operations.Operations.__annotations__)
    there = {name for name in vars(import_module(f"nmfuse.{module}")) if not name.startswith("__")}
    assert there == declared | OWN[module]


def test_every_module_that_is_built_is_tested():
    built = {path.name.split(".")[0] for path in FOLDER.glob("_*.so")}
    assert built == set(MODULES)
    assert "_cpu" in built


@pytest.mark.parametrize("module", MODULES)
def test_capabilities_are_asked_for(module):
    there = import_module(f"nmfuse.{module}")
    assert "nmf" in there.dtypes
    assert set(there.dtypes) - {"nmf", "sparse_nmf"} <= set(vars(there))
    assert {"hannmean", "aggregate_blocks", "window_information"} <= set(there.dtypes)
    for names in there.dtypes.values():
        assert set(names) <= {"float32", "float64", "uint8", "uint16"}
    assert ("uint8" in there.dtypes["nmf"]) == (module == "_cpu")
    assert ("sparse_nmf" in there.dtypes) == (module == "_cpu")
