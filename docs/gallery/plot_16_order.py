"""
The order does not matter
=========================

The result is the same to the last bit whatever the order of the sources is. Copies of one image, fused, give that
image.
"""

import matplotlib.pyplot as plt
import numpy as np

import nmfuse
from nmfuse.data import brain_phantom

phantom = brain_phantom()
sources = phantom.t1, phantom.t2, phantom.ct
one, other = nmfuse.fuse(*sources), nmfuse.fuse(*sources[::-1])
copies = nmfuse.fuse(phantom.t1, phantom.t1, phantom.t1)
print("same bits:", np.array_equal(one, other), "; copies differ by at most", np.abs(copies - phantom.t1).max())

figure, axes = plt.subplots(1, 2, figsize=(7, 3.5), layout="constrained")
for ax, name, image in zip(axes, ("T1, T2, CT", "CT, T2, T1"), (one, other), strict=True):
    ax.imshow(image, cmap="gray", vmin=0, vmax=1)
    ax.set_title(name)
    ax.axis("off")
