"""Write what the native modules have as the type checker sees it: `make stubs` keeps it in kernels/_operations.py.

What _cpu and _simt both have is what every backend has.
"""

from __future__ import annotations

import re

from nmfuse import _cpu, _simt

HEAD = '''"""What the native modules have, as the type checker sees it. Written by `make stubs`; do not edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

Array = Any
'''
WORDS = (
    (r"typing\.SupportsInt \| typing\.SupportsIndex", "int"),
    (r"typing\.SupportsFloat \| typing\.SupportsIndex", "float"),
    (r"collections\.abc\.Sequence", "Sequence[Array]"),
    (r"\bobject\b", "Array"),
    (r"\bdict\b", "dict[str, Any]"),
    (r"\btuple\b", "tuple[int, int]"),
    (r"nmfuse\._cpu\.(\w+)", r"\1Like"),
)


def written() -> str:
    """Return the text of the module."""
    every = sorted(name for name in vars(_simt) if not name.startswith("__"))
    alone = sorted(name for name in vars(_cpu) if not name.startswith("__") and name not in every)
    classes = [protocol(name, getattr(_cpu, name)) for name in every if isinstance(getattr(_cpu, name), type)]
    return "\n\n".join(
        [HEAD, *classes, table("Operations(Protocol)", "Every native module.", every),
         table("CpuOperations(Operations, Protocol)", "`nmfuse._cpu`.", alone)]
    )  # fmt: skip


def table(head: str, first_line: str, names: list[str]) -> str:
    """Return a protocol of functions, classes and values of _cpu."""
    lines = [f"class {head}:", f'    """{first_line}"""', ""]
    for name in names:
        value = getattr(_cpu, name)
        if isinstance(value, type):
            lines.append(method(name, signature(value.__init__)).replace("-> None", f"-> {name}Like"))
        elif callable(value):
            lines.append(method(name, signature(value)))
        else:
            kind = "dict[str, tuple[str, ...]]" if isinstance(value, dict) else type(value).__name__
            lines.append(f"    {name}: {kind}")
    return "\n".join(lines)


def protocol(name: str, cls: type) -> str:
    """Return a protocol of the methods of a class."""
    methods = [method(key, signature(value)) for key, value in vars(cls).items() if not key.startswith("_")]
    return "\n".join([f"class {name}Like(Protocol):", f'    """An object of `{name}`."""', "", *methods])


def method(name: str, signature: str) -> str:
    """Return the definition of a method from the signature of a function, or of a method."""
    arguments, result = re.fullmatch(r"\w+\((?:self: \w+)?(?:, )?(.*)\) -> (.*)", signature).groups()
    return f"    def {name}({', '.join(['self', arguments] if arguments else ['self'])}) -> {result}: ..."


def signature(function: object) -> str:
    """Return a bound function's signature, which is the first line of its docstring, in our words."""
    line = function.__doc__.splitlines()[0]
    for pattern, word in WORDS:
        line = re.sub(pattern, word, line)
    return line


if __name__ == "__main__":
    print(written())
