"""``nmfuse stack``: a focus stack in, one sharp image out, and its depth map."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from nmfuse.cli.aligning import onto_first
from nmfuse.cli.progress import progress_bar
from nmfuse.fuser import Fuser
from nmfuse.images import Image
from nmfuse.images.depth import depth_map
from nmfuse.io import check_output, list_images, list_pages, read_image, read_like, write_image
from nmfuse.io.formats import is_folder

_AHEAD = 2  # images that are registered at the same time


def run_stack(
    fuser: Fuser,
    given: Sequence[Path],
    output: Path,
    *,
    depth: Path | None,
    model: str | None,
    matched: bool,
    windows: Callable[[int], Any],
    overwrite: bool,
) -> None:
    """Register each image with the first, fuse them one after the other, and write what was asked for.

    Images are read one at a time, and wait for the depth map in temporary files, so that their number costs no memory.
    """
    paths = []
    for each in given:
        of_folder = each.is_dir() and not is_folder(each)
        paths += list_images(each) if of_folder else list_pages(each)
    if len(paths) < 2:
        raise ValueError(
            f"IMAGES: got {len(paths)}; expected two images or more, a folder of them, or a TIFF file of several pages"
        )
    check_output(output, overwrite=overwrite, sources=paths)
    if depth is not None:
        check_output(depth, overwrite=overwrite, dtype="uint8", ndim=2, colour=False, sources=paths)
    first = read_image(paths[0])
    check_output(output, overwrite=overwrite, dtype=first.dtype, ndim=first.ndim, colour=first.ndim == 3, sources=paths)
    brought = onto_first(first, None, model=model, matched=matched)
    steps = len(paths) * (1 if depth is None else 2)
    with progress_bar("stack") as report, TemporaryFile(prefix="nmfuse-") as aside, ThreadPoolExecutor(_AHEAD) as pool:

        def registered() -> Iterator[Image]:
            coming: deque[Future[Image]] = deque()
            for number, path in enumerate(paths[1:], start=1):
                report(number, steps, path.name)
                coming.append(pool.submit(brought, read_like(path, first), path))
                if len(coming) == _AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()

        def images() -> Iterator[Image]:
            yield first
            for image in registered():
                if depth is not None:
                    np.save(aside, image.pixels)
                    np.save(aside, () if image.valid is None else image.valid)
                yield image

        def images_again() -> Iterator[Image]:
            yield first
            aside.seek(0)
            for number, path in enumerate(paths[1:], start=1):
                report(len(paths) + number, steps, path.name)
                pixels, valid = np.load(aside), np.load(aside)
                yield Image(pixels, valid if valid.size else None)

        fused = fuser.fuse(images(), window=windows(len(paths)))
        write_image(output, fused, overwrite=overwrite)
        if depth is not None:
            found = depth_map(fused, images_again())
            spread = np.rint(found * (255 / (len(paths) - 1))).astype(np.uint8)
            write_image(depth, spread, overwrite=overwrite)
        report(steps, steps, output.name)
    print(output)
    if depth is not None:
        print(depth)
