"""
Fuse two images
===============

MRI shows soft tissue, CT shows bone; the fused image shows both.
"""

import matplotlib.pyplot as plt
import numpy as np

import nmfuse
from nmfuse.data import brain_phantom

phantom = brain_phantom()
mri, ct = (np.rint(255 * x).astype(np.uint8) for x in (phantom.t2, phantom.ct))
fused = nmfuse.fuse(mri, ct)

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for ax, name, image in zip(axes, ("MRI (T2)", "CT", "fused"), (mri, ct, fused), strict=True):
    ax.imshow(image, cmap="gray")
    ax.set_title(name)
    ax.axis("off")
