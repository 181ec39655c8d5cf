"""Files to write: refused before any work is done, and there whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nmfuse.io.formats import is_folder, refuse_what_does_not_fit, split_page

_TEMPORARY = re.compile(r"\.[0-9a-f]{12}-(?P<name>.+)", re.DOTALL)  # the names that `new_file` writes to


def check_file(path: str | Path, *, overwrite: bool, sources: Iterable[str | Path] = ()) -> None:
    """Raise an error, before any work is done, if a file of any kind cannot or must not be written.

    Parameters
    ----------
    path : str or path
        The file to write.
    overwrite : bool
        Whether an existing file may be replaced.
    sources : iterable of paths
        The files that are read, or pages of them; none of them is ever overwritten, whatever `overwrite` is.

    Raises
    ------
    ValueError
        If the file is one of the sources, or lies in a folder that is a source.
    FileNotFoundError
        If its folder does not exist.
    PermissionError
        If the folder cannot be written to.
    FileExistsError
        If the path is a folder, or a file that exists and may not be replaced.

    Examples
    --------
    >>> check_file("nowhere/model.safetensors", overwrite=False)
    Traceback (most recent call last):
    ...
    FileNotFoundError: nowhere/model.safetensors: the folder nowhere does not exist; create it first
    """
    path = Path(path)
    for source in sources:
        file = split_page(source)[0]
        if _same_file(path, file):
            raise ValueError(f"{path}: is the source {source}; a source is never overwritten, give another file name")
        if file.is_dir() and path.resolve().is_relative_to(file.resolve()):
            raise ValueError(f"{path}: lies in the source {source}; nothing is written there, choose another folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist; create it first")
    if path.is_dir() and not is_folder(path):
        raise FileExistsError(f"{path}: is a folder; expected a file name")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: exists already; pass --overwrite (overwrite=True) to replace it")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: nothing can be written to the folder {path.parent}; choose another one")


def check_output(
    path: str | Path,
    *,
    overwrite: bool,
    dtype: Any = None,
    ndim: int | None = None,
    colour: bool | None = None,
    transparent: bool = False,
    sources: Iterable[str | Path] = (),
) -> None:
    """Raise an error, before any work is done, if an image file cannot or must not be written.

    Parameters
    ----------
    path : str or path
        The image file to write.
    overwrite : bool
        Whether an existing file may be replaced.
    dtype : dtype or str, optional
        The dtype of the image that is going to be written.
    ndim : int, optional
        The number of axes of its pixels, including that of colours.
    colour : bool, optional
        Whether it is in colour.
    transparent : bool
        Whether some of its pixels are not valid.
    sources : iterable of paths
        The files that are read, or pages of them; none of them is ever overwritten, whatever `overwrite` is.

    Raises
    ------
    ValueError
        For an unknown suffix, a format that cannot store such an image, or a file that is a source.
    FileNotFoundError, PermissionError, FileExistsError
        See `check_file`.

    Examples
    --------
    >>> check_output("x.xyz", overwrite=False)
    Traceback (most recent call last):
    ...
    ValueError: x.xyz: unknown image suffix '.xyz'; expected one of .png, .jpg, .jpeg, .bmp, .webp, .tif, .tiff...
    """
    refuse_what_does_not_fit(path, dtype, ndim, colour, transparent)
    check_file(path, overwrite=overwrite, sources=sources)


def _same_file(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except OSError:  # one of them does not exist yet, or not any more
        return a.resolve() == b.resolve()


@contextmanager
def new_file(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to, and rename it to `path` when the block ends without an error.

    Some formats write a folder there (Zarr). A folder that is replaced does not exist for the moment between two
    renamings.

    Raises
    ------
    FileExistsError, FileNotFoundError, PermissionError
        Before the block runs; see `check_file`.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.txt"
    >>> with new_file(path) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> path.read_text()
    'whole'
    """
    path = Path(path)
    check_file(path, overwrite=overwrite)
    temporary = path.with_name(f".{secrets.token_hex(6)}-{path.name}")  # writers look at the suffix
    try:
        yield temporary
        put_in_place(temporary, path)
    finally:
        remove(temporary)


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a file or folder to `path`, in place of what is there."""
    if path.is_dir():
        old = path.with_name(f".{secrets.token_hex(6)}-{path.name}")
        path.rename(old)
        temporary.rename(path)
        remove(old)
    else:
        temporary.replace(path)


def remove(path: Path) -> None:
    """Delete a file, or a folder with all that is in it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def leftovers(folder: str | Path) -> dict[str, list[Path]]:
    """Return the temporary files of `new_file` in a folder, by the name that each was to become.

    They were left by runs that were killed, or belong to one that is writing at this moment: delete one only while no
    other run can write the file of that name, as under `nmfuse.io.locks.locked`.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in (".0123456789ab-x.png", "x.png", ".hidden.png"):
    ...     _ = (folder / name).write_bytes(b"")
    >>> [(name, len(paths)) for name, paths in leftovers(folder).items()]
    [('x.png', 1)]
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for path in Path(folder).iterdir():
        if named := _TEMPORARY.fullmatch(path.name):
            found[named["name"]].append(path)
    return dict(found)
