"""Rebuild the tables of docs/ that judge the method, each in a file of its own.

    python evaluation/all.py PAIRS VOLUMES PHOTOS -o OUT [--rivals evaluation/rivals.csv]

PAIRS, VOLUMES and PHOTOS are what evaluation/README.md says of them; for other pairs, --rivals names a file of what
other methods reach on them. A table that OUT holds already is left alone, so that a run which was ended goes on.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

from nmfuse.io import find_sets, new_file

HERE = Path(__file__).parent
RANKED = "EN,SD,SF,MI,SCD,VIF,Q_abf,SSIM,VIF_min,Q_over"
SCRIPTS = {  # the table's name, and the command that stands above it in docs/
    "signals": "seen.py PAIRS --pairs-per-kind 3 --methods learned,learned-all,laplacian,average,maximum",
    "ranks": "rank.py PAIRS evaluation/rivals.csv",
    "observer": "observer.py --methods learned,laplacian,average,maximum --heads 120",
    "uptake": "uptake.py PAIRS",
    "stacks": "stacks.py PHOTOS",
    "volumes": "flicker.py VOLUMES",
    "videos": "still.py PAIRS --methods learned,learned-all,laplacian,average --pairs 3",
    "alignment": "align.py PAIRS --volumes VOLUMES --pairs-per-kind 6",
}


def ablated(pairs: Path, table: Path) -> None:
    """Write the pairs for `nmfuse ablate` as a table: the first four of each medical kind, two of each other."""
    taken: Counter[str] = Counter()
    with new_file(table, overwrite=True) as path, path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", "name", "a", "b"])
        for one in find_sets(pairs):
            taken[one.kind] += 1
            if taken[one.kind] <= (4 if one.kind.startswith("mri_") else 2):
                writer.writerow([one.kind, one.name, *(source.resolve() for source in one.paths)])


def main() -> None:
    """Run all scripts, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pairs", "volumes", "photos"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--output", "-o", type=Path, required=True, help="folder to write to (made if missing)")
    parser.add_argument("--rivals", type=Path, default=HERE / "rivals.csv")
    args = parser.parse_args()
    for path in (args.pairs, args.volumes, args.photos, args.rivals):
        if not path.exists():
            parser.error(f"{path}: does not exist")
    args.output.mkdir(parents=True, exist_ok=True)
    given = {"PAIRS": args.pairs, "VOLUMES": args.volumes, "PHOTOS": args.photos, "evaluation/rivals.csv": args.rivals}
    for name, command in SCRIPTS.items():
        table = args.output / f"{name}.md"
        script, *words = (str(given.get(word, word)) for word in command.split())
        if table.exists():
            print(f"{table}: is there", flush=True)
            continue
        with new_file(table) as path, path.open("w") as file:
            subprocess.run([sys.executable, HERE / script, *words], stdout=file, check=True)
        print(table, flush=True)
    nmfuse = [sys.executable, "-m", "nmfuse.cli"]
    if not (args.output / "ablation.md").exists():
        ablated(args.pairs, args.output / "ablated.csv")
        subprocess.run([*nmfuse, "ablate", args.output / "ablated.csv", "-o", args.output / "ablation.md"], check=True)
    compare = ["compare", args.pairs, "-o", args.output / "compared", "--metrics", RANKED, "--workers", "1"]
    subprocess.run([*nmfuse, *compare], check=True)  # goes on by itself


if __name__ == "__main__":
    main()
