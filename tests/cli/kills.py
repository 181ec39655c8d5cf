"""Kill a command at random moments, and see that nothing is ever half-written: fuse, compare, stack or train.

Usage: python tests/cli/kills.py fuse|jobs|compare|stack|train [KILLS [SEED]]

A run is ended by SIGTERM, SIGINT or SIGKILL and started again until it is done; then the next begins in a new folder.
After each kill every file that is there under its final name has the bytes that a run without kills writes, and no
process is left. Once a folder is done, it has just what that run has, and no temporary files.
"""

from __future__ import annotations

import csv
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PAIRS = 24
SIGNALS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: None}  # and how a run ends by itself


def make_sources(folder: Path) -> None:
    from nmfuse.io import write_image

    rng = np.random.default_rng(0)
    (folder / "pairs").mkdir()
    for k in range(PAIRS):
        for letter in "AB":
            write_image(folder / "pairs" / f"{k:02d}_{letter}.png", rng.integers(0, 256, (160, 160), np.uint8))


def command(what: str, sources: Path, out: Path) -> list[str]:
    if what == "compare":
        few = sources / "few.csv"
        rows = [f"pairs/{k:02d}_A.png,pairs/{k:02d}_B.png,{k}" for k in range(6)]
        few.write_text("\n".join(["a,b,name", *rows]))
        return ["compare", str(few), "-o", str(out), "--methods", "average,maximum,pca", "--metrics", "EN,SD,Q_abf"]
    if what == "stack":
        images = [str(sources / "pairs" / f"{k:02d}_A.png") for k in range(4)]
        out.mkdir(exist_ok=True)
        results = ("-o", str(out / "sharp.png"), "--depth", str(out / "depth.png"), "--overwrite")
        return ["stack", *images, *results, "--model", "none"]
    if what == "train":
        out.mkdir(exist_ok=True)
        results = ("-o", str(out / "net.safetensors"), "--checkpoint", str(out / "net.checkpoint"), "--overwrite")
        return ["train", "focus", "--images", str(sources / "pairs"), "--steps", "120", *results]
    patterns = ("--pattern", "{name}_A", "--pattern", "{name}_B")
    jobs = ("--jobs", "2") if what == "jobs" else ()
    return ["fuse", str(sources / "pairs"), *patterns, "-o", str(out), "--method", "average", *jobs]


def start(arguments: list[str]) -> int:
    """Run the command line in a fork of this process, which has imported it already; in a process group of its own."""
    from nmfuse import cli

    child = os.fork()
    if child:
        return child
    code: int | str | None = 1
    try:
        os.setpgid(0, 0)
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        sys.argv = ["nmfuse", *arguments]
        cli.main()
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:  # before the command line had begun
        code = 130
    finally:
        os._exit(code if isinstance(code, int) else 0)


def finished(child: int) -> int | None:
    """Return the exit status of a child that has ended, negative that of a signal."""
    pid, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def left_of_group(group: int) -> list[str]:
    """Return the processes of a group that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = path.read_text().rpartition(")")
        except OSError:  # it has just ended
            continue
        state, _, its_group = fields.split()[:3]
        if int(its_group) == group and state not in "ZX":
            found.append(name)
    return found


RESULTS = {"compare": 18, "stack": 2, "train": 2}  # files; of folders one for each pair


def images(out: Path) -> dict[str, bytes]:
    found = sorted(path for suffix in ("png", "safetensors") for path in out.rglob(f"*.{suffix}"))
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in found if not path.name.startswith(".")}


def temporary(out: Path) -> list[Path]:
    return [path for path in out.rglob(".*") if path.name != ".nmfuse.lock"]


def rows(out: Path) -> list[tuple[str, ...]]:
    """Return the rows of the table of a comparison, which are whole but for the last one while it is written."""
    path = out / "metrics.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return sorted(tuple(row) for row in list(csv.reader(file))[1:])


def main(what: str, kills: int = 10, seed: int = 0) -> None:
    import nmfuse.cli.comparing
    import nmfuse.cli.folders
    import nmfuse.cli.stacking  # noqa: F401  so that they are imported once, and not by each run

    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_sources(folder)
        begun = time.perf_counter()
        wait_for(start(command(what, folder, folder / "whole")))
        lasts = time.perf_counter() - begun
        expected, table = images(folder / "whole"), rows(folder / "whole")
        assert len(expected) == RESULTS.get(what, PAIRS), sorted(expected)
        done, killed, partly = 0, dict.fromkeys(SIGNALS, 0), 0
        while sum(killed.values()) < kills:
            out, clean = folder / f"{done}", True
            while sum(killed.values()) < kills:
                missing = len(expected) - len(images(out))
                child = start(command(what, folder, out))
                code = None
                if missing and rng.random() < 2 / 3:  # while results are written
                    code = until_there_are(child, out, len(expected) - rng.randrange(missing))
                    time.sleep(rng.uniform(0, 0.01))
                else:
                    time.sleep(rng.uniform(0, lasts))
                number = rng.choice(list(SIGNALS))
                code = finished(child) if code is None else code
                if code is None:
                    os.kill(child, number)
                    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                    assert code in (0, -number, SIGNALS[number]), (number, code)
                    killed[number] += 1
                    clean &= number != signal.SIGKILL
                deadline = time.monotonic() + 60  # on a busy machine
                while (left := left_of_group(child)) and time.monotonic() < deadline:
                    time.sleep(0.02)
                assert not left, f"processes outlive the run: {left}"
                there = images(out)
                wrong = [name for name, data in there.items() if data != expected.get(name)]
                assert not wrong, f"{what}: {', '.join(wrong)} half-written after {number!r}"
                partly += 0 < len(there) < len(expected)
                assert not (clean and temporary(out)), f"left behind by {number!r}: {temporary(out)}"
                if code == 0:
                    break
            wait_for(start(command(what, folder, out)))
            assert images(out) == expected
            assert not temporary(out), temporary(out)
            assert rows(out) == table
            done += 1
    counts = ", ".join(f"{number.name} {count}" for number, count in killed.items())
    print(f"{what}: {sum(killed.values())} kills ({counts}), {partly} with some results there, {done} folders done")


def until_there_are(child: int, out: Path, count: int) -> int | None:
    """Wait until there are so many results, or the run has ended; return its exit status then."""
    while (code := finished(child)) is None and len(images(out)) < count:
        time.sleep(0.001)
    return code


def wait_for(child: int) -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
