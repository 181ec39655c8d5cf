"""``nmfuse fuse``: images in, one image out, and pictures of the way there."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from nmfuse.cli.demo import print_timings
from nmfuse.cli.panel import write_steps
from nmfuse.fuser import Fuser
from nmfuse.images import Image
from nmfuse.io import check_file, check_output, read_image, write_image

_HELD = 4  # images that are read once; of more, one after the other is read again when its turn comes


def run_fuse(
    fuser: Fuser,
    paths: list[Path],
    output: Path,
    *,
    explain: Path | None,
    profile: bool,
    overwrite: bool,
    output_dtype: str | None,
    **options: Any,
) -> None:
    """Refuse what cannot be written, fuse, write the image, and what was asked for besides."""
    check_output(output, overwrite=overwrite, sources=paths)
    if explain is not None and explain.exists():
        check_file(explain / "explain.png", overwrite=overwrite)
    images = [read_image(path) for path in paths[:_HELD]]
    in_colour, seen = False, np.zeros((), bool)
    for image in itertools.chain(images, map(read_image, paths[_HELD:])):
        in_colour |= image.ndim == 3
        seen = seen | (True if image.valid is None else image.valid) if image.shape[:2] == images[0].shape[:2] else seen
    check_output(
        output,
        overwrite=overwrite,
        dtype=output_dtype or images[0].dtype,
        ndim=3 if in_colour else 2,
        colour=in_colour,
        transparent=options["fill"] is None and not seen.all(),
        sources=paths,
    )

    def sources() -> Iterable[Image]:
        yield from images
        for path in paths[_HELD:]:
            yield read_image(path)

    if explain is None:
        fused = fuser.fuse(sources(), output=output_dtype, **options)
    else:
        explanation = fuser.explain(sources(), output=output_dtype, **options)
        explain.mkdir(parents=True, exist_ok=True)
        write_steps(explain, explanation, overwrite=overwrite)
        fused = explanation.fused
    write_image(output, fused, overwrite=overwrite)
    print(output)
    if profile:
        print_timings(fuser.explain(sources(), output=output_dtype, **options))
