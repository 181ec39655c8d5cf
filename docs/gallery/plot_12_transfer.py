"""
What would a reader lose?
=========================

A faint spot is put into one source, and both are fused again. *Transfer* is how much of the spot the fused image shows.
"""

import matplotlib.pyplot as plt

import nmfuse
from nmfuse.data import brain_phantom

phantom = brain_phantom(192)
names = ("learned", "laplacian", "average", "maximum")
found = [nmfuse.metrics.transfer(nmfuse.Fuser(name), [phantom.t2, phantom.ct]) for name in names]

figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
ax.bar(names, [each.mean for each in found], color="0.6", label="mean transfer")
ax.plot(names, [each.lost for each in found], "o", color="C3", label="share of signals that are lost")
ax.axhline(1, color="0.3", lw=0.8)
ax.legend()
