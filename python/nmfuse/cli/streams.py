"""`-` among the images of a command: one image from standard input, the result to standard output."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nmfuse.io import check_output
from nmfuse.io.formats import format_of

_BEGIN = {  # what files of a format begin with -> its suffix
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"BM": ".bmp",
    b"GIF8": ".gif",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"II+\0": ".tif",
    b"MM\0+": ".tif",
    b"\x93NUMPY": ".npy",
    b"\x1f\x8b": ".nii.gz",
    b"\x5c\x01\0\0": ".nii",
    b"\0\0\x01\x5c": ".nii",
}
_INSIDE = {b"WEBP": (8, ".webp"), b"ftypavif": (4, ".avif")}


@contextmanager
def files_for_streams(sources: list[Path], output: Path, suffix: str) -> Iterator[tuple[list[Path], Path]]:
    """Give sources and output with a file in the place of each `-`; the result is passed on when the block has ended.

    `suffix` is the format of the result on standard output; that of the image on standard input is seen by its bytes.

    Raises
    ------
    ValueError
        If `-` is among the sources twice, standard input is no image, the result would go to a terminal, or the suffix
        is unknown.
    """
    stream = Path("-")
    if sources.count(stream) > 1:
        raise ValueError(f"-: is given {sources.count(stream)} times; standard input holds one image, give it once")
    if output == stream and sys.stdout.isatty():
        raise ValueError("-o -: would write an image to the terminal; redirect it, such as with > fused.png")
    with tempfile.TemporaryDirectory(prefix="nmfuse-") as name:
        folder, target = Path(name), output
        if output == stream:
            target = folder / f"standard-output{suffix}"
            check_output(target, overwrite=False)
            if format_of(target).folder:
                raise ValueError(f"--suffix: {suffix} is a folder of files; expected that of a file, such as .tif")
        if stream in sources:
            data = sys.stdin.buffer.read()
            file = folder / f"standard-input{_suffix(data)}"
            file.write_bytes(data)
            sources = [file if path == stream else path for path in sources]
        yield sources, target
        if output == stream:
            sys.stdout.buffer.write(target.read_bytes())
            sys.stdout.buffer.flush()


def _suffix(data: bytes) -> str:
    found = [suffix for begin, suffix in _BEGIN.items() if data.startswith(begin)]
    found += [suffix for mark, (at, suffix) in _INSIDE.items() if data[at:].startswith(mark)]
    if not found:
        got = f"begins with {data[:8]!r}" if data else "is empty"
        raise ValueError(f"-: standard input {got}; expected an image such as PNG, JPEG, TIFF or NIfTI")
    return found[0]
