"""Fuzz one reader in this process, which a crash ends; `tests.fuzz.__main__` starts it."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["nmfuse", "tifffile", "pydicom", "nibabel", "PIL"]):
    import nibabel  # noqa: F401
    import pydicom  # noqa: F401
    import tifffile  # noqa: F401

    from tests.fuzz.check import check_read


def main() -> None:
    """Read what the fuzzer makes; keep an input whose check fails, once for each place where it does, and go on."""
    suffix, found = sys.argv[1], Path(sys.argv[2])
    logging.disable(logging.CRITICAL)
    os.environ["NMFUSE_MAX_PIXELS"] = str(2**21)  # so that whatever takes much memory is more than what a file may say
    warnings.simplefilter("ignore")
    seen: set[str] = set()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / f"x{suffix}"

        def one(data: bytes) -> None:
            path.write_bytes(data)
            try:
                check_read(path)
            except Exception as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                text = re.sub("[0-9]+", "N", f"{type(error).__name__}: {error}")
                if (key := f"{last.filename}:{last.lineno} {text[:200]}") not in seen:
                    seen.add(key)
                    name = hashlib.sha1(data).hexdigest()[:12]
                    (found / name).write_bytes(data)
                    (found / f"{name}.txt").write_text(traceback.format_exc())

        atheris.Setup([sys.argv[0], *sys.argv[3:]], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
