"""Every method on every pair: fused images, metrics and times in a folder that a killed run continues."""

from __future__ import annotations

import csv
import json
import logging
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from nmfuse.fuser import fuse
from nmfuse.images import Image
from nmfuse.io import SourceSet, find_sets, new_file, write_image
from nmfuse.io.formats import split_page
from nmfuse.io.locks import locked
from nmfuse.io.output import leftovers
from nmfuse.kernels import num_threads
from nmfuse.methods import METHODS
from nmfuse.metrics import METRICS, measure
from nmfuse.processes import run_each
from nmfuse.version import __version__

# ASR with its authors' step of one pixel costs sixteen times as much; `params` takes it back.
PARAMS: dict[str, dict[str, Any]] = {"asr": {"step": 4}}
RUNS = 3  # of which a time is the median
_KEY = ("kind", "pair", "method", "settings", "error")
_TIMES = ("kind", "pair", "method", "settings", "size", "threads", "seconds")

_PASSING = ("OSError", "MemoryError", "RuntimeError: its process")  # errors that another run need not meet again

Progress = Callable[[int, int, str], None]
log = logging.getLogger("nmfuse.compare")


@dataclass(frozen=True)
class Comparison:
    """The results of `compare`.

    Attributes
    ----------
    folder : path
        The folder of the images: ``images/KIND/NAME_METHOD.png`` (.tif if PNG cannot store the pixels).
    pairs : list of SourceSet
        The pairs, or sets of more images.
    methods, metrics : list of str
        The names of the methods and the metrics that were compared.
    values : dict
        For each (label of the pair, method), the value of each metric.
    errors : dict
        For each (label of the pair, method) without values, the reason.
    seconds : dict
        For each (kind, method), the seconds as the median of three runs on the first pair of the kind, and its height x
        width.
    missing : dict
        For each method that was left out, the packages that it needs.

    Examples
    --------
    >>> nothing = Comparison(Path(), [SourceSet("ct", "01", (Path(), Path()))], ["pca"], ["EN"], {}, {}, {}, {})
    >>> nothing.kinds
    ['ct']
    """

    folder: Path
    pairs: list[SourceSet]
    methods: list[str]
    metrics: list[str]
    values: dict[tuple[str, str], dict[str, float]]
    errors: dict[tuple[str, str], str]
    seconds: dict[tuple[str, str], tuple[float, str]]
    missing: dict[str, tuple[str, ...]]

    @property
    def kinds(self) -> list[str]:
        """The kinds of pairs, in their order."""
        return list(dict.fromkeys(pair.kind for pair in self.pairs))

    def of(self, kind: str) -> dict[tuple[str, str], dict[str, float]]:
        """Return the values of the pairs of one kind."""
        labels = {pair.label for pair in self.pairs if pair.kind == kind}
        return {key: row for key, row in self.values.items() if key[0] in labels}

    def image(self, pair: SourceSet, method: str) -> Path:
        """Return the path of the fused image."""
        return image_path(self.folder, pair, method)


