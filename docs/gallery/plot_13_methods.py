"""
Methods beside each other
=========================

Every method is called in the same way. `nmfuse methods` lists all of them.
"""

import matplotlib.pyplot as plt

import nmfuse
from nmfuse.data import street_scene
from nmfuse.metrics import evaluate

scene = street_scene(240, 320)
visible = scene.photograph().mean(-1) / 255
thermal = (scene.temperature.clip(0, 40) / 40).astype(float)
names = ("average", "maximum", "pca", "laplacian", "paper", "learned")

figure, axes = plt.subplots(2, 3, figsize=(11, 5.8), layout="constrained")
for ax, name in zip(axes.flat, names, strict=True):
    fused = nmfuse.fuse(visible, thermal, method=name)
    quality = evaluate(fused, [visible, thermal], data_range=1.0, metrics=["Q_abf"])["Q_abf"]
    ax.imshow(fused, cmap="gray", vmin=0, vmax=1)
    ax.set_title(f"{name}, Q_abf {quality:.2f}")
    ax.axis("off")
