"""
Where each pixel comes from
===========================

Every method can be asked for the provenance of its result, and for where the sources contradict each other.
"""

import matplotlib.pyplot as plt

import nmfuse
from nmfuse.data import brain_phantom

phantom = brain_phantom()
found = nmfuse.Fuser().explain(phantom.t2, phantom.ct)

figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
axes[0].imshow(found.fused, cmap="gray")
axes[0].set_title("fused")
shown = axes[1].imshow(found["provenance"][1], cmap="RdBu", vmin=0, vmax=1)
axes[1].set_title("share of the CT")
figure.colorbar(shown, ax=axes[1], shrink=0.8)
axes[2].imshow(found["conflict"], cmap="magma")
axes[2].set_title("conflict")
for ax in axes:
    ax.axis("off")