def compare(
    where: Path | Iterable[Path | SourceSet],
    folder: Path,
    *,
    methods: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Fuse every pair by every method, measure the results, and time each method.

    Parameters
    ----------
    where : path or several
        The pairs, or sets of more images, as paths that `find_sets` takes, or as sets.
    folder : path
        The folder of the results, which is created if it is missing. Results of an earlier run with the same images,
        parameters and version are kept. While another process uses the folder, this one waits.
    methods : sequence of str, optional
        The names of methods in `METHODS`; by default all whose packages are installed.
    metrics : sequence of str, optional
        The names of metrics in `METRICS`; by default all. They are computed from the fused image as it is written, for
        colour from its luminance; the value is NaN if the image is too small for a metric.
    params : mapping, optional
        The parameters of each method. If none are given, `PARAMS` has those that differ from the defaults of the
        method.
    workers : int, optional
        The number of processes with one thread each; by default one for each core.
    progress : callable, optional
        A function that is called with what is done, the total, and a description.

    Raises
    ------
    ValueError
        For unknown methods or metrics, also in `params`.
    ModuleNotFoundError
        If the package of a method that is asked for by name is not installed.
    FileNotFoundError
        If there are no pairs.

    Notes
    -----
    If a method fails on a pair, its error is recorded and the other methods continue. Times are measured at the end, in
    this process and with its threads, on the first pair of each kind that a method can fuse: after one run, which loads
    the weights, it is the median of three runs.
    """
    given = [where] if isinstance(where, (str, Path)) else list(where)
    sets = [one for one in given if isinstance(one, SourceSet)]
    pairs = sets or find_sets(one for one in given if not isinstance(one, SourceSet))
    names, missing = _choose_methods(methods)
    wanted = list(METRICS) if metrics is None else list(metrics)
    unknown = [f"metrics: {name!r}" for name in wanted if name not in METRICS]
    unknown += [f"params: {name!r}" for name in params or {} if name not in METHODS]
    if unknown:
        raise ValueError(f"{unknown[0]} is not known; expected some of {', '.join([*METHODS, *METRICS])}")
    settings = {name: dict((params or {}).get(name, PARAMS.get(name, {}))) for name in names}
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder):
        values, errors = _measure(pairs, settings, wanted, folder, workers or num_threads(), progress)
        fused = {label for label, _ in values}
        seconds = _time([pair for pair in pairs if pair.label in fused], settings, folder, progress)
    return Comparison(folder, pairs, names, wanted, values, errors, seconds, missing)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process compares into a folder, and take away what killed ones have left half written."""
    with locked(folder, wait=False) as held:
        if not held:
            log.warning("%s: another comparison is written there; waiting until it is done", folder)
    with locked(folder):
        for inside in (folder, *(path for path in (folder / "images").glob("*") if path.is_dir())):
            for path in (path for paths in leftovers(inside).values() for path in paths):
                path.unlink(missing_ok=True)
        yield


def image_path(folder: Path, pair: SourceSet, method: str) -> Path:
    """Return where the fused image of a pair is written, or was."""
    stem = folder / "images" / pair.kind / f"{pair.name}_{method}"
    tiff = stem.with_name(stem.name + ".tif")
    return tiff if tiff.exists() else stem.with_name(stem.name + ".png")


def _choose_methods(methods: Sequence[str] | None) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    if methods is None:
        missing = {name: method.missing for name, method in METHODS.items() if method.missing}
        return [name for name in METHODS if name not in missing], missing
    for name in methods:
        if name not in METHODS:
            raise ValueError(f"methods: {name!r} is not known; expected some of {', '.join(METHODS)}")
        if METHODS[name].missing:
            raise ModuleNotFoundError(
                f"method {name!r} needs {', '.join(METHODS[name].missing)}; pip install 'nmfuse[compare]'"
            )
    return list(dict.fromkeys(methods)), {}


def _measure(
    pairs: list[SourceSet],
    settings: Mapping[str, Mapping[str, Any]],
    metrics: list[str],
    folder: Path,
    workers: int,
    progress: Progress | None,
) -> tuple[dict[tuple[str, str], dict[str, float]], dict[tuple[str, str], str]]:
    sums = {pair.label: _checksum(pair) for pair in pairs}

    def signature(pair: SourceSet, method: str) -> str:
        made_of = {"nmfuse": __version__, "params": settings[method], "sources": sums[pair.label]}
        return json.dumps(made_of, sort_keys=True, default=str)

    table = _Rows(folder / "metrics.csv", (*_KEY, *METRICS))
    jobs: list[tuple[Any, ...]] = []
    done = {}
    for pair in pairs:
        for method in settings:
            row = table.find(pair.kind, pair.name, method, signature(pair, method))
            failed = row is not None and row["error"] and not row["error"].startswith(_PASSING)
            whole = row is not None and not row["error"] and all(row[metric] for metric in metrics)
            if row is not None and (failed or (whole and image_path(folder, pair, method).is_file())):
                done[pair.label, method] = row
            else:
                jobs.append((pair, method, dict(settings[method]), folder, metrics))
    in_all = len(pairs) * len(settings)
    for (pair, method, *_), found in run_each(_work, jobs, workers=workers):
        row = {"error": f"RuntimeError: {found}"} if isinstance(found, Exception) else found
        head = dict(zip(_KEY, (pair.kind, pair.name, method, signature(pair, method)), strict=False))
        done[pair.label, method] = table.append({**head, **row})
        if progress is not None:
            progress(len(done), in_all, f"{pair.label}, {method}")
    values, errors = {}, {}
    for pair in pairs:
        for method in settings:
            row = done[pair.label, method]
            if row["error"]:
                errors[pair.label, method] = row["error"]
            else:
                values[pair.label, method] = {metric: float(row[metric]) for metric in metrics}
    return values, errors


def _work(pair: SourceSet, method: str, params: dict[str, Any], folder: Path, metrics: list[str]) -> dict[str, Any]:
    """Fuse, write and measure one pair, in a process of its own; return the row's values."""
    path = image_path(folder, pair, method)
    path.unlink(missing_ok=True)
    try:
        sources = pair.images()
        refuse_volumes(sources)
        fused = fuse(*sources, method=method, **params)
        fits = fused.dtype == "uint8" or (fused.dtype == "uint16" and fused.ndim == 2)
        path = path.with_suffix(".png" if fits else ".tif")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, fused)
        return {"error": "", **measure(fused, sources, metrics)}
    except Exception as error:  # one method's failure on one pair must not end the others
        return {"error": f"{type(error).__name__}: {error}"}


