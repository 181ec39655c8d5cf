"""Pictures of the intermediates: one file each, and one panel of all."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nmfuse.fusion import Explanation
from nmfuse.io.files import new_file, write_image

# What a step looks like: title and colour map. Weights of image A: blue is B's, red is A's.
_PLAIN, _WEIGHT, _HEAT, _GATE = "gray", "coolwarm", "magma", "viridis"
_MAPS = {
    "a": ("image A", _PLAIN),
    "b": ("image B", _PLAIN),
    "a_denoised": ("A after Hannmean", _PLAIN),
    "b_denoised": ("B after Hannmean", _PLAIN),
    "S": ("S: block scores", _WEIGHT),
    "W_cnn": ("W_cnn: votes per pixel", _WEIGHT),
    "W_nmf": ("W_nmf: two-stage NMF", _WEIGHT),
    "gate_a": ("gate of A, finest level", _GATE),
    "gate_b": ("gate of B, finest level", _GATE),
    "W": ("W: final weight of A", _WEIGHT),
    "luminance": ("fused", _PLAIN),
}
_COMPONENTS = 8  # of stage 1, the strongest
_PARTS = {"parts_a": "A", "parts_b": "B"}  # of the learned method's stage 2, in each image


def write_steps(folder: Path, explanation: Explanation, *, overwrite: bool) -> None:
    """Write every map of an explanation into `folder`, and explain.png, the panel."""
    write_panel(folder / "explain.png", explanation, overwrite=overwrite)
    for name in _MAPS:
        if name in explanation.steps:
            grey = np.rint(255 * np.clip(_shown(explanation, name), 0, 1)).astype(np.uint8)
            write_image(folder / f"{name}.png", grey, overwrite=overwrite)
    maps = {"component": explanation.steps.get("B", ())}
    maps |= {name: explanation.steps.get(name, ()) for name in _PARTS}
    for name, components in maps.items():
        for k, component in enumerate(components):
            grey = np.rint(255 * component / max(float(component.max()), 1e-12)).astype(np.uint8)
            write_image(folder / f"{name}_{k:02d}.png", grey, overwrite=overwrite)


def _shown(explanation: Explanation, name: str) -> np.ndarray:
    """Return a step as a picture: of gates, the finest level, whose greatest is 2."""
    value = explanation[name]
    return np.asarray(value[0] / 2 if isinstance(value, list) else value)


def write_panel(path: Path, explanation: Explanation, *, overwrite: bool) -> None:
    """Write one picture with the way of the image: sources, weights, components, result."""
    from matplotlib.figure import Figure

    steps = explanation.steps
    shown = [(title, _shown(explanation, name), cmap) for name, (title, cmap) in _MAPS.items() if name in steps]
    if "B" in explanation.steps:
        for k in range(min(_COMPONENTS, len(explanation["B"]))):
            share = f"{100 * explanation['share'][k]:.0f} % A"
            kept = "" if explanation["kept"][k] else ", dropped"
            shown.append((f"component {k + 1} ({share}{kept})", explanation["B"][k], _HEAT))
    for name, image in _PARTS.items():
        shown += [(f"part {k + 1} in {image}", part, _HEAT) for k, part in enumerate(steps.get(name, ()))]
    columns = min((4, 5, 6), key=lambda columns: -len(shown) % columns)  # few places stay empty
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, (title, values, cmap) in zip(axes, shown, strict=False):
        high = float(values.max()) if cmap == _HEAT else 1.0
        axis.imshow(values, cmap=cmap, vmin=0.0, vmax=max(high, 1e-12))
        axis.set_title(title, fontsize=10)
    with new_file(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, dpi=100)
