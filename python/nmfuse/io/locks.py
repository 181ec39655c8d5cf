"""Locks that several runs, on one machine or on a shared folder, hold on what they are making."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = ".nmfuse.lock"

log = logging.getLogger("nmfuse.io")


@contextmanager
def locked(folder: str | Path, name: str = "", *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of one name in a folder while the block runs, and give whether it is held.

    The operating system releases the lock when the process ends, however it ends, so that no lock is ever left over.
    All names share one empty file in the folder, ``.nmfuse.lock``, of which each locks one byte. A lock keeps other
    processes out, not other threads of this one, and a process holds one of a folder at a time.

    Parameters
    ----------
    folder : str or path
        Must exist and be writable.
    name : str
        What is locked.
    wait : bool
        Whether to wait while another process holds the lock; if not, False is given where one does.

    Notes
    -----
    On a file system without locks the block runs all the same, which is logged: two runs may then make the same file,
    and each writes it whole (see `nmfuse.io.new_file`).

    Examples
    --------
    >>> import tempfile
    >>> with locked(tempfile.mkdtemp(), "mri_ct/01") as held:
    ...     held
    True
    """
    with (Path(folder) / LOCK_FILE).open("ab") as file:
        held = True
        try:
            byte = zlib.crc32(os.fsencode(name))  # two names on one byte only wait for each other
            fcntl.lockf(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                held = False
            else:
                log.warning("%s: this file system has no locks (%s); let one run at a time write here", folder, error)
        yield held
