"""
Colour: PET over MRI
====================

Luminance is fused, and the colours of the PET are kept. `balance` says how much of the PET is wanted.
"""

import matplotlib.pyplot as plt
import numpy as np

import nmfuse
from nmfuse.data import brain_phantom, pet_rgb

phantom = brain_phantom()
mri, pet = np.rint(255 * phantom.t1).astype(np.uint8), pet_rgb(phantom.pet)
pictures = {"MRI (T1)": mri, "PET": pet}
for share in (1.0, 0.4):
    pictures[f"fused, balance=[1, {share:g}]"] = nmfuse.fuse(mri, pet, balance=[1, share])

figure, axes = plt.subplots(1, 4, figsize=(12, 3.3), layout="constrained")
for ax, (name, image) in zip(axes, pictures.items(), strict=True):
    ax.imshow(image, cmap="gray")
    ax.set_title(name)
    ax.axis("off")
