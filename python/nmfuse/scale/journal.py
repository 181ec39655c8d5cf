"""What a long run has done, so that the next one goes on where it was killed."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nmfuse.io.output import remove

_log = logging.getLogger("nmfuse.scale")


class Journal:
    """A file that names the pieces of a work that are finished, one a line, below what the work is.

    A piece counts as finished once its line has ended; what a killed run began and did not finish is done again.

    Parameters
    ----------
    folder : Path
        Where the work is done; made if missing. What is there of another work is deleted, which is logged.
    work : dict
        What is done with what: the work is the same, and goes on, where this is.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "work"
    >>> with_first = Journal(folder, {"method": "average"})
    >>> with_first.add("tile 0")
    >>> Journal(folder, {"method": "average"}).has("tile 0"), Journal(folder, {"method": "pca"}).has("tile 0")
    (True, False)
    """

    def __init__(self, folder: Path, work: dict[str, Any]) -> None:
        self.folder, self._path = folder, folder / "journal"
        header = json.dumps(work, sort_keys=True)
        lines = self._path.read_bytes().decode().split("\n")[:-1] if self._path.exists() else []
        if lines[:1] != [header]:
            if folder.exists():
                _log.warning("%s: is of a run with other sources or options, and is begun anew", folder)
            remove(folder)
            folder.mkdir()
            self._path.write_text(f"{header}\n")
            lines = [header]
        for half in folder.rglob("*.partial"):  # chunks that zarr was writing
            half.unlink()
        self._done = set(lines[1:])
        os.truncate(self._path, len("".join(f"{line}\n" for line in lines).encode()))

    def has(self, piece: str) -> bool:
        """Return whether a piece is finished."""
        return piece in self._done

    def add(self, piece: str) -> None:
        """Say that a piece is finished."""
        with self._path.open("a") as file:
            file.write(f"{piece}\n")
        self._done.add(piece)


def identity(paths: Iterable[Path]) -> list[list[Any]]:
    """Return name, bytes, number of files and newest time of each file, or of all files of a folder.

    Examples
    --------
    >>> identity([Path(__file__)])[0][0].endswith("journal.py")
    True
    """
    found = []
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        states = [file.stat() for file in files]
        newest = max((state.st_mtime_ns for state in states), default=0)
        found.append([str(path.resolve()), sum(state.st_size for state in states), len(files), newest])
    return found
