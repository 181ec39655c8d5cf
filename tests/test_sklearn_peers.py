"""scikit-learn's own tests of NMF, from the installed package, with our classes in the places of theirs."""

from __future__ import annotations

from importlib.util import find_spec, module_from_spec
from types import FunctionType
from typing import Any

import pytest
from sklearn.decomposition import _nmf

import nmfuse.sklearn

pytestmark = pytest.mark.filterwarnings(  # theirs run where warnings are no errors
    "default::sklearn.exceptions.ConvergenceWarning", "default::UserWarning"
)


def _theirs_with_ours() -> Any:
    """Return a fresh copy of their test module, whose NMF, MiniBatchNMF and non_negative_factorization are ours."""
    spec = find_spec("sklearn.decomposition.tests.test_nmf")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    theirs = _nmf.NMF, _nmf.MiniBatchNMF, _nmf.non_negative_factorization
    import sklearn.decomposition as package

    function = _nmf.non_negative_factorization.__wrapped__
    ours = FunctionType(
        function.__code__, {**vars(_nmf), "NMF": nmfuse.sklearn.NMF}, function.__name__, function.__defaults__
    )
    ours.__kwdefaults__ = function.__kwdefaults__
    package.NMF, package.MiniBatchNMF = nmfuse.sklearn.NMF, nmfuse.sklearn.MiniBatchNMF
    package.non_negative_factorization = ours
    try:
        spec.loader.exec_module(module)  # parametrize holds the classes from here on
    finally:
        package.NMF, package.MiniBatchNMF, package.non_negative_factorization = theirs
    return module


_module = _theirs_with_ours()
_OTHERWISE = {
    # With batches of all samples their two classes agree to rounding. Our NMF keeps entries that vanish at 1e-12, where
    # they can grow again, and theirs go on to nothing, so that small entries differ.
    "test_nmf_minibatchnmf_equivalence",
    # It watches a sum with twice the L2 penalties of the objective, which near the minimum, where three sweeps an
    # iteration come soon, rises a little. That the objective itself never rises is in tests/kernels/test_nmf.py.
    "test_nmf_decreasing",
}

globals().update(
    {name: value for name, value in vars(_module).items() if name.startswith("test_") and name not in _OTHERWISE}
)


def test_the_classes_under_test_are_ours() -> None:
    assert _module.NMF is nmfuse.sklearn.NMF
    assert _module.MiniBatchNMF is nmfuse.sklearn.MiniBatchNMF
    assert _module.non_negative_factorization.__globals__["NMF"] is nmfuse.sklearn.NMF


def test_nine_of_ten_of_their_tests_are_run() -> None:
    there = {name for name in vars(_module) if name.startswith("test_")}
    assert there >= _OTHERWISE
    assert len(_OTHERWISE) <= len(there) / 10
