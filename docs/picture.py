"""Draw the picture of the README, four uses of nmfuse on scenes of our own: `python docs/picture.py`."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import nmfuse
from nmfuse.data import brain_phantom, street_scene
from nmfuse.io import new_file

ORANGE, BLUE = np.array([0.95, 0.6, 0.15]), np.array([0.2, 0.5, 0.95])  # the first source, the second


def main() -> None:
    """Draw a row for each use: two sources, what is fused of them, and where each pixel of it comes from."""
    head, street = brain_phantom(), street_scene(256, 256)
    uses = (
        ("MRI", head.t2, "CT", head.ct, {}),
        ("visible", street.photograph(), "thermal", street.temperature, {"window": [None, (0, 40)]}),
        ("sharp in front", street.photograph(focus=2.5), "sharp behind", street.photograph(focus=40, seed=1), {}),
        (
            "short exposure",
            street.photograph(exposure=0.5),
            "long exposure",
            street.photograph(exposure=16, seed=1),
            {},
        ),
    )
    figure, axes = plt.subplots(4, 4, figsize=(7.2, 7.6), layout="constrained")
    for row, (name_a, a, name_b, b, options) in zip(axes, uses, strict=True):
        method = "laplacian" if name_a.startswith("sharp") else "learned"  # the better one for focus
        found = nmfuse.Fuser(method).explain(a, b, **options)
        shares = found["provenance"][..., None]
        colours = shares[0] * ORANGE + shares[1] * BLUE
        for ax, title, image in zip(
            row, (name_a, name_b, "fused", "where it comes from"), (a, b, found.fused, colours), strict=True
        ):
            ax.imshow(image, cmap="gray")
            ax.set_title(title, fontsize=9)
            ax.axis("off")
        row[0].title.set_color(0.8 * ORANGE)
        row[1].title.set_color(BLUE)
    with new_file(Path(__file__).parent / "images" / "uses.jpg", overwrite=True) as path:
        figure.savefig(path, dpi=100, pil_kwargs={"quality": 82})


if __name__ == "__main__":
    main()
