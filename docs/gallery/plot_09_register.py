"""
Register, then fuse
===================

The picture of a thermal camera is turned, enlarged and shifted. `nmfuse.align.register` finds the transform by the
edges that both pictures have in common.
"""

import matplotlib.pyplot as plt
import numpy as np

import nmfuse
from nmfuse.align import check, register
from nmfuse.data import street_scene

visible = nmfuse.Image(street_scene(300, 400).photograph(), name="visible")
beside = street_scene(300, 400, zoom=1.03, turn=1.5, shift=(5, -7))
heat = np.rint(255 * np.clip(beside.temperature, 0, 40) / 40).astype(np.uint8)
thermal = nmfuse.Image(heat, name="thermal")
registered = register(thermal, visible).apply(thermal, visible)

figure, axes = plt.subplots(1, 2, figsize=(11, 4.3), layout="constrained")
for ax, image in zip(axes, (thermal, registered), strict=True):
    ax.imshow(nmfuse.fuse(visible, image).pixels[120:240, 180:380])
    ax.set_title(str(check(image, visible)))
    ax.axis("off")
