"""
Thermal and visible
===================

The person stands in a dark passage. The thermal picture is in degrees, the photograph in grey levels: each source has
its own window.
"""

import matplotlib.pyplot as plt

import nmfuse
from nmfuse.data import street_scene

scene = street_scene(300, 400)
visible, thermal = scene.photograph(), scene.temperature
fused = nmfuse.fuse(visible, thermal, window=[None, (0, 40)])

figure, axes = plt.subplots(1, 3, figsize=(12, 3.3), layout="constrained")
axes[0].imshow(visible)
axes[1].imshow(thermal, cmap="gray", vmin=0, vmax=40)
axes[2].imshow(fused)
for ax, name in zip(axes, ("visible", "thermal, 0 to 40 °C", "fused"), strict=True):
    ax.set_title(name)
    ax.axis("off")
