"""
Where a source shows nothing
============================

The second picture only covers a circle. Where it is not valid (NaN, masked, transparent) it does not count, and no dark
border appears; with zeros instead of NaN, there is one.
"""

import matplotlib.pyplot as plt
import numpy as np

import nmfuse
from nmfuse.data import brain_phantom

phantom = brain_phantom()
outside = np.hypot(*np.mgrid[-1:1:256j, -1:1:256j]) > 0.55
with_nan, with_zeros = (np.where(outside, value, phantom.pet) for value in (np.nan, 0))

figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
pictures = {
    "PET in a circle": with_nan,
    "NaN outside": nmfuse.fuse(phantom.t1, with_nan.astype(np.float32)),
    "zeros outside": nmfuse.fuse(phantom.t1, with_zeros.astype(np.float32)),
}
for ax, (name, image) in zip(axes, pictures.items(), strict=True):
    ax.imshow(image, cmap="gray", vmin=0, vmax=1)
    ax.set_title(name)
    ax.axis("off")
