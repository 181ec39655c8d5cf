"""
A volume
========

Volumes are fused along three axes: T1 and PET of a head, from above, from the front and from the side.
"""

import matplotlib.pyplot as plt

import nmfuse
from nmfuse.data import brain_phantom

phantom = brain_phantom(128, depth=48)
fused = nmfuse.fuse(phantom.t1, phantom.pet, spatial=3)

figure, axes = plt.subplots(3, 3, figsize=(8, 6), layout="constrained")
for row, name, volume in zip(axes, ("T1", "PET", "fused"), (phantom.t1, phantom.pet, fused), strict=True):
    for ax, plane in zip(row, (volume[24], volume[::-1, 64], volume[::-1, :, 64]), strict=True):
        ax.imshow(plane, cmap="gray", vmin=0, vmax=1)
        ax.axis("off")
    row[0].set_title(name)
