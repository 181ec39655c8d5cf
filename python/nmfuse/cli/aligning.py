"""``nmfuse align``, ``nmfuse check``, and what ``nmfuse fuse`` does before it fuses: sources onto one grid."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nmfuse.align import Transform, check, match, register, resize
from nmfuse.images import Image
from nmfuse.io import check_file, check_output, read_image, read_like, write_image
from nmfuse.io.formats import format_of, refuse_what_does_not_fit, split_page, split_suffix

_log = logging.getLogger(__name__)


def run_align(
    paths: Sequence[Path],
    folder: Path,
    *,
    model: str | None,
    method: str,
    transform: Path | None,
    matched: bool,
    fill: float | None,
    overwrite: bool,
) -> None:
    """Write every source on the pixels of the first, and the transforms; print the files."""
    names = [_file_name(path) for path in paths]
    if len(paths) < 2:
        raise ValueError(f"sources: got {len(paths)}; expected two or more images")
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"sources: {', '.join(sorted(twice))} occurs twice, and so would the result; rename one")
    given = None if transform is None else Transform.load(transform)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        check_file(folder / name, overwrite=overwrite, sources=paths)
    first = read_image(paths[0])
    for path, name in zip(paths, names, strict=True):
        image, found = first, None
        if path != paths[0]:
            image = read_like(path, first)
            if image.spatial == 3 and fill is None:  # hardly ever is all of it seen: known before the work
                refuse_what_does_not_fit(
                    folder / name, image.dtype, image.ndim, colour=image.ndim > 3, transparent=True
                )
            found = given or register(image, first, model=model, method=method)
            image = found.apply(image, first)
            say_how_far(image, first, aligned=True)
            image = match(image, first) if matched else image
        if fill is not None and image.valid is not None:
            image = _filled(image, fill)
        if found is not None and given is None:
            kept = folder / f"{name.partition('.')[0]}{'.tfm' if found.unit == 'mm' else '.json'}"
            found.save(kept, overwrite=overwrite)
            print(kept)
        target = folder / name
        if image.spatial == 2 and not format_of(target).holds(image.dtype.name, transparent=image.valid is not None):
            target = folder / f"{split_suffix(name)[0]}.tif"  # which holds all dtypes, and what is not valid
        check_output(
            target,
            overwrite=overwrite,
            dtype=image.dtype,
            ndim=image.ndim,
            colour=image.ndim > image.spatial,
            transparent=image.valid is not None,
            sources=paths,
        )
        write_image(target, image, overwrite=overwrite)
        print(target)


def _file_name(path: Path) -> str:
    """Return the name of the file that a source is written to: its own; of a folder or a file of DICOM, .dcm."""
    name = split_page(path)[0].name
    return name if split_suffix(name)[1] else f"{name}.dcm"


def run_check(paths: Sequence[Path]) -> None:
    """Print how far each source is registered with the first."""
    if len(paths) < 2:
        raise ValueError(f"sources: got {len(paths)}; expected two or more images")
    first = read_image(paths[0])
    for path in paths[1:]:
        print(f"{path}: {check(read_image(path), first)}")


def onto_first(first: Image, like: Image | None, *, model: str | None, matched: bool) -> Callable[[Image, Path], Image]:
    """Return what brings a source onto the first's pixels, by registration (`model`) or by its size alone (`like`).

    Each is registered once, however often it is read.
    """
    known: dict[Path, Transform] = {}

    def brought(image: Image, path: Path) -> Image:
        if like is not None:
            image = resize(image, like)
        elif model is not None and image is not first:
            if path not in known:
                known[path] = register(image, first, model=model)
            image = known[path].apply(image, first)
        return match(image, first) if matched and image is not first else image

    return brought


def say_how_far(image: Image, first: Image, *, aligned: bool) -> None:
    """Warn, in one line, where a source is not registered with the first; after alignment also where nothing tells."""
    if image.grid is not None and first.grid is not None and image.grid.difference(first.grid):
        return  # fusion refuses it, and says how they differ
    found = check(image, first)
    name, other = image.name or "image", first.name or "the first"
    if found.verdict == "misregistered":
        mm = "" if found.shift_mm is None else f" ({found.shift_mm:.2g} mm)"
        what = "is still" if aligned else "seems to be"
        remedy = "look at both, and try another --model" if aligned else "see nmfuse check and --align"
        _log.warning("%s: %s off %s by %.1f pixels%s; %s", name, what, other, found.shift, mm, remedy)
    elif aligned and found.verdict == "cannot tell":
        _log.warning("%s: is aligned with %s, but nothing tells how well; look at both", name, other)


def _filled(image: Image, fill: float) -> Image:
    axes = image.spatial
    valid = image.valid if image.ndim == axes else image.valid[..., None]
    filled = np.where(valid, image.pixels, np.asarray(fill, image.dtype))
    return replace(image, pixels=filled, valid=None)
