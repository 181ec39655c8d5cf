"""
A focus stack and its depth map
===============================

Six photographs, each sharp at another distance. The depth map says which of them is the sharp one at each pixel; where
there is no texture it is arbitrary.
"""

import matplotlib.pyplot as plt
import numpy as np

import nmfuse
from nmfuse.data import street_scene
from nmfuse.images import depth_map

scene = street_scene(300, 400)
distances = 1 / np.linspace(1 / 2.5, 1 / 40, 6)
stack = [scene.photograph(focus=metres, seed=k) for k, metres in enumerate(distances)]
fused = nmfuse.fuse(stack, method="laplacian")

figure, axes = plt.subplots(1, 4, figsize=(13, 2.8), layout="constrained")
for ax, name, image in zip(
    axes, ("sharp at 2.5 m", "sharp at 40 m", "fused"), (stack[0], stack[-1], fused), strict=False
):
    ax.imshow(image)
    ax.set_title(name)
axes[3].imshow(depth_map(fused, stack), cmap="viridis")
axes[3].set_title("depth map")
for ax in axes:
    ax.axis("off")
