"""The stubs of the native modules say what the modules have: every name, argument and default."""

from __future__ import annotations

import ast
import inspect
import types
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import nmfuse
from nmfuse.kernels import _operations

FOLDER = Path(nmfuse.__file__).parent
MODULES = [name for name in ("_cpu", "_cuda", "_simt") if find_spec(f"nmfuse.{name}") is not None]
Arguments = list[tuple[str, str, Any]]  # name, kind, default


def arguments(function: ast.FunctionDef) -> Arguments:
    """Name, kind and default of each argument of a definition, but for `self`."""
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    defaults = [inspect.Parameter.empty] * (len(positional) - len(given.defaults))
    defaults += [ast.literal_eval(value) for value in given.defaults]
    found: Arguments = [(a.arg, "positional", d) for a, d in zip(positional, defaults, strict=True)]
    for a, value in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        found.append((a.arg, "keyword", inspect.Parameter.empty if value is None else ast.literal_eval(value)))
    return [each for each in found if each[0] != "self"]


def native_arguments(function: Any) -> Arguments:
    """The same of a bound function, which says it in the first line of its docstring."""
    line = function.__doc__.splitlines()[0]
    (parsed,) = ast.parse(f"def {line}: ...").body
    assert isinstance(parsed, ast.FunctionDef)
    return arguments(parsed)


def protocol_arguments(function: Any) -> Arguments:
    kinds = {inspect.Parameter.KEYWORD_ONLY: "keyword"}
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return [(p.name, kinds.get(p.kind, "positional"), p.default) for p in parameters]


def stub_of(module: str) -> tuple[dict[str, Arguments], set[str]]:
    """The functions that a stub declares, and its other names."""
    functions: dict[str, Arguments] = {}
    values: set[str] = set()
    table: Any = None
    for node in ast.parse((FOLDER / f"{module}.pyi").read_text()).body:
        if isinstance(node, ast.AnnAssign):  # _table: the protocol
            assert ast.unparse(node.target) == "_table"
            table = getattr(_operations, ast.unparse(node.annotation))
        elif isinstance(node, ast.Assign):  # name = _table.name
            (target,), source = node.targets, node.value
            assert ast.unparse(source) == f"_table.{ast.unparse(target)}"
            declared = getattr(table, ast.unparse(target), None)
            if declared is None:
                values.add(ast.unparse(target))
            else:
                functions[ast.unparse(target)] = protocol_arguments(declared)
        else:
            assert isinstance(node, ast.ImportFrom), ast.unparse(node)
    return functions, values


def native(module: str) -> tuple[dict[str, Arguments], set[str]]:
    functions: dict[str, Arguments] = {}
    values: set[str] = set()
    for name, value in vars(import_module(f"nmfuse.{module}")).items():
        if name.startswith("__"):
            continue
        if isinstance(value, type):
            functions[name] = native_arguments(value.__init__)
        elif isinstance(value, types.BuiltinFunctionType) or callable(value):
            functions[name] = native_arguments(value)
        else:
            values.add(name)
    return functions, values


@pytest.mark.parametrize("module", MODULES)
def test_a_stub_names_what_its_module_has(module):
    (declared, declared_values), (there, values) = stub_of(module), native(module)
    assert sorted(declared) == sorted(there)
    assert declared_values == values
    for name in there:
        assert declared[name] == there[name], name


@pytest.mark.parametrize("module", MODULES)
def test_the_methods_of_a_readback(module):
    cls = import_module(f"nmfuse.{module}").FlagReadback
    for name in ("start", "idle", "any"):
        declared = protocol_arguments(getattr(_operations.Readback, name))
        assert declared == native_arguments(getattr(cls, name))


def test_every_module_that_is_built_is_tested():
    built = {path.name.split(".")[0] for path in FOLDER.glob("_*.so")}
    assert built == set(MODULES)
    assert "_cpu" in built


def test_a_disagreement_is_seen():
    (wanted,) = ast.parse("def f(x: object, size: int, *, deep: bool = True) -> None: ...").body
    for other in ("x, size, *, deep=False", "x, size, deep=True", "x, sizes, *, deep=True", "x, size=3, *, deep=True"):
        (different,) = ast.parse(f"def f({other}): ...").body
        assert arguments(wanted) != arguments(different)


@pytest.mark.parametrize("module", MODULES)
def test_capabilities_are_asked_for(module):
    there = import_module(f"nmfuse.{module}")
    functions, _ = native(module)
    assert "nmf" in there.dtypes
    assert set(there.dtypes) - {"nmf", "sparse_nmf"} <= set(functions)
    assert {"hannmean", "aggregate_blocks", "window_information"} <= set(there.dtypes)
    for names in there.dtypes.values():
        assert set(names) <= {"float32", "float64", "uint8", "uint16"}
    assert ("uint8" in there.dtypes["nmf"]) == (module == "_cpu")
    assert ("sparse_nmf" in there.dtypes) == (module == "_cpu")
