"""
Smooth what is reliable
=======================

`nmfuse.hannmean` leaves out pixels that a mask marks as unreliable, or that are outliers in their window.
"""

import matplotlib.pyplot as plt
import numpy as np

import nmfuse
from nmfuse.data import brain_phantom

rng = np.random.default_rng(0)
image = brain_phantom(192).t1.copy()
image[rng.random(image.shape) < 0.04] = 1.0  # salt
pictures = {
    "with salt": image,
    "hannmean(x, 5)": nmfuse.hannmean(image, 5),
    "hannmean(x, 5, outliers=3)": nmfuse.hannmean(image, 5, outliers=3),
}

figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
for ax, (name, picture) in zip(axes, pictures.items(), strict=True):
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1)
    ax.set_title(name)
    ax.axis("off")
