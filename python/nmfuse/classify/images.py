"""Images of two classes on disk: finding, reading and splitting them."""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmfuse import io
from nmfuse.images.luma import luminance

_log = logging.getLogger(__name__)

_LAYOUTS = (("healthy", "unhealthy"), ("no", "yes"), ("healthy", "brain tumor"))
_UNBALANCED = 3


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """The images of two classes.

    Attributes
    ----------
    paths : list of path
        The files, sorted, with the healthy ones first.
    labels : array, shape (N,)
        The class of each image, int64: 0 for healthy, 1 for unhealthy.
    classes : (str, str)
        The names of the two folders.

    Examples
    --------
    >>> ImageFolder([Path("no/1.png"), Path("yes/1.png")], np.array([0, 1]), ("no", "yes")).names
    ['no/1.png', 'yes/1.png']
    """

    paths: list[Path]
    labels: np.ndarray
    classes: tuple[str, str]

    @property
    def names(self) -> list[str]:
        """The name of each image in tables: its folder and its file name."""
        return [f"{self.classes[label]}/{path.name}" for path, label in zip(self.paths, self.labels, strict=True)]


def find_images(folder: str | Path, classes: tuple[str, str] | None = None) -> ImageFolder:
    """Return the images of the two class folders in a folder, sorted; a ratio of more than three to one is warned of.

    Parameters
    ----------
    folder : path
        A folder that contains healthy/ and unhealthy/, or no/ and yes/, or Healthy/ and Brain Tumor/ (in upper or lower
        case), or that contains exactly one such folder.
    classes : (str, str), optional
        The names of the two folders, the healthy one first, if they differ from these.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If there are no such two folders, if there are more than two, or if one has no images.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("no", "yes"):
    ...     (folder / name).mkdir()
    ...     _ = (folder / name / "1.png").write_bytes(b"")
    >>> find_images(folder).labels
    array([0, 1])
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    if classes is not None and (len(classes) != 2 or classes[0] == classes[1]):
        raise ValueError(f"classes: got {classes!r}; expected the names of two folders, the healthy one first")
    healthy, unhealthy = _two_folders(folder, classes)
    found = [io.list_images(healthy), io.list_images(unhealthy)]
    counts = [len(paths) for paths in found]
    for where, count in zip((healthy, unhealthy), counts, strict=True):
        if count == 0:
            raise ValueError(f"{where}: has no images ({', '.join(io.suffixes())}); expected those of one class")
    if max(counts) > _UNBALANCED * min(counts):
        _log.warning("%s: unbalanced, %d healthy and %d unhealthy images", folder, *counts)
    return ImageFolder([*found[0], *found[1]], np.repeat(np.arange(2), counts), (healthy.name, unhealthy.name))


def _two_folders(folder: Path, classes: tuple[str, str] | None) -> tuple[Path, Path]:
    layouts = _LAYOUTS if classes is None else (classes,)
    found = _layouts_in(folder, layouts)
    if not found:
        found = [pair for below in sorted(folder.iterdir()) if below.is_dir() for pair in _layouts_in(below, layouts)]
    if len(found) == 1:
        return found[0]
    expected = " or ".join(f"{a}/ and {b}/" for a, b in layouts)
    remedy = "name two by classes (--classes HEALTHY,UNHEALTHY)" if classes is None else "check their names"
    if found:
        pairs = "; ".join(f"{a.relative_to(folder)}/ and {b.relative_to(folder)}/" for a, b in found)
        raise ValueError(f"{folder}: has more than one pair of classes ({pairs}); give the folder of one, or {remedy}")
    there = ", ".join(sorted(f"{path.name}/" for path in folder.iterdir() if path.is_dir())) or "no folders"
    raise ValueError(f"{folder}: has {there}; expected {expected}: {remedy}")


def _layouts_in(folder: Path, layouts: tuple[tuple[str, str], ...]) -> list[tuple[Path, Path]]:
    below = {path.name.lower().replace("_", " "): path for path in sorted(folder.iterdir()) if path.is_dir()}
    keys = [tuple(name.lower().replace("_", " ") for name in pair) for pair in layouts]
    return [(below[a], below[b]) for a, b in keys if a in below and b in below]


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as luminance.

    Parameters
    ----------
    path : path
        A file that `nmfuse.io.read_image` can read.

    Returns
    -------
    array, shape (H, W)
        The luminance (BT.601), float32 from 0 to 1: images of 8 and 16 bits are divided by the range of their dtype,
        floats are not changed. Completely transparent pixels are black.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not a readable image, or has signed integers, or floats that are not from 0 to 1.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.png"
    >>> io.write_image(path, np.full((2, 2), 51, np.uint8))
    >>> read_image(path)
    array([[0.2, 0.2],
           [0.2, 0.2]], dtype=float32)
    """
    image = io.read_image(path)
    seen = image.pixels if image.valid is None else image.pixels[image.valid]
    if image.dtype.kind == "i":
        raise ValueError(f"{path}: pixels are {image.dtype}; expected uint8, uint16, or floats from 0 to 1: scale them")
    if image.dtype.kind == "f" and seen.size and not (seen.min() >= 0 and seen.max() <= 1):
        raise ValueError(f"{path}: floats from {seen.min():g} to {seen.max():g}; expected 0 to 1, scale them")
    scale = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    grey = (luminance(image) / scale).astype(np.float32)
    return grey if image.valid is None else np.where(image.valid, grey, np.float32(0))


