"""Pairs of registered images on disk."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmfuse.io import grey, read_image
from nmfuse.metrics import METRICS, evaluate


@dataclass(frozen=True)
class Pair:
    """Two registered images: their kind (the folder's name), their name in it, and both files.

    Examples
    --------
    >>> Pair("mri_ct", "01", Path("mri_ct/01_A.png"), Path("mri_ct/01_B.png")).label
    'mri_ct/01'
    """

    kind: str
    name: str
    a: Path
    b: Path

    @property
    def label(self) -> str:
        """Kind and name."""
        return f"{self.kind}/{self.name}"

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """Return both images as they are stored."""
        return read_image(self.a), read_image(self.b)

    def luminances(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the luminance of both, in their own dtype."""
        a, b = self.images()
        return grey(a), grey(b)


def find_pairs(where: Path | Iterable[Path]) -> list[Pair]:
    """Return the pairs of folders and of CSV files, sorted.

    Parameters
    ----------
    where : path or several
        A folder of ``NAME_A.*`` and ``NAME_B.*``, a folder of such folders (one a kind), or a CSV file with the columns
        a and b (files, relative to it) and, if wanted, kind and name.

    Raises
    ------
    FileNotFoundError
        If one of them, or an image, is missing.
    ValueError
        If there is no pair, an A without its B, or two pairs of the same kind and name.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for side in "AB":
    ...     _ = (folder / f"01_{side}.png").write_bytes(b"")
    >>> [pair.name for pair in find_pairs(folder)]
    ['01']
    """
    paths = [Path(where)] if isinstance(where, (str, Path)) else [Path(path) for path in where]
    pairs: list[Pair] = []
    for path in paths:
        if path.is_dir():
            found = [
                pair
                for folder in (path, *sorted(p for p in path.iterdir() if p.is_dir()))
                for pair in _in_folder(folder)
            ]
        elif path.is_file():
            found = _in_table(path)
        else:
            raise FileNotFoundError(f"{path}: no such folder or CSV file")
        if not found:
            raise ValueError(f"{path}: has no pairs NAME_A.*, NAME_B.*, nor folders of them")
        pairs += found
    seen: dict[str, Pair] = {}
    for pair in pairs:
        if pair.label in seen:
            raise ValueError(f"{pair.a}: is {pair.label}, and so is {seen[pair.label].a}; rename one of them")
        seen[pair.label] = pair
    return sorted(pairs, key=lambda pair: pair.label)


def _in_folder(folder: Path) -> list[Pair]:
    pairs = []
    for a in sorted(folder.glob("*_A.*")):
        name = a.stem[:-2]
        partners = sorted(folder.glob(f"{name}_B.*"))
        if len(partners) != 1:
            raise ValueError(f"{a}: has {len(partners)} partners {name}_B.*; expected one")
        pairs.append(Pair(folder.resolve().name, name, a, partners[0]))
    return pairs


def _in_table(path: Path) -> list[Pair]:
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = {"a", "b"} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path}: has no column {', '.join(sorted(missing))}; expected a, b, and maybe kind, name")
        rows = list(reader)
    pairs = []
    for row in rows:
        a, b = (path.parent / row[side] for side in ("a", "b"))
        for file_ in (a, b):
            if not file_.is_file():
                raise FileNotFoundError(f"{file_}: no such file, named in {path}")
        pairs.append(Pair(row.get("kind") or path.stem, row.get("name") or a.stem.removesuffix("_A"), a, b))
    return pairs


def measure(fused: np.ndarray, sources: Sequence[np.ndarray], metrics: Sequence[str] | None = None) -> dict[str, float]:
    """Return the metrics of a fused image as read or written, by luminance; NaN for those that ask for larger images.

    Examples
    --------
    >>> image = np.eye(32, dtype=np.uint8) * 255
    >>> measure(image, [image, image], ["SSIM", "MS_SSIM"])
    {'SSIM': 1.0, 'MS_SSIM': nan}
    """
    images = [grey(x) for x in (fused, *sources)]
    names = list(METRICS) if metrics is None else list(metrics)
    defined = [name for name in names if METRICS[name].defined(len(sources), min(images[0].shape))]
    values = evaluate(images[0], images[1:], data_range=white_of(images[1:]), metrics=defined)
    return {name: float(values.get(name, np.nan)) for name in names}


def white_of(sources: Sequence[np.ndarray]) -> float | None:
    """Return the value of white of sources as read: 1 for floats, None for integers, whose dtype says it.

    Raises
    ------
    ValueError
        If floats are not within 0 to 1.
    """
    if sources[0].dtype.kind != "f":
        return None
    low, high = min(float(x.min()) for x in sources), max(float(x.max()) for x in sources)
    if low < 0 or high > 1:
        raise ValueError(
            f"sources: floats of {low:g} to {high:g}, whose white is not known; metrics expect 0 to 1: "
            "scale them, or say what is white (nmfuse evaluate --data-range)"
        )
    return 1.0
