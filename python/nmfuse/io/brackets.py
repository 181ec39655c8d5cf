"""Exposure brackets and focus stacks among the photographs of one folder, found by their EXIF."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from math import log2
from pathlib import Path
from typing import Any

from nmfuse.io import pillow, raw
from nmfuse.io.carried import EXIF_IFD, ORIENTATION, exif_of
from nmfuse.io.formats import split_suffix
from nmfuse.io.images import list_images
from nmfuse.io.orientation import TURNED
from nmfuse.io.sets import SourceSet

_MAKE, _MODEL, _SERIAL = 271, 272, 42033
_TIMES, _FRACTION = (36867, 36868), 37521  # original and digitized time, and the fraction of the second
_SHUTTER, _APERTURE, _ISO, _BIAS = 33434, 33437, 34855, 37380
_SAME = 1 / 6  # exposure values that differ by less are one: half of the smallest step that cameras offer


@dataclass(frozen=True)
class _Shot:
    path: Path
    time: float  # seconds
    shutter: float  # seconds
    exposure: float  # EV at ISO 100; only differences count
    like: tuple[Any, ...]  # what all pictures of a group have in common


def find_brackets(folder: str | Path, *, gap: float = 2.0) -> tuple[list[SourceSet], dict[Path, str]]:
    """Return the exposure brackets and focus stacks among the photographs of a folder, by their EXIF.

    A set consists of pictures with the same camera, size and file format, each of which begins at most `gap` seconds
    after the end of the previous one. If the first two differ in exposure, the set is a bracket, in which each exposure
    occurs once: a repeated exposure begins the next set. If they have the same exposure, the set is a stack (for
    example of focus), which ends where the exposure changes.

    Parameters
    ----------
    folder : str or path
        The folder, with raw, JPEG, TIFF, PNG, WebP or AVIF files as cameras and raw converters write them.
    gap : float
        The greatest gap between two pictures in seconds, by DateTimeOriginal and SubSecTimeOriginal, not counting the
        exposure time.

    Returns
    -------
    list of SourceSet
        The sets in the order of time. Each has the name of its first picture.
    dict
        For each picture that is in no set, the reason.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.
    ValueError
        If `gap` is negative, or no set is found.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image as Pillow
    >>> folder = Path(tempfile.mkdtemp())
    >>> for k, shutter in enumerate((1 / 100, 1 / 25, 1 / 400, 1 / 100)):
    ...     exif = Pillow.Exif()
    ...     exif.get_ifd(34665).update({36867: f"2024:06:01 12:00:0{k}", 33434: shutter})
    ...     Pillow.new("L", (16, 16)).save(folder / f"{k}.jpg", exif=exif)
    >>> sets, alone = find_brackets(folder)
    >>> [(one.name, len(one.paths)) for one in sets], [path.name for path in alone]
    ([('0', 3)], ['3.jpg'])
    """
    if not gap >= 0:
        raise ValueError(f"gap: got {gap}; expected seconds, 0 or more")
    folder, alone = Path(folder), {}
    shots: list[_Shot] = []
    for path in list_images(folder):
        try:
            shots.append(_shot(path))
        except Exception as error:  # decoders raise all kinds, and of one bad file only its set is the worse
            alone[path] = f"has no EXIF time ({error})"
    groups: list[list[_Shot]] = []
    for shot in sorted(shots, key=lambda shot: (shot.like, shot.time, shot.path)):
        if groups and _belongs(shot, groups[-1], gap):
            groups[-1].append(shot)
        else:
            groups.append([shot])
    alone |= {
        group[
            0
        ].path: f"stands alone: no picture of its camera and size within {gap:g} s makes a bracket or stack with it"
        for group in groups
        if len(group) == 1
    }
    kind, found = folder.resolve().name, sorted((g for g in groups if len(g) > 1), key=lambda g: g[0].time)
    if not found:
        example = "".join(f"; {path.name} {why}" for path, why in list(alone.items())[:1])
        raise ValueError(f"{folder}: no pictures belong together by their EXIF{example}")
    return [SourceSet(kind, split_suffix(g[0].path)[0], tuple(shot.path for shot in g)) for g in found], alone


def _belongs(shot: _Shot, group: list[_Shot], gap: float) -> bool:
    last = group[-1]
    # Cameras write the time at which an exposure begins or at which it ends: the longer of two lies between them.
    if shot.like != last.like or shot.time - last.time - max(shot.shutter, last.shutter) > gap:
        return False
    if len(group) == 1:
        return True
    is_stack = _is_same(*group[:2])
    return is_stack == any(_is_same(shot, other) for other in group)


def _is_same(a: _Shot, b: _Shot) -> bool:
    return abs(a.exposure - b.exposure) < _SAME


def _shot(path: Path) -> _Shot:
    if split_suffix(path)[1].lower() in raw.SUFFIXES:
        exif = raw.exif_of_raw(path)
        width, height = raw.size_of(path)
    else:
        with pillow.opened(path, "TIFF") as picture:
            exif, (width, height) = exif_of(path, picture), picture.size
            exif.get_ifd(EXIF_IFD)  # while the file is open
    inner = exif.get_ifd(EXIF_IFD)
    text = next((str(inner[code]) for code in _TIMES if code in inner), "")
    if not text:
        raise ValueError("neither DateTimeOriginal nor DateTimeDigitized")
    time = datetime.strptime(text.strip("\0 "), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    fraction = str(inner.get(_FRACTION, "")).strip("\0 ")
    shutter, aperture, iso = (_number(inner.get(code)) for code in (_SHUTTER, _APERTURE, _ISO))
    exposure = log2((aperture or 1) ** 2 * 100 / (iso or 100) / shutter) if shutter else -_number(inner.get(_BIAS))
    size = (height, width) if exif.get(ORIENTATION, 1) in TURNED else (width, height)
    camera = tuple(str(x) for x in (exif.get(_MAKE), exif.get(_MODEL), inner.get(_SERIAL)))
    like = (*camera, size, split_suffix(path)[1].lower())
    return _Shot(path, time + (float(f"0.{fraction}") if fraction.isdecimal() else 0.0), shutter, exposure, like)


def _number(value: Any) -> float:
    """Return a number of EXIF, of several the first; 0 where it says nothing."""
    try:
        found = float(value[0] if isinstance(value, tuple) else value)
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return 0.0
    return found if abs(found) < 1e9 else 0.0  # 0/0 and 1/0 are nan and inf
