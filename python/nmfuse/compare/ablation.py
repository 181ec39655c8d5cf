"""What each part of the pipeline is worth: its variants, one step changed at a time, over a folder of pairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from nmfuse.compare.run import refuse_volumes
from nmfuse.fuser import Fuser
from nmfuse.io import SourceSet, find_sets, new_file
from nmfuse.io.tables import markdown
from nmfuse.kernels import num_threads
from nmfuse.metrics import METRICS, RANKING, mean_and_deviation, mean_ranks, measure

VARIANTS: dict[str, Fuser] = {
    "learned": Fuser(),
    "learned, rounded to the nearest": Fuser(rounding="nearest"),
    "learned, denoised sources fused": Fuser(denoise="all"),
    "learned, sharpened after": Fuser(sharpen=0.5),
    "learned, smoothed after": Fuser(smooth=True),
    "paper's structure (no fine-tuning)": Fuser("paper"),
    "without hannmean": Fuser("paper", denoise="off"),
    "hannmean without background and outliers": Fuser("paper", background=True, outliers=3.0),
    "denoised sources fused": Fuser("paper", denoise="all"),
    "denoised without background and outliers, fused": Fuser("paper", denoise="all", background=True, outliers=3.0),
    "without the CNN map (NMF alone)": Fuser("paper", weighting="nmf"),
    "without both NMF (CNN alone)": Fuser("paper", weighting="cnn"),
    "without NMF 2": Fuser("paper", rank2=0),
    "without basis selection": Fuser("paper", keep=16),
    "weight 1/2": Fuser("paper", weighting="half"),
    "soft vote": Fuser("paper", vote="soft"),
    "full network": Fuser("paper", network="full"),
    "contrast pyramid": Fuser("paper", pyramid="contrast"),
    "thresholds 1 (always the larger)": Fuser("paper", t_top=1.0, t_other=1.0),
    "thresholds -1 (always weighted)": Fuser("paper", t_top=-1.0, t_other=-1.0),
    "paper's letter": Fuser("paper-letter"),
}


def ablate(
    where: Path,
    output: Path,
    *,
    networks: Mapping[str, Path] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, float]:
    """Fuse every pair by every variant of the pipeline and write the tables as Markdown.

    Parameters
    ----------
    where : path
        The pairs, as paths that `find_sets` takes. Colour images are fused and measured by their luminance.
    output : path
        The Markdown file. It has the mean rank among the variants (by the ten metrics of `RANKING`) for each kind and
        for all, all metrics, and the time of a pair.
    networks : mapping, optional
        Further networks of the learned method to be compared, such as one that was trained without NMF: for each name,
        a weight file of `nmfuse train fusion`.
    overwrite : bool
        Whether the file may be replaced.
    progress : callable, optional
        A function that is called after each fusion, with what is done, the total, and a description.

    Returns
    -------
    dict
        The mean rank of each variant over all kinds.

    Raises
    ------
    FileExistsError, FileNotFoundError, ValueError
        If the output file cannot be written, or the pairs cannot be read.
    """
    where = Path(where)
    pairs = find_sets(where)
    added = {f"learned, {name}": Fuser(weights=file) for name, file in (networks or {}).items()}
    variants = {"learned": VARIANTS["learned"], **added, **VARIANTS}
    with new_file(output, overwrite=overwrite) as temporary:
        table: dict[tuple[str, str], dict[str, float]] = {}
        for pair in pairs:
            sources = pair.luminances()
            refuse_volumes(sources)
            for name, fuser in variants.items():
                if pair is pairs[0]:
                    fuser.fuse(*sources)  # weights are loaded, memory is touched
                start = time.perf_counter()
                fused = fuser.fuse(*sources)
                seconds = time.perf_counter() - start
                table[pair.label, name] = {**measure(fused, sources), "seconds": seconds}
                if progress is not None:
                    progress(len(table), len(pairs) * len(variants), f"{pair.label}, {name}")
        given = "".join(f' --network "{name}={file.name}"' for name, file in (networks or {}).items())
        temporary.write_text(_document(where.name + given, pairs, list(variants), table))
    return _over_kinds(pairs, table)


def _over_kinds(pairs: list[SourceSet], table: Mapping[tuple[str, str], Mapping[str, float]]) -> dict[str, float]:
    """Return the mean over the kinds of each variant's mean rank."""
    each = [mean_ranks(_of(kind, pairs, table)) for kind in dict.fromkeys(pair.kind for pair in pairs)]
    return {name: float(np.mean([kind[name] for kind in each])) for name in each[0]}


def _of(
    kind: str, pairs: list[SourceSet], table: Mapping[tuple[str, str], Mapping[str, float]]
) -> dict[tuple[str, str], Mapping[str, float]]:
    labels = {pair.label for pair in pairs if pair.kind == kind}
    return {key: values for key, values in table.items() if key[0] in labels}


def _document(
    where: str, pairs: list[SourceSet], names: list[str], table: Mapping[tuple[str, str], Mapping[str, float]]
) -> str:
    kinds = list(dict.fromkeys(pair.kind for pair in pairs))
    overall = _over_kinds(pairs, table)
    by_kind = {kind: mean_ranks(_of(kind, pairs, table)) for kind in kinds}
    lines = [
        "# What each part of the pipeline is worth",
        "",
        f"    nmfuse ablate {where}",
        "",
        f"{len(pairs)} pairs of {len(kinds)} kinds. Each row changes one thing: rows that begin with *learned* change "
        "the default method, the others `method='paper'`. Rank: among these rows, per pair over the ten metrics "
        f"{', '.join(RANKING)}; lower is better.",
        "",
        f"## Mean rank, and seconds a pair ({num_threads()} threads)",
        "",
    ]
    rows = []
    for name in names:
        seconds = np.mean([table[pair.label, name]["seconds"] for pair in pairs])
        rows.append([name, f"{overall[name]:.2f}", *(f"{by_kind[kind][name]:.2f}" for kind in kinds), f"{seconds:.3f}"])
    lines.append(markdown(["variant", "all kinds", *kinds, "s"], rows))
    rest = [metric for metric in METRICS if metric not in RANKING]
    for title, metrics in (("The ten ranking metrics", list(RANKING)), ("All other metrics", rest)):
        rows = [[name, *(f"{mean_and_deviation(table, name, metric)[0]:.3f}" for metric in metrics)] for name in names]
        lines += ["", f"## {title}", "", "Means over all pairs.", "", markdown(["variant", *metrics], rows)]
    return "\n".join(lines) + "\n"