def crop_content(image: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the rows and columns of an image where more than 2 % is `seen`; all of it where few are.

    Examples
    --------
    >>> image = np.pad(np.ones((12, 20)), 5)
    >>> crop_content(image, image > 0).shape
    (12, 20)
    """
    rows, columns = (np.flatnonzero(seen.mean(axis) > 0.02) for axis in (1, 0))
    if len(rows) > 8 and len(columns) > 8:
        image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return image


def fit_square(image: np.ndarray, side: int) -> np.ndarray:
    """Pad an image with black to a square, its aspect kept, and resize that with antialiasing.

    Parameters
    ----------
    image : array, shape (H, W)
        float32.
    side : int
        Height and width of the result.

    Examples
    --------
    >>> fit_square(np.ones((2, 4), np.float32), 4).tolist()[::3]
    [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    from PIL import Image

    height, width = image.shape
    longest = max(height, width)
    top, left = (longest - height) // 2, (longest - width) // 2
    square = np.pad(image, ((top, longest - height - top), (left, longest - width - left)))
    return np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BILINEAR))


def try_images(folder: ImageFolder, chosen: Iterable[int]) -> Iterator[tuple[int, np.ndarray | ValueError]]:
    """Give each chosen place of a folder with its image, see `read_image`, or with what is wrong with it."""
    for place in chosen:
        try:
            yield int(place), read_image(folder.paths[place])
        except ValueError as error:
            yield int(place), error


def read_images(
    folder: ImageFolder, chosen: Iterable[int] | None = None, *, skip_bad: bool = False
) -> tuple[list[np.ndarray], np.ndarray]:
    """Read images of a folder, each in its own size.

    Parameters
    ----------
    folder : ImageFolder
        See `find_images`.
    chosen : iterable of int, optional
        Places in `folder`; all by default.
    skip_bad : bool
        Leave out an unreadable image, with a warning that names it, instead of raising.

    Returns
    -------
    images : list of arrays, shape (H, W)
        float32 from 0 to 1.
    kept : array, shape (N,)
        int64, where in `folder` each one is.

    Raises
    ------
    ValueError
        If an image is unreadable, or none is left.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("no", "yes"):
    ...     (folder / name).mkdir()
    ...     io.write_image(folder / name / "1.png", np.zeros((20, 16), np.uint8))
    >>> images, kept = read_images(find_images(folder))
    >>> images[0].shape, kept
    ((20, 16), array([0, 1]))
    """
    images, kept = [], []
    for place, image in try_images(folder, range(len(folder.paths)) if chosen is None else chosen):
        if not isinstance(image, ValueError):
            images.append(image)
            kept.append(place)
        elif skip_bad:
            _log.warning("left out: %s", image)
        else:
            raise ValueError(f"{image}; remove it, or pass --skip-bad (skip_bad=True) to go on without") from image
    if not images:
        raise ValueError(f"{folder.paths[0].parent.parent}: none of the images is readable")
    return images, np.array(kept, np.int64)


