"""Pictures of the intermediates: one file each, and one panel of all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase

import numpy as np

from nmfuse.fuser import Explanation
from nmfuse.io import new_file, write_image

# What a step looks like: title and colour map. Weights of a source: blue is little, red is much.
_PLAIN, _WEIGHT, _HEAT, _GATE = "gray", "coolwarm", "magma", "viridis"
_EACH = {  # a map a source; of lists, that of the finest level
    "sources": ("image {}", _PLAIN),
    "denoised": ("{} after Hannmean", _PLAIN),
    "S": ("S: block scores of {}", _WEIGHT),
    "W_cnn": ("W_cnn: votes for {}, a pixel", _WEIGHT),
    "W_nmf": ("W_nmf of {}: two-stage NMF", _WEIGHT),
    "context": ("context of {}: its share of the parts", _WEIGHT),
    "gates": ("gate of {}, finest level", _GATE),
    "W": ("W: final weight of {}", _WEIGHT),
    "provenance": ("what comes from {}", _WEIGHT),
}
_COMPONENTS = 8  # of stage 1, the strongest


def write_steps(folder: Path, explanation: Explanation, *, overwrite: bool) -> None:
    """Write every map of an explanation into `folder`, and explain.png, the panel."""
    write_panel(folder / "explain.png", explanation, overwrite=overwrite)
    for name, _, values, _ in _maps(explanation):
        grey = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
        write_image(folder / f"{name}.png", grey, overwrite=overwrite)


def write_panel(path: Path, explanation: Explanation, *, overwrite: bool) -> None:
    """Write one picture with the way of the image: sources, weights, components, result."""
    from matplotlib.figure import Figure

    shown = [
        (title, values, cmap)
        for name, title, values, cmap in _maps(explanation)
        if not name.startswith("component") or int(name[-2:]) < _COMPONENTS
    ]
    columns = min((4, 5, 6), key=lambda columns: -len(shown) % columns)  # few places stay empty
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, (title, values, cmap) in zip(axes, shown, strict=False):
        axis.imshow(values, cmap=cmap, vmin=0.0, vmax=1.0)
        axis.set_title(title, fontsize=10)
    with new_file(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, dpi=100)


def _maps(explanation: Explanation) -> Iterator[tuple[str, str, np.ndarray, str]]:
    """Yield file name, title, values from 0 to 1 and colour map of everything that can be shown."""
    steps = explanation.steps
    labels = _labels(len(steps["sources"]))
    for name, (title, cmap) in _EACH.items():
        if name not in steps:
            continue
        maps = steps[name][0] if isinstance(steps[name], list) else steps[name]
        for label, values in zip(labels, maps, strict=True):
            yield f"{name}_{label}", title.format(label), values / 2 if cmap == _GATE else values, cmap  # gates: 0 to 2
    yield "luminance", "fused", steps["luminance"], _PLAIN
    yield "conflict", "where they contradict each other", 4 * steps["conflict"], _HEAT
    if "B" in steps:
        for k, component in enumerate(steps["B"]):
            shares = "/".join(f"{100 * share:.0f}" for share in steps["share"][:, k])
            kept = "" if steps["kept"][k] else ", dropped"
            title = f"component {k + 1} ({shares} % {'/'.join(labels)}{kept})"
            yield f"component_{k:02d}", title, component / max(float(component.max()), 1e-12), _HEAT
    for label, parts in zip(labels, steps.get("parts", ()), strict=False):
        for k, part in enumerate(parts):
            yield f"parts_{label}_{k:02d}", f"part {k + 1} in {label}", part / max(float(part.max()), 1e-12), _HEAT


def _labels(sources: int) -> list[str]:
    """Return A, B, C, ...; numbers where the letters do not reach."""
    return list(ascii_uppercase[:sources]) if sources <= len(ascii_uppercase) else [str(k + 1) for k in range(sources)]
