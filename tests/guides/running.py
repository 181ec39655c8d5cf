"""What runs the commands of a guide, and what its results are measured by."""

from __future__ import annotations

import contextlib
import doctest
import io
import logging
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nmfuse.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(shell|python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = ("pip ", "git ", "cd ", "make ")  # what sets a machine up


def run_guide(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Run a page of docs/ in a folder where nmfuse/ is the repository; return the names that its Python defines.

    A block of text that follows is what the block printed, with ... for what is left out. A command that fails must
    be followed by one.
    """
    monkeypatch.chdir(folder)
    (folder / "nmfuse").symlink_to(ROOT)
    names: dict[str, object] = {}
    blocks = BLOCK.findall((ROOT / "docs" / name).read_text(encoding="utf-8"))
    assert blocks, f"{name}: has no blocks"
    for (kind, body), (next_kind, printed) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if kind == "text":
            continue
        with _captured() as output:
            failed = _shell(body) if kind == "shell" else exec(compile(body, name, "exec"), names)  # not a stranger's
        got = output.getvalue()
        if next_kind == "text":
            options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert doctest.OutputChecker().check_output(printed, got, options), f"{name}:\n{body}\nprinted\n{got}"
        else:
            assert not failed, f"{name}:\n{body}\n{got}"
    return names


def contrast(pixels: np.ndarray, inside: np.ndarray) -> float:
    """Return by how much a part is brighter than a ring around it."""
    from scipy.ndimage import binary_dilation

    grey = pixels.astype(float).mean(-1) if pixels.ndim == 3 and pixels.shape[-1] == 3 else pixels.astype(float)
    ring = binary_dilation(inside, iterations=6) & ~binary_dilation(inside, iterations=2)
    return float(grey[inside].mean() - grey[ring].mean())


@contextlib.contextmanager
def _captured() -> Iterator[io.StringIO]:
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    logging.getLogger("nmfuse").addHandler(handler)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            yield output
    finally:
        logging.getLogger("nmfuse").removeHandler(handler)


def _shell(body: str) -> bool:
    """Run the lines of a block as a shell would, but in this process; return whether the last of them failed."""
    failed = False
    for line in body.replace("\\\n", " ").splitlines():
        if not line.startswith(NOT_RUN):
            assert not failed, f"{line}: the line before failed"
            command, *words = _expanded(line)
            if command == "python":
                _program(words)
            else:
                assert command == "nmfuse", line
                failed = _nmfuse(words)
    return failed


def _expanded(line: str) -> list[str]:
    words = []
    for word in shlex.split(line, comments=True, posix=False):
        plain = "".join(shlex.split(word))
        found = sorted(map(str, Path().glob(plain))) if "*" in word and plain == word else []
        words += found or [plain]
    return words


def _program(words: list[str]) -> None:
    before = sys.argv
    sys.argv = words
    try:
        runpy.run_path(words[0], run_name="__main__")
    finally:
        sys.argv = before


def _nmfuse(words: list[str]) -> bool:
    try:
        app(words, standalone_mode=False)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"nmfuse: {' '.join(str(error).split())}")
        return True
    return False
