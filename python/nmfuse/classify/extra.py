"""What `nmfuse[classify]` brings: scikit-learn, for the methods that the classifier is compared with."""

from __future__ import annotations

from importlib.util import find_spec


def need_scikit_learn(what: str) -> None:
    """Raise where scikit-learn is not installed, before any work is done.

    Raises
    ------
    ModuleNotFoundError
        It names what needs it, and how to install it.

    Examples
    --------
    >>> need_scikit_learn("the audit")
    """
    try:
        there = find_spec("sklearn") is not None
    except ValueError:  # taken out of sys.modules
        there = False
    if not there:
        raise ModuleNotFoundError(
            f"{what} needs scikit-learn, which is not installed; pip install 'nmfuse[classify]'", name="sklearn"
        )
