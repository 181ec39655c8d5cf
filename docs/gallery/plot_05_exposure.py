"""
Exposure brackets
=================

Five exposures, two stops apart. No single one shows the sky and the crates in the passage.
"""

import matplotlib.pyplot as plt

import nmfuse
from nmfuse.data import street_scene

scene = street_scene(300, 400)
brackets = [scene.photograph(exposure=0.25 * 4**k, seed=k) for k in range(5)]
fused = nmfuse.fuse(brackets)

figure, axes = plt.subplots(2, 3, figsize=(11, 5.8), layout="constrained")
names = [*(f"exposure {4**k / 1000:.3g} s" for k in range(5)), "fused"]
for ax, name, image in zip(axes.flat, names, [*brackets, fused], strict=True):
    ax.imshow(image)
    ax.set_title(name)
    ax.axis("off")
