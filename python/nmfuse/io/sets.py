"""Sets of registered images on disk: pairs, and stacks of more."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

from nmfuse.images import Image
from nmfuse.images.luma import grey
from nmfuse.io.formats import split_page
from nmfuse.io.images import list_images, read_image

_LETTERED = re.compile(r"(.+)_([A-Z])")  # the stem of a source


@dataclass(frozen=True)
class SourceSet:
    """Registered images of one thing.

    Attributes
    ----------
    kind : str
        What they show, such as "mri_ct": their folder's name, or a column of a table.
    name : str
        Their name among those of their kind.
    paths : tuple of path
        Their files, two or more.

    Examples
    --------
    >>> SourceSet("mri_ct", "01", (Path("mri_ct/01_A.png"), Path("mri_ct/01_B.png"))).label
    'mri_ct/01'
    """

    kind: str
    name: str
    paths: tuple[Path, ...]

    @property
    def label(self) -> str:
        """Kind and name."""
        return f"{self.kind}/{self.name}"

    def images(self) -> tuple[Image, ...]:
        """Return the images as they are stored; see `nmfuse.io.read_image`."""
        return tuple(read_image(path) for path in self.paths)

    def luminances(self) -> tuple[Image, ...]:
        """Return the luminance of each, in its own dtype, with what else the image carries."""
        return tuple(image.with_pixels(grey(image), image.valid) for image in self.images())


def find_sets(where: str | Path | Iterable[str | Path]) -> list[SourceSet]:
    """Return the sets of images of folders and of CSV files, sorted.

    Parameters
    ----------
    where : path or several
        A folder of ``NAME_A.*``, ``NAME_B.*`` and, for more sources, ``NAME_C.*`` and so on; a folder of such folders
        (one a kind); or a CSV file with the columns a, b, c, ... (files, pages of them, or folders of DICOM series,
        relative to it; from the third on a row may leave them empty) and, if wanted, kind and name; other columns are
        not looked at.

    Raises
    ------
    FileNotFoundError
        If one of them, or an image, is missing.
    ValueError
        If there is no set, a source is missing or there twice, a column or a value of a table is missing, or two sets
        have the same kind and name.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for letter in "ABC":
    ...     _ = (folder / f"01_{letter}.png").write_bytes(b"")
    >>> [(found.name, len(found.paths)) for found in find_sets(folder)]
    [('01', 3)]
    """
    paths = [Path(where)] if isinstance(where, (str, Path)) else [Path(path) for path in where]
    sets: list[SourceSet] = []
    for path in paths:
        if path.is_dir():
            folders = (path, *sorted(p for p in path.iterdir() if p.is_dir()))
            found = [one for folder in folders for one in _in_folder(folder)]
        elif path.is_file():
            found = _in_table(path)
        else:
            raise FileNotFoundError(f"{path}: no such folder or CSV file")
        if not found:
            raise ValueError(f"{path}: has no pairs NAME_A.*, NAME_B.*, nor folders of them")
        sets += found
    seen: dict[str, SourceSet] = {}
    for one in sets:
        if one.label in seen:
            raise ValueError(
                f"{one.paths[0]}: is {one.label}, and so is {seen[one.label].paths[0]}; rename one of them"
            )
        seen[one.label] = one
    return sorted(sets, key=lambda one: one.label)


def _in_folder(folder: Path) -> list[SourceSet]:
    named: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))  # name -> letter -> files
    for path in list_images(folder):
        if lettered := _LETTERED.fullmatch(path.stem):
            named[lettered[1]][lettered[2]].append(path)
    sets = []
    for name, files in named.items():
        if not {"A", "B"} & files.keys():
            continue  # named so by chance
        letters = _from_a(ascii_uppercase, files.keys() | {"A", "B"})
        known = next(path for letter in letters for path in files.get(letter, ()))
        for letter in letters:
            if len(there := files.get(letter, [])) != 1:
                raise ValueError(f"{known}: has {len(there)} partners {name}_{letter}.*; expected one")
        if len(files) > len(letters):
            missing, beyond = ascii_uppercase[len(letters)], files[max(files)][0]
            raise ValueError(
                f"{beyond}: is named like a source, but there is no {name}_{missing}.*; rename one of them"
            )
        sets.append(SourceSet(folder.resolve().name, name, tuple(files[letter][0] for letter in letters)))
    return sets


def _in_table(path: Path) -> list[SourceSet]:
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        columns = _from_a(ascii_lowercase, reader.fieldnames or ())
        missing = [name for name in "ab" if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(
                f"{path}: has no column {', '.join(missing)}; expected a, b, for more sources c and so on, and maybe "
                "kind, name"
            )
        rows = [(reader.line_num, row) for row in reader]
    sets = []
    for line, row in rows:
        given = [row[column] for column in columns if row[column]]
        for column in columns[: max(2, len(given))]:
            if not row[column]:
                raise ValueError(f"{path}: line {line} has no {column}; expected a file")
        files = tuple(path.parent / name for name in given)
        for file_ in files:
            if not split_page(file_)[0].exists():
                raise FileNotFoundError(f"{file_}: no such file, named in {path}")
        sets.append(SourceSet(row.get("kind") or path.stem, row.get("name") or files[0].stem.removesuffix("_A"), files))
    return sets


def _from_a(alphabet: str, there: Collection[str]) -> str:
    """Return the letters from the first one on that are there, up to the first that is not."""
    return "".join(takewhile(there.__contains__, alphabet))
