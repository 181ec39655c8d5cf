"""``nmfuse fuse``: images in, one image out, and pictures of the way there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from nmfuse.align import resample
from nmfuse.cli.aligning import onto_first, say_how_far
from nmfuse.cli.demo import print_timings
from nmfuse.cli.page import write_page
from nmfuse.cli.panel import write_steps
from nmfuse.fuser import Fuser
from nmfuse.images import Grid, Image
from nmfuse.io import check_file, check_output, read_image, read_like, write_image
from nmfuse.io.formats import format_of
from nmfuse.io.suv import as_asked

_HELD = 4  # images that are read once; of more, one after the other is read again when its turn comes


def run_fuse(
    fuser: Fuser,
    paths: list[Path],
    output: Path,
    *,
    instead: Sequence[Path] = (),
    explain: Path | None = None,
    report: Path | None = None,
    profile: bool = False,
    overwrite: bool,
    output_dtype: str | None,
    resample_to: str | None,
    resize: str | None,
    align: str | None,
    match: bool,
    bands: Sequence[Sequence[int] | None],
    nodata: Sequence[float | None],
    **options: Any,
) -> Path:
    """Refuse what cannot be written, fuse, write the image, and what was asked for besides; return where it is.

    `instead` are further paths: the image goes to the first of all whose format can hold it. `bands` and
    `nodata` are those of `read_image`, none, one for all sources or one for each.
    """
    for path in (output, *instead):
        check_output(path, overwrite=overwrite, sources=paths)
    if explain is not None and explain.exists():
        check_file(explain / "explain.png", overwrite=overwrite)
    if report is not None:
        check_file(report, overwrite=overwrite, sources=paths)
    each = zip(of_each("--bands", bands, len(paths)), of_each("--nodata", nodata, len(paths)), strict=True)
    reading: list[dict[str, Any]] = [{"bands": one, "nodata": other} for one, other in each]
    first = as_asked(read_image(paths[0], **reading[0]), options["window"], 0)

    def read(place: int) -> Image:
        return as_asked(read_like(paths[place], first, **reading[place]), options["window"], place)

    images = [first, *map(read, range(1, len(paths))[: _HELD - 1])]
    spatial = first.spatial
    if spatial == 3 and not (explain is None and report is None):
        raise ValueError(f"{first.name}: is a volume, and --explain and --report show images; leave them out")
    grid = None if resample_to is None else _grid_to_take(resample_to, paths, images)
    like = None if resize is None else _image_to_take(resize, "--resize", paths, images)[1]
    brought = onto_first(first, like, model=align, matched=match)

    def on_grid(image: Image, path: Path) -> Image:
        return brought(image, path) if grid is None else resample(image, grid)

    images = [on_grid(image, path) for image, path in zip(images, paths, strict=False)]

    def sources() -> Iterable[Image]:
        yield from images
        for place in range(_HELD, len(paths)):
            yield on_grid(read(place), paths[place])

    in_colour, seen = False, np.zeros((), bool)
    for image in sources():
        if image.spatial != spatial:
            what = ["an image", "a volume"] if spatial == 3 else ["a volume", "an image"]
            raise ValueError(
                f"{image.name}: is {what[0]}, and {images[0].name} is {what[1]}; images are fused with images and "
                "volumes with volumes, take a slice of each volume first"
            )
        in_colour |= image.ndim > spatial
        if image.shape[:spatial] == images[0].shape[:spatial]:
            seen = seen | (True if image.valid is None else image.valid)
            if image is not images[0]:
                say_how_far(image, images[0], aligned=align is not None)
    result: dict[str, Any] = {
        "dtype": np.dtype(output_dtype or images[0].dtype).name,
        "ndim": spatial + in_colour,
        "colour": in_colour,
        "transparent": bool(options["fill"] is None and not seen.all()),
    }
    output = next((path for path in (output, *instead) if format_of(path).holds(**result)), output)
    check_output(output, overwrite=overwrite, sources=paths, **result)

    if explain is None and report is None:
        fused = fuser.fuse(sources(), output=output_dtype, **options)
    else:
        explanation = fuser.explain(sources(), output=output_dtype, **options)
        fused = explanation.fused
        if explain is not None:
            explain.mkdir(parents=True, exist_ok=True)
            write_steps(explain, explanation, overwrite=overwrite)
        if report is not None:
            balance = options["balance"] or [1.0] * len(paths)  # what has no part in it is not on the page
            shown = [(path.name, share) for path, share in zip(paths, balance, strict=True) if share > 0]
            write_page(
                report,
                fuser,
                explanation,
                [name for name, _ in shown],
                overwrite=overwrite,
                options={"balance": [share for _, share in shown]},
            )
    write_image(output, fused, overwrite=overwrite)
    if profile:
        print_timings(fuser.explain(sources(), output=output_dtype, **options))
    return output


def of_each(option: str, given: Sequence[Any], count: int) -> Sequence[Any]:
    """Return what an option says for each source; None where it says nothing."""
    if len(given) not in (0, 1, count):
        raise ValueError(f"{option}: given {len(given)} times, for {count} images; give it once, or once for each")
    return given if len(given) == count else [given[0] if given else None] * count


def _image_to_take(
    text: str, option: str, paths: Sequence[Path], images: Sequence[Image], also: str = ""
) -> tuple[Path, Image]:
    """Return the image that an option names, and its path: by its place among the sources, from 1, or by its file."""
    if text.isdecimal() and not 1 <= int(text) <= len(paths):
        raise ValueError(f"{option}: got {text}; expected 1 to {len(paths)}, {also}or a file")
    path = paths[int(text) - 1] if text.isdecimal() else Path(text)
    return path, dict(zip(paths, images, strict=False)).get(path) or read_image(path)


def _grid_to_take(text: str, paths: Sequence[Path], images: Sequence[Image]) -> Grid:
    """Return the grid that --resample-to asks for: of the image at a place from 1, the finest of all, or of a file."""
    places = [str(k) for k in range(1, len(paths) + 1)] if text == "finest" else [text]
    grids = []
    for place in places:
        path, image = _image_to_take(place, "--resample-to", paths, images, "finest, ")
        if image.grid is None:
            raise ValueError(
                f"--resample-to: {path} says nothing of where its pixels lie; it needs a grid in mm (NIfTI, DICOM)"
            )
        grids.append(image.grid)
    return min(grids, key=lambda grid: prod(grid.spacing))
