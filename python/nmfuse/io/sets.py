"""Sets of registered images on disk: pairs, and stacks of more."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

from nmfuse.images import Image
from nmfuse.images.luma import grey
from nmfuse.io.dicom import is_dicom
from nmfuse.io.formats import is_folder, split_page, split_suffix
from nmfuse.io.images import list_images, read_image

_LETTERED = re.compile(r"(.+)_([A-Z])")  # the stem of a source
_NAME = "{name}"  # of a pattern: what the sources of a set have in common


@dataclass(frozen=True)
class SourceSet:
    """Registered images that belong together and are fused into one.

    Attributes
    ----------
    kind : str
        What the images show, such as "mri_ct": the name of their folder, or a column of a table.
    name : str
        The name of the set among those of its kind.
    paths : tuple of path
        The files of the images, two or more.

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
        """The kind and the name."""
        return f"{self.kind}/{self.name}"

    def images(self) -> tuple[Image, ...]:
        """Return the images as they are stored; see `nmfuse.io.read_image`."""
        return tuple(read_image(path) for path in self.paths)

    def luminances(self) -> tuple[Image, ...]:
        """Return the luminance of each image, in its own dtype and with its metadata."""
        return tuple(image.with_pixels(grey(image), image.valid) for image in self.images())


def find_sets(where: str | Path | Iterable[str | Path]) -> list[SourceSet]:
    """Return the sets of images in folders and CSV files, sorted.

    Parameters
    ----------
    where : path or several
        A folder of ``NAME_A.*``, ``NAME_B.*`` and, for more sources, ``NAME_C.*`` and so on; a folder of such folders
        (one for each kind); or a CSV file with the columns a, b, c, ... and, optionally, kind and name. The first
        columns contain files, pages of files, or folders of DICOM series, relative to the CSV file; from the third on
        they may be empty. Other columns are ignored.

    Raises
    ------
    FileNotFoundError
        If one of them, or an image, is missing.
    ValueError
        If there is no set, if a source is missing or occurs twice, if a column or a value of a table is missing, or if
        two sets have the same kind and name.

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
            below = sorted(p for p in path.iterdir() if p.is_dir())
            folders = {folder.resolve(): folder for folder in (*reversed(below), path)}  # a link may lead back here
            found = [one for folder in folders.values() for one in _in_folder(folder)]
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


def match_sets(folders: Sequence[str | Path], patterns: Sequence[str] = ()) -> tuple[list[SourceSet], dict[Path, str]]:
    """Return the sets of images whose names match, and the images that have no partner.

    Parameters
    ----------
    folders : sequence of paths
        One folder for each source, which contains one file of each set; or a single folder for all sources.
    patterns : sequence of str
        For each source, the pattern of its file names: ``{name}`` stands for the part that the sources of a set have in
        common, and ``*`` for any other text. A suffix such as ``.jpg``, in upper or lower case, excludes other formats;
        without a suffix, all formats are allowed. By default each pattern is ``{name}``, so that the names in all
        folders are the same except for the suffix. In a single folder, a file that fits several patterns belongs to the
        longest of them.

    Returns
    -------
    list of SourceSet
        The sets, sorted by name; their kind consists of the names of the folders.
    dict
        For each image that is in no set, the reason.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.
    ValueError
        If a pattern does not have exactly one ``{name}``, if the number of patterns does not fit, if two files fit the
        same place, or if no set is found.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("DJI_0001_T.JPG", "DJI_0001_V.JPG", "DJI_0002_T.JPG"):
    ...     _ = (folder / name).write_bytes(b"")
    >>> sets, alone = match_sets([folder], ["{name}_T", "{name}_V"])
    >>> [one.name for one in sets], [path.name for path in alone]
    (['DJI_0001'], ['DJI_0002_T.JPG'])
    """
    places, count = [Path(folder) for folder in folders], len(folders)
    patterns = list(patterns or [_NAME] * count)
    if len(places) == 1:
        places *= len(patterns)
    if len(patterns) < 2 or len(places) != len(patterns):
        raise ValueError(
            f"pattern: got {len(patterns)} for {count} folder{'s' * (count > 1)}; expected one for each folder, or for "
            "one folder one for each source, such as '{name}_T' and '{name}_V'"
        )
    fits = [_fitting(pattern) for pattern in patterns]

    def called(k: int, name: str) -> str:
        return patterns[k].replace(_NAME, name) + ("" if split_suffix(patterns[k])[1] else ".*")

    named: dict[str, list[list[Path]]] = defaultdict(lambda: [[] for _ in places])  # name -> source -> files
    alone: dict[Path, str] = {}
    for folder in dict.fromkeys(places):
        here = [k for k, place in enumerate(places) if place == folder]
        for path in list_images(folder):
            names = {k: name for k in here if (name := fits[k](path)) is not None}
            if names:
                k = max(names, key=lambda k: len(patterns[k]))
                named[names[k]][k].append(path)
            else:
                alone[path] = f"is not named {' or '.join(patterns[k] for k in here)}"
    kind, sets = "_".join(dict.fromkeys(place.resolve().name for place in places)), []
    for name, files in sorted(named.items()):
        for k, paths in enumerate(files):
            if len(paths) > 1:
                raise ValueError(
                    f"{paths[1]}: is {called(k, name)}, and so is {paths[0]}; choose one by the suffix in "
                    f"its pattern, such as '{{name}}{split_suffix(paths[0])[1]}', or rename one of them"
                )
        lacking = [k for k, paths in enumerate(files) if not paths]
        if lacking:
            wanted = ", ".join(f"{called(k, name)} in {places[k]}" for k in lacking)
            alone |= {path: f"has no partner {wanted}" for paths in files for path in paths}
        else:
            sets.append(SourceSet(kind, name, tuple(path for (path,) in files)))
    if not sets:
        where = ", ".join(str(place) for place in dict.fromkeys(places))
        example = "".join(f"; {path.name} {why}" for path, why in list(alone.items())[:1])
        raise ValueError(f"{where}: no images belong together by {' and '.join(patterns)}{example}")
    return sets, alone


def _fitting(pattern: str) -> Callable[[Path], str | None]:
    """Return the function that gives the name of a file by a pattern, None where it does not fit."""
    if pattern.count(_NAME) != 1 or "/" in pattern:
        raise ValueError(
            f"pattern: got {pattern!r}; expected the name of a file with {_NAME} once, such as '{{name}}_T.jpg'"
        )
    stem, suffix = split_suffix(pattern)
    text = re.escape(stem).replace(re.escape(_NAME), "(?P<name>.+)").replace(re.escape("*"), ".*")
    regex = re.compile(text, re.DOTALL)

    def name(path: Path) -> str | None:
        of_file, its = split_suffix(path)
        found = regex.fullmatch(of_file) if suffix.lower() in ("", its.lower()) else None
        return found and found["name"]

    return name


def is_one_source(folder: str | Path) -> bool:
    """Return whether a folder is one source, a Zarr array or a DICOM series; if not, its files are sources of sets.

    It is a series if it, or a folder in it, holds DICOM files, with any suffix or none, and it holds no other images.

    Examples
    --------
    >>> is_one_source("scans")
    False
    """
    folder = Path(folder)
    if is_folder(folder):
        return True
    if not folder.is_dir() or any(path.suffix.lower() != ".dcm" for path in list_images(folder)):
        return False
    return any(is_dicom(path) for path in folder.rglob("*"))


def _in_folder(folder: Path) -> list[SourceSet]:
    named: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))  # name -> letter -> files
    for path in list_images(folder):
        if lettered := _LETTERED.fullmatch(split_suffix(path)[0]):
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
        kind, name = row.get("kind") or path.stem, row.get("name") or split_suffix(files[0])[0].removesuffix("_A")
        for column, value in (("kind", kind), ("name", name)):
            if "/" in value or value in (".", ".."):
                raise ValueError(f"{path}: line {line} has the {column} {value!r}; expected one without a folder")
        sets.append(SourceSet(kind, name, files))
    return sets


def _from_a(alphabet: str, there: Collection[str]) -> str:
    """Return the letters from the first one on that are there, up to the first that is not."""
    return "".join(takewhile(there.__contains__, alphabet))
