"""``nmfuse fuse`` of whole folders: many sets of images, a result for each.

A run may be killed at any moment, and started again: results are there whole or not at all, and one that is there is
left alone. Several runs may write into one folder: each set is locked while its result is made (`nmfuse.io.locks`).
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from nmfuse.cli.fusing import run_fuse
from nmfuse.cli.progress import progress_bar, say_alone
from nmfuse.fuser import Fuser
from nmfuse.io import SourceSet, check_file, find_brackets, find_sets, is_image, is_one_source, match_sets
from nmfuse.io.formats import can_be_written, is_folder, refuse_what_does_not_fit, split_page, split_suffix
from nmfuse.io.locks import LOCK_FILE, locked
from nmfuse.io.output import leftovers, remove
from nmfuse.kernels import num_threads
from nmfuse.processes import run_each

_SUFFIXES = (".png", ".tif", ".nii.gz", ".npy")  # taken where the first source's format cannot hold the result
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # no further result could be written either

FUSED, BEFORE, FAILED, BUSY = "fused", "done before", "failed", "busy"


@dataclass(frozen=True)
class Job:
    """One result to make: the set of its sources, and where it goes, to the first whose format can hold it."""

    one: SourceSet
    name: str
    outputs: tuple[Path, ...]

    @property
    def done(self) -> Path | None:
        """The result, if it is there."""
        return next((path for path in self.outputs if path.exists()), None)


@dataclass(frozen=True)
class Outcome:
    """What became of a job; `fatal`: no other can go well."""

    state: str
    output: Path | None = None
    seconds: float = 0.0
    error: str | None = None
    fatal: bool = False


@dataclass(frozen=True)
class Work:
    """What is done with each job, in this process or in others."""

    fuser: Fuser
    folder: Path
    overwrite: bool
    windows: Callable[[int], Any]
    options: dict[str, Any]
    left: dict[str, list[Path]]  # by killed runs, by the name of the result

    def __call__(self, job: Job, wait: bool) -> Outcome:
        """Make a result that no other run is making, or, with `wait`, after it."""
        start = time.perf_counter()
        try:
            with locked(self.folder, job.name, wait=wait) as held:
                if not held:
                    return Outcome(BUSY)
                for path in (path for output in job.outputs for path in self.left.get(str(output), ())):
                    remove(path)
                if job.done and not self.overwrite:
                    return Outcome(BEFORE, job.done)
                first, *instead = job.outputs
                paths = list(job.one.paths)
                window, options = self.windows(len(paths)), self.options
                output = run_fuse(
                    self.fuser, paths, first, instead=instead, overwrite=self.overwrite, window=window, **options
                )
                return Outcome(FUSED, output, time.perf_counter() - start)
        except Exception as error:  # of one set, which must not end the others
            text = " ".join(str(error).split()) or type(error).__name__
            fatal = isinstance(error, OSError) and error.errno in _NO_SPACE
            return Outcome(FAILED, None, time.perf_counter() - start, text, fatal)


def is_of_folders(sources: Sequence[Path]) -> bool:
    """Return whether the images of a command are whole folders of them."""
    found = [path.is_dir() and not is_one_source(path) for path in sources]
    if any(found) and not all(found):
        file, folder = sources[found.index(False)], sources[found.index(True)]
        raise ValueError(f"{folder}: is a folder, and {file} is none; give folders, or the images of one result")
    return any(found)


def run_folders(
    fuser: Fuser,
    sources: list[Path],
    folder: Path,
    *,
    patterns: Sequence[str],
    groups: Path | None,
    by_exif: bool,
    gap: float,
    suffix: str | None,
    jobs: int,
    dry_run: bool,
    log: Path | None,
    overwrite: bool,
    windows: Callable[[int], Any],
    **options: Any,
) -> None:
    """Fuse every set into a folder; say what has no partner, what failed, and how many there are of each."""
    windows(2)  # a mistake in them is one of every set
    if is_folder(folder) or (not folder.is_dir() and (folder.exists() or is_image(folder))):
        raise ValueError(f"{folder}: is no folder; of whole folders the results go to one (made if missing)")
    sets, alone = _find(sources, patterns, groups, by_exif=by_exif, gap=gap)
    todo = _jobs(sets, folder, suffix)
    done = {} if overwrite else {job: path for job in todo if (path := job.done) is not None}
    if dry_run:
        say_alone(alone, len(alone))
        for job in todo:
            state = f"  ({BEFORE})" if job in done else ""
            print(f"{done.get(job, job.outputs[0])}  <-  {'  '.join(map(str, job.one.paths))}{state}")
        there = "1 set" if len(todo) == 1 else f"{len(todo)} sets"
        print(f"{there}, {len(done)} {BEFORE}, {len(alone)} images without a partner; nothing was written")
        return
    say_alone(alone)
    left: dict[str, list[Path]] = {}
    for place in dict.fromkeys([folder, *(job.outputs[0].parent for job in todo)]):
        place.mkdir(parents=True, exist_ok=True)
        check_file(place / LOCK_FILE, overwrite=True)
        left |= {str(place / name): paths for name, paths in leftovers(place).items()}
    if log is not None:
        check_file(log, overwrite=True, sources=[path for one in sets for path in one.paths])
    work = Work(fuser, folder, overwrite, windows, options, left)
    counts = dict.fromkeys((FUSED, BEFORE, FAILED), 0)
    waiting = [job for job in todo if job not in done or any(str(path) in left for path in job.outputs)]
    for job in waiting:
        done.pop(job, None)
    with progress_bar("fuse") as progress, _log(log) as note:
        for job, path in done.items():
            note(job, Outcome(BEFORE, path))
        for number, (job, outcome) in enumerate(_each(work, waiting, jobs), 1):
            counts[outcome.state] += 1
            note(job, outcome)
            if outcome.error is not None:
                print(f"failed: {job.name}: {outcome.error}", file=sys.stderr)
            progress(number, len(waiting), job.name)
            if outcome.fatal:
                break
    counts[BEFORE] += len(done)
    missing = len(todo) - counts[FUSED] - counts[BEFORE]
    table = Table("sets", "number")
    counts |= {"not begun": missing - counts[FAILED], "images without a partner": len(alone)}
    for state, number in counts.items():
        table.add_row(state, str(number))
    Console().print(table)
    print(folder)
    if missing:
        raise RuntimeError(f"{missing} of {len(todo)} sets have no result; the same command tries these again")


def _find(
    sources: Sequence[Path], patterns: Sequence[str], groups: Path | None, *, by_exif: bool, gap: float
) -> tuple[list[SourceSet], dict[Path, str]]:
    if groups is not None:
        return find_sets(groups), {}
    if by_exif:
        return find_brackets(sources[0], gap=gap)
    if patterns or len(sources) > 1:
        return match_sets(sources, patterns)
    return find_sets(sources), {}


def _jobs(sets: Sequence[SourceSet], folder: Path, suffix: str | None) -> list[Job]:
    """Return the jobs: results are named after the sets, in a folder for each kind where there are several."""
    if suffix is not None:
        refuse_what_does_not_fit(f"x{suffix}")
    several = len({one.kind for one in sets}) > 1
    jobs: dict[str, Job] = {}
    for one in sets:
        name, first = one.label if several else one.name, one.paths[0]
        suffixes = [suffix] if suffix else dict.fromkeys([split_suffix(first)[1].lower(), *_SUFFIXES])
        if name in jobs:
            raise ValueError(f"{first}: is of {name}, and so is {jobs[name].one.paths[0]}; rename one of them")
        jobs[name] = Job(one, name, tuple(folder / f"{name}{own}" for own in suffixes if can_be_written(own)))
    read = {place.resolve() for place in {split_page(path)[0].parent for one in sets for path in one.paths}}
    for place in {job.outputs[0].parent for job in jobs.values()}:
        if place.resolve() in read:
            raise ValueError(f"{place}: is a folder of the sources; give another one for the results")
    return list(jobs.values())


def _each(work: Work, todo: list[Job], jobs: int) -> Iterator[tuple[Job, Outcome]]:
    """Do every job, and yield it with what became of it; those that other runs are making come last."""
    for wait in (False, True):
        busy, tasks = [], [(job, wait) for job in todo]
        ended: Iterator[tuple[Any, Any]] = ((task, work(*task)) for task in tasks)
        if min(jobs, len(tasks)) > 1:
            ended = run_each(work, tasks, workers=jobs, threads=max(1, num_threads() // jobs))
        for (job, _), outcome in ended:
            if isinstance(outcome, Exception):
                outcome = Outcome(FAILED, error=str(outcome))
            if outcome.state == BUSY:
                busy.append(job)
            else:
                yield job, outcome
        todo = busy


@contextmanager
def _log(path: Path | None) -> Iterator[Callable[[Job, Outcome], None]]:
    """Give a function that appends a line of JSON on a job, at once and whole: several runs may share a file."""
    with (path or Path(os.devnull)).open("ab+", buffering=0) as file:
        if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")  # a run was killed while it wrote

        def note(job: Job, outcome: Outcome) -> None:
            said = {
                "set": job.name,
                "state": outcome.state,
                "sources": [str(source) for source in job.one.paths],
                "output": None if outcome.output is None else str(outcome.output),
                "seconds": round(outcome.seconds, 3),
                "error": outcome.error,
            }
            file.write(f"{json.dumps(said)}\n".encode())

        yield note
