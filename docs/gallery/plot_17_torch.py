"""
Gradients through a fused image
===============================

If a torch source requires grad, so does the result. Here the gradient shows which pixels of the CT decide the
brightness of one spot.
"""

import matplotlib.pyplot as plt
import torch

import nmfuse
from nmfuse.data import brain_phantom

phantom = brain_phantom(192)
mri, ct = torch.from_numpy(phantom.t2), torch.from_numpy(phantom.ct).requires_grad_()
fused = nmfuse.fuse(mri, ct)
fused[60:64, 94:98].mean().backward()

figure, axes = plt.subplots(1, 2, figsize=(7.5, 3.7), layout="constrained")
axes[0].imshow(fused.detach(), cmap="gray")
axes[0].plot(96, 62, "s", mfc="none", mec="C3", ms=10)
axes[0].set_title("fused, and the spot")
axes[1].imshow(ct.grad.abs().sqrt(), cmap="magma")
axes[1].set_title("gradient in the CT (root of its size)")
for ax in axes:
    ax.axis("off")
