"""What the compiler makes of the CUDA kernels, without a GPU, as a Markdown table: python benchmarks/ptxas.py [sm_90]

Of all variants of a kernel (dtypes, sizes): the fewest and the most registers; how many variants spill some to memory,
and the most bytes of that; shared memory that is known at compile time; and how many of the 2048 threads of a
multiprocessor the registers leave room for. It needs nvcc and c++filt, and takes about a minute.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from nmfuse.io.tables import markdown

SOURCES = Path(__file__).parents[1] / "csrc"
REGISTERS, THREADS, WARP = 65536, 2048, 32  # of a multiprocessor; registers come in units of 8 for a thread
ENTRY = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?"
    r"Used (\d+) registers(.*?)\n",
    re.DOTALL,
)


def compiled(source: Path, architecture: str) -> list[tuple[str, int, int, int]]:
    """Return of each kernel of a file its name, registers, spilled bytes and bytes of shared memory."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["nvcc", "-std=c++17", "-O3", f"-arch={architecture}", "--expt-relaxed-constexpr", f"-I{SOURCES}"]
        command += ["-Xptxas", "-v", "-c", source, "-o", Path(folder) / "x.o"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    found = ENTRY.findall(said)
    names = subprocess.run(
        ["c++filt"], input="\n".join(x[0] for x in found), check=True, capture_output=True, text=True
    )
    result = []
    for name, (_, stores, loads, registers, rest) in zip(names.stdout.splitlines(), found, strict=True):
        shared = re.search(r"(\d+) bytes smem", rest)
        plain = re.search(r"(\w+)(?:<.*>)?\(", name.replace("(anonymous namespace)::", ""))
        assert plain is not None
        result.append((plain[1], int(registers), int(stores) + int(loads), int(shared[1]) if shared else 0))
    return result


def main(architecture: str = "sm_90") -> None:
    """Print the table."""
    rows = []
    for source in sorted((SOURCES / "cuda").glob("*.cu")):
        kernels = defaultdict(list)
        for name, *used in compiled(source, architecture):
            kernels[name].append(used)
        for name, variants in sorted(kernels.items()):
            registers, spilled, shared = zip(*variants, strict=True)
            few, many = min(registers), max(registers)
            threads = min(THREADS, REGISTERS // (-(-many // 8) * 8 * WARP) * WARP)
            spilling = sum(x > 0 for x in spilled)
            used = str(many) if few == many else f"{few} to {many}"
            row = [source.name, name, len(variants), used, spilling, max(spilled), max(shared)]
            rows.append([*map(str, row), f"{100 * threads // THREADS} %"])
    headers = ["file", "kernel", "variants", "registers", "that spill", "bytes", "shared memory", "threads"]
    print(markdown(headers, rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
