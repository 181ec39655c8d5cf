"""The SIMT runner catches broken CUDA kernels: each mutation of a copy of a kernel makes its native test fail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "-std=c++17", "-O0", "-g0", "-fsanitize=address", "-DNMFUSE_SIMT", "-Wno-unknown-pragmas",
    f"-I{ROOT / 'csrc' / 'simt'}", f"-I{ROOT / 'csrc'}",
]  # fmt: skip
PARTS = {
    "runner": "csrc/simt/runner.cpp",
    "fiber": "csrc/simt/fiber.cpp",
}
KERNELS = ("blocks", "hannmean", "information", "nmf")
PARTS |= {f"test_{kernel}": f"tests/native/test_{kernel}.cpp" for kernel in KERNELS}


@dataclass(frozen=True)
class Mutation:
    """What stands in csrc/cuda/<kernel>.cu (once), what it becomes, and what must be reported (a pattern)."""

    kernel: str
    old: str
    new: str
    caught: str


RACE = r"race: |before it was written"
OUTSIDE = r"AddressSanitizer: heap-buffer-overflow|AddressSanitizer: SEGV|wrote between the rows"
WRONG = r"FAILED: "
MUTATIONS = {
    "hannmean: no barrier before the horizontal sums": Mutation(
        "hannmean",
        "    __syncthreads();\n\n    const bool owns",
        "\n    const bool owns",
        RACE,
    ),
    "hannmean: no barrier before the next tile": Mutation(
        "hannmean",
        "      }\n    }\n    __syncthreads();\n  }\n}\n\ntemplate <job kJob, int kSize, class T>\nvoid launch_smooth",
        "      }\n    }\n  }\n}\n\ntemplate <job kJob, int kSize, class T>\nvoid launch_smooth",
        RACE,
    ),
    "hannmean: a barrier in a branch": Mutation(
        "hannmean",
        "    __syncthreads();\n\n    const bool owns",
        "    if (y < rows) __syncthreads();\n\n    const bool owns",
        r"divergent barrier.*block \(\d+,\d+,\d+\)|block \(\d+,\d+,\d+\).*divergent barrier",
    ),
    "hannmean: a tap too far": Mutation("hannmean", "const int tap = j - r;", "const int tap = j - r + 1;", WRONG),
    "hannmean: rows beyond the image": Mutation("hannmean", "&& owns && y + r < rows;", "&& owns;", OUTSIDE),
    "hannmean: the last column is not written": Mutation(
        "hannmean", "if (e < count) out[e] = pixels.v[e];", "if (e + 1 < count) out[e] = pixels.v[e];", WRONG
    ),
    "hannmean: planes beyond the volume": Mutation(
        "hannmean",
        "volume + reflect(z + k - args.window.size / 2, args.depth)",
        "volume + z + k - args.window.size / 2",
        f"{OUTSIDE}|{WRONG}",
    ),
    "hannmean: the taps of another plane": Mutation(
        "hannmean", "args.window.taps[k] * one_value[e]", "args.window.taps[k ^ 1] * one_value[e]", WRONG
    ),
    "hannmean: outliers among the next volume's planes": Mutation(
        "hannmean", "volume + reflect(k, args.depth), reflect(i", "volume + k, reflect(i", f"{OUTSIDE}|{WRONG}"
    ),
    "hannmean: outliers beyond the image": Mutation(
        "hannmean", "if (y >= args.x.rows || c >= args.x.cols ||", "if (y >= args.x.rows ||", f"{OUTSIDE}|{WRONG}"
    ),
    "blocks: no barrier before the horizontal sums": Mutation(
        "blocks", "      __syncthreads();\n      if (group < args.cell_cols)", "      if (group < args.cell_cols)", RACE
    ),
    "blocks: no barrier before the pixels": Mutation(
        "blocks", "    __syncthreads();\n\n    for (int r = static_cast<int>(threadIdx.y)",
        "\n    for (int r = static_cast<int>(threadIdx.y)", RACE,
    ),
    "blocks: the count of another row": Mutation(
        "blocks", "args.down.scores_of(top + line + r)", "args.down.scores_of(top + line + r + 1)", WRONG
    ),
    "blocks: rows beyond the image": Mutation(
        "blocks", "r < args.pixel_rows && y0 + r < args.out.rows;", "r < args.pixel_rows;", OUTSIDE
    ),
    "blocks: the count of other planes": Mutation(
        "blocks", "sum / static_cast<T>(planes.count())", "sum / static_cast<T>(planes.count() + 1)", WRONG
    ),
    "blocks: planes of another volume": Mutation(
        "blocks", "args.from.row(volume + j, at.row)", "args.from.row(j, at.row)", WRONG
    ),
    "blocks: planes without blocks are left": Mutation(
        "blocks", "args.axis.locate(at.batch % args.axis.pixels, 0) >= 0) continue;", "true) continue;", WRONG
    ),
    "blocks: the depth is gathered from the next plane": Mutation(
        "blocks", "args.from.row(volume + p, at.row)", "args.from.row(volume + p + 1, at.row)", f"{OUTSIDE}|{WRONG}"
    ),
    "information: one pass of the grid": Mutation(
        "information", "for (int64_t i = first; i < count;", "for (int64_t i = first; i < count && i == first;", WRONG
    ),
    "information: windows beyond the image": Mutation("information", "i < count; i +=", "i < count + 3; i +=", OUTSIDE),
    "information: equal windows are not told": Mutation("information", "equal ? 1 : 0;", "0;", WRONG),
    "nmf: H is overwritten while it is read": Mutation("nmf", "    __syncthreads();  // all have read H\n", "", RACE),
    "nmf: no barrier before the products": Mutation(
        "nmf", "column, place, p.panel_rows);\n      __syncthreads();", "column, place, p.panel_rows);", RACE,
    ),
    "nmf: no grid barrier between H and W": Mutation(
        "nmf", "    if (!p.update_W) continue;\n    grid.sync();", "    if (!p.update_W) continue;", WRONG
    ),
    "nmf: no grid barrier between the sums and W": Mutation(
        "nmf", "    grid.sync();\n    process_row_items", "    process_row_items", WRONG
    ),
    "nmf: no barrier before the shared sums": Mutation(
        "nmf", "  if (p.splits == 1) return;\n  __syncthreads();", "  if (p.splits == 1) return;", RACE
    ),
    "nmf: sums of another component": Mutation(
        "nmf", "= before[y][k] + sum[y][k];", "= before[y][k] + sum[y][k ^ 1];", WRONG
    ),
    "nmf: sums of a chunk left out": Mutation(
        "nmf", "for (int w = 0; w < kWarps; ++w) total +=", "for (int w = 0; w < kWarps - 1; ++w) total +=", WRONG
    ),
    "nmf: columns beyond V": Mutation(
        "nmf", "first + i < X.rows && mine + c < X.cols;", "first + i < X.rows;", OUTSIDE
    ),
    "nmf: rows of W are descended before the sums of H are there": Mutation(
        "nmf", "      __syncthreads();  // gram is there\n", "", RACE
    ),
    "nmf: what has no weight counts": Mutation(
        "nmf", "v.v[c] = weight > T(0) ? weight *", "v.v[c] = true ? weight *", WRONG
    ),
    "nmf: a component beyond W": Mutation(
        "nmf", "first + i < p.W.rows && k < p.rank;", "first + i < p.W.rows;", f"{OUTSIDE}|{WRONG}"
    ),
}  # fmt: skip


def mutated(name: str) -> str:
    m = MUTATIONS[name]
    source = (ROOT / "csrc" / "cuda" / f"{m.kernel}.cu").read_text()
    assert source.count(m.old) == 1, f"{name}: the text to change stands {source.count(m.old)} times in {m.kernel}.cu"
    return source.replace(m.old, m.new)


def compile_object(source: Path, target: Path) -> None:
    command = ["g++", *FLAGS, "-x", "c++", "-c", source, "-o", target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the runner, the native tests, the kernels as they are and all mutations, on both cores."""
    if shutil.which("g++") is None:
        pytest.fail("g++ is not there: the mutations cannot be compiled")
    folder = tmp_path_factory.mktemp("objects")
    sources = {name: ROOT / path for name, path in PARTS.items()}
    sources |= {kernel: ROOT / "csrc" / "cuda" / f"{kernel}.cu" for kernel in KERNELS}
    for number, name in enumerate(MUTATIONS):
        sources[f"mutation{number}"] = folder / f"mutation{number}.cu"
        sources[f"mutation{number}"].write_text(mutated(name))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda item: compile_object(item[1], folder / f"{item[0]}.o"), sources.items()))
    return folder


def run(objects: Path, kernel: str, changed: str) -> subprocess.CompletedProcess[str]:
    """Link the native test of a kernel with `changed` in its place, and run it."""
    program = objects / f"run_{changed}"
    files = [objects / f"{part}.o" for part in (changed, f"test_{kernel}", "runner", "fiber")]
    subprocess.run(["g++", "-fsanitize=address", *files, "-o", program, "-lpthread"], check=True)
    return subprocess.run([program, "quick"], capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_kernels_as_they_are_pass(objects: Path, kernel: str) -> None:
    done = run(objects, kernel, kernel)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_caught(objects: Path, name: str) -> None:
    done = run(objects, MUTATIONS[name].kernel, f"mutation{list(MUTATIONS).index(name)}")
    assert done.returncode != 0
    assert re.search(MUTATIONS[name].caught, done.stdout + done.stderr), (done.stdout + done.stderr)[-2000:]
