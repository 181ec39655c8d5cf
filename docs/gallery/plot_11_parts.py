"""
What NMF finds
==============

The learned method factorizes the features of all sources together. The parts are the same for all sources; how strongly
each part is shown differs between them.
"""

import matplotlib.pyplot as plt

import nmfuse
from nmfuse.data import brain_phantom

phantom = brain_phantom()
found = nmfuse.Fuser().explain(phantom.t2, phantom.ct)
parts = found["parts"]  # (sources, parts, rows, columns)

figure, axes = plt.subplots(2, parts.shape[1], figsize=(9, 6), layout="constrained")
for row, source, name in zip(axes, parts, ("MRI (T2)", "CT"), strict=True):
    for k, (ax, part) in enumerate(zip(row, source, strict=True)):
        ax.imshow(part, cmap="magma")
        ax.set_title(f"{name}, part {k + 1}")
        ax.axis("off")
