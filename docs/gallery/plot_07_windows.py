"""
Windows of a CT
===============

The window of a source, its black and white, decides what can be seen: here one CT in Hounsfield units is shown by two
windows.
"""

import matplotlib.pyplot as plt
import numpy as np

import nmfuse
from nmfuse.data import brain_phantom

phantom = brain_phantom()
mri = np.rint(255 * phantom.t2).astype(np.uint8)
hounsfield = np.rint(np.interp(phantom.ct, [0, 0.13, 0.24, 0.31, 0.95], [-1000, -100, 30, 42, 1200])).astype(np.int16)

figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
axes[0].imshow(mri, cmap="gray")
axes[0].set_title("MRI (T2)")
for ax, window in zip(axes[1:], ("ct-brain", "ct-bone"), strict=True):
    ax.imshow(nmfuse.fuse(mri, hounsfield, window=[None, window]), cmap="gray")
    ax.set_title(f"fused, window {window}")
for ax in axes:
    ax.axis("off")