def read_groups(path: str | Path, column: str, folder: ImageFolder) -> np.ndarray:
    r"""Read which images belong together, such as those of one patient.

    Parameters
    ----------
    path : path
        A CSV file with the column file (such as healthy/01.png) and the column that is asked for.
    column : str
        The column; images with the same text in it belong together. An image without text, or one that is not listed,
        is a group of its own.
    folder : ImageFolder
        The images that it is about.

    Returns
    -------
    array, shape (N,)
        The group of each image, int64.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing.

    Examples
    --------
    >>> import tempfile
    >>> folder = ImageFolder([Path(f"{c}/1.png") for c in ("no", "yes")], np.array([0, 1]), ("no", "yes"))
    >>> table = Path(tempfile.mkdtemp()) / "meta.csv"
    >>> _ = table.write_text("file,patient\nno/1.png,anne\nyes/1.png,anne\n")
    >>> read_groups(table, "patient", folder)
    array([0, 0])
    """
    found = {row["file"]: row[column] for row in _read_rows(Path(path), ("file", column))}
    names = [found.get(name) or f"\0{name}" for name in folder.names]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _read_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}: has no column {', '.join(missing)}; expected {', '.join(columns)}")
        return [{name: (row[name] or "").strip() for name in columns} for row in reader]


def read_split(path: str | Path, folder: ImageFolder) -> tuple[np.ndarray, np.ndarray]:
    r"""Read which images are for training and which for testing; the others are not used, and their number is logged.

    Parameters
    ----------
    path : path
        A CSV file with the columns file (such as healthy/01.png), label (the class, the name of its folder, or 0 and 1)
        and split (train, test, or nothing).
    folder : ImageFolder
        The images that it is about.

    Returns
    -------
    train, test : array
        The sorted indices of the images in `folder`, int64.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing, if a file is unknown or occurs twice, if a label differs from its folder, if a split is
        neither train nor test, or if a half lacks a class.

    Examples
    --------
    >>> import tempfile
    >>> names = [f"{c}/{i}.png" for c in ("no", "yes") for i in (1, 2)]
    >>> folder = ImageFolder([Path(name) for name in names], np.array([0, 0, 1, 1]), ("no", "yes"))
    >>> table = Path(tempfile.mkdtemp()) / "split.csv"
    >>> rows = ["no/1.png,no,train", "no/2.png,no,test", "yes/1.png,yes,train", "yes/2.png,yes,test"]
    >>> _ = table.write_text("file,label,split\n" + "\n".join(rows))
    >>> read_split(table, folder)
    (array([0, 2]), array([1, 3]))
    """
    path = Path(path)
    rows = _read_rows(path, ("file", "label", "split"))
    place = {name: i for i, name in enumerate(folder.names)}
    twice = [name for name, count in Counter(row["file"] for row in rows).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: names {twice[0]} more than once; expected each file once")
    halves: dict[str, list[int]] = {"train": [], "test": [], "": []}
    for row in rows:
        name = row["file"]
        if name not in place:
            raise ValueError(f"{path}: names {name}, which is not among the images (such as {folder.names[0]})")
        label = int(folder.labels[place[name]])
        labels = (("healthy", "unhealthy")[label], folder.classes[label].lower(), str(label))
        if row["label"].lower() not in labels:
            raise ValueError(f"{path}: {name} has label {row['label']!r}; its folder says {folder.classes[label]!r}")
        if row["split"] not in halves:
            raise ValueError(f"{path}: {name} has split {row['split']!r}; expected train, test or nothing")
        halves[row["split"]].append(place[name])
    for half in ("train", "test"):
        lacking = {0, 1} - {int(folder.labels[i]) for i in halves[half]}
        if lacking:
            raise ValueError(f"{path}: the {half} half has no {folder.classes[min(lacking)]}; expected both classes")
    unused = len(place) - len(halves["train"]) - len(halves["test"])
    if unused:
        _log.warning("%s: %d of %d images are in neither half, and not used", path, unused, len(place))
    return np.array(sorted(halves["train"])), np.array(sorted(halves["test"]))