def refuse_volumes(sources: Iterable[Image]) -> None:
    """Refuse volumes, whose results and pictures no table of a comparison is made for."""
    for source in sources:
        if source.spatial == 3:
            raise ValueError(
                f"{source.name}: is a volume, and comparisons are of images; take slices, or measure each method by "
                "nmfuse evaluate --method NAME"
            )


def _time(
    pairs: list[SourceSet], settings: Mapping[str, Mapping[str, Any]], folder: Path, progress: Progress | None
) -> dict[tuple[str, str], tuple[float, str]]:
    table = _Rows(folder / "times.csv", _TIMES)
    firsts = {pair.kind: pair for pair in reversed(pairs)}
    seconds: dict[tuple[str, str], tuple[float, str]] = {}
    for kind, pair in sorted(firsts.items()):
        sources = pair.luminances()
        for method, params in settings.items():
            signature = json.dumps({"nmfuse": __version__, "params": params}, sort_keys=True, default=str)
            row = table.find(kind, pair.name, method, signature)
            if row is None or row["threads"] != str(num_threads()):
                try:
                    taken = _median_seconds(lambda x=sources, m=method, p=params: fuse(*x, method=m, **p))  # type: ignore[misc]
                except Exception:  # said among the errors already
                    continue
                size = f"{sources[0].shape[0]} x {sources[0].shape[1]}"
                values = (kind, pair.name, method, signature, size, num_threads(), f"{taken:.6f}")
                row = table.append(dict(zip(_TIMES, values, strict=True)))
            seconds[kind, method] = float(row["seconds"]), row["size"]
            if progress is not None:
                progress(len(seconds), len(firsts) * len(settings), f"time of {kind}, {method}")
    return seconds


def _median_seconds(run: Callable[[], object]) -> float:
    run()  # weights are loaded, memory is touched
    taken = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return median(taken)


class _Rows:
    """A CSV file that grows by whole lines; what a kill tore or an older version wrote is dropped when it is read."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, columns
        self.rows: dict[tuple[str, str, str], dict[str, str]] = {}
        if path.exists():
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    if set(row) == set(columns) and None not in row.values():
                        self.rows[row["kind"], row["pair"], row["method"]] = row
        with new_file(path, overwrite=True) as temporary, temporary.open("w", newline="") as file:
            out = csv.DictWriter(file, columns, lineterminator="\n")
            out.writeheader()
            out.writerows(self.rows.values())

    def find(self, kind: str, pair: str, method: str, settings: str) -> dict[str, str] | None:
        row = self.rows.get((kind, pair, method))
        return row if row is not None and row["settings"] == settings else None

    def append(self, values: Mapping[str, Any]) -> dict[str, str]:
        row = {column: str(values.get(column, "")) for column in self.columns}
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)
        self.rows[row["kind"], row["pair"], row["method"]] = row
        return row


def _checksum(pair: SourceSet) -> str:
    """Return what changes with the files of a pair; one that cannot be read is for the methods to say."""
    sums = []
    for path in pair.paths:
        file, page = split_page(path)
        try:
            sums.append(f"{zlib.crc32(file.read_bytes()):08x}" + ("" if page is None else f"[{page}]"))
        except OSError:
            sums.append("unreadable")
    return "-".join(sums)
