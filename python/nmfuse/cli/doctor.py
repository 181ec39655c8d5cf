"""``nmfuse doctor``: what works on this machine, and how to get what does not."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from nmfuse.io.formats import formats
from nmfuse.kernels import cuda
from nmfuse.methods import METHODS
from nmfuse.version import config

_FEATURES = (  # what, the package beyond nmfuse's own by import name, the extra that brings it
    ("volumes: registration, --resample-to", "SimpleITK", "medical"),
    ("videos: nmfuse video", "av", "video"),
    ("nmfuse classify", "sklearn", "classify"),
    ("nmfuse train dictionaries", "sklearn", "compare"),
    ("CuPy arrays (CUDA 12; for CUDA 13 the extra cuda13)", "cupy", "cuda12"),
)


def run_doctor() -> None:
    """Print a line for each feature: there, or what to type to have it."""
    for feature, state in states():
        print(f"{feature:>52}: {state}")


def states() -> Iterator[tuple[str, str]]:
    """Yield every feature, and "there" or what to do.

    Examples
    --------
    >>> dict(states())["PNG (.png)"]
    'there'
    """
    yield "instruction set", config()["instruction set"].partition(" ")[0]
    yield "CUDA", f"not available: {cuda.why()}" if cuda.why() else "there"
    yield "fusion: torch", "there" if find_spec("torch") else "torch is missing: pip install torch"
    for each in formats():
        what = f"{each.name} ({', '.join(each.suffixes)}{'' if each.write else '; only read'})"
        yield what, _state((each.needs,) if each.needs else (), each.extra)
    for what, needs, extra in _FEATURES:
        yield what, _state((needs,), extra)
    for name, method in METHODS.items():
        if method.needs:
            yield f"--method {name}", _state(method.needs, "compare")


def _state(needs: tuple[str, ...], extra: str) -> str:
    missing = [package for package in needs if find_spec(package) is None]
    return f"{', '.join(missing)} is missing: pip install 'nmfuse[{extra}]'" if missing else "there"
