"""Fuzz the readers by atheris, each for some seconds: ``python -m tests.fuzz --seconds 60 .png .tif``.

Needs ``pip install atheris``. Inputs that crash, hang, take too much memory or break `tests.fuzz.check` are kept in a
folder, with what went wrong; the exit code is 1 where there are any.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import time
from pathlib import Path

MOST_MB = 900  # of the process, which has some 300 before it reads anything
SLOWEST = 10  # seconds for a file of some kB


def main() -> int:
    """Fuzz each format in processes of its own, which are started again after a crash; print what was found."""
    from tests.fuzz.seeds import FORMATS, seeds

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("formats", nargs="*", default=FORMATS)
    parser.add_argument("--seconds", type=float, default=60, help="for each format")
    parser.add_argument("--found", type=Path, default=Path("fuzz_found"), help="folder for bad inputs, and the corpora")
    asked = parser.parse_args()
    bad = 0
    for suffix in asked.formats:
        corpus, found = asked.found / "corpus" / suffix, asked.found / f"bad{suffix}"
        for folder in (corpus, found):
            folder.mkdir(parents=True, exist_ok=True)
        for data in seeds(suffix):
            (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)
        end, runs = time.monotonic() + asked.seconds, 0
        while (left := end - time.monotonic()) > 2:
            options = (
                f"-max_total_time={int(left)}", f"-timeout={SLOWEST}", f"-rss_limit_mb={MOST_MB}", "-max_len=65536",
                f"-artifact_prefix={found}/", "-verbosity=0", "-print_final_stats=1",
            )  # fmt: skip
            command = [sys.executable, "-m", "tests.fuzz.one", suffix, str(found), str(corpus), *options]
            done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
            stats = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
            runs += int(stats[0].split()[-1]) if stats else 0
            if done.returncode and left > 10:
                (found / f"log-{time.time_ns()}.txt").write_text(done.stderr[-20000:])
        here = [path for path in found.iterdir() if not path.name.endswith(".txt")]
        bad += len(here)
        print(f"{suffix}: {runs} files read, {len(here)} bad ones in {found}", flush=True)
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
