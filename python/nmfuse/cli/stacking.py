"""``nmfuse stack``: a focus stack in, one sharp image out, and its depth map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nmfuse.cli.aligning import onto_first
from nmfuse.cli.progress import progress_bar
from nmfuse.fuser import Fuser
from nmfuse.images import Image
from nmfuse.images.depth import depth_map
from nmfuse.io import check_output, list_images, read_image, read_like, write_image


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

    Images are read one at a time, and again for the depth map, so that their number costs no memory.
    """
    paths = [path for each in given for path in (list_images(each) if each.is_dir() else [each])]
    if len(paths) < 2:
        raise ValueError(
            f"IMAGES: got {len(paths)}; expected two images or more, or a folder of them; of a file of several pages "
            f"give each, as {paths[0] if paths else 'x.tif'}[0], ...[1]"
        )
    check_output(output, overwrite=overwrite, sources=paths)
    if depth is not None:
        check_output(depth, overwrite=overwrite, dtype="uint8", ndim=2, colour=False, sources=paths)
    first = read_image(paths[0])
    check_output(output, overwrite=overwrite, dtype=first.dtype, ndim=first.ndim, colour=first.ndim == 3, sources=paths)
    brought = onto_first(first, None, model=model, matched=matched)
    passes = 1 if depth is None else 2
    with progress_bar("stack") as report:

        def images(before: int) -> Iterator[Image]:
            yield first
            for number, path in enumerate(paths[1:], start=1):
                report(before + number, passes * len(paths), path.name)
                yield brought(read_like(path, first), path)

        fused = fuser.fuse(images(0), window=windows(len(paths)))
        write_image(output, fused, overwrite=overwrite)
        if depth is not None:
            found = depth_map(fused, images(len(paths)))
            spread = np.rint(found * (255 / (len(paths) - 1))).astype(np.uint8)
            write_image(depth, spread, overwrite=overwrite)
        report(passes * len(paths), passes * len(paths), output.name)
    print(output)
    if depth is not None:
        print(depth)
