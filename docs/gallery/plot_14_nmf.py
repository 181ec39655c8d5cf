"""
Factorize a matrix
==================

`nmfuse.nmf` factorizes any non-negative matrix. Here it finds the spectra of three materials, and how much of each is
where, from noisy mixtures.
"""

import matplotlib.pyplot as plt
import numpy as np

import nmfuse

rng = np.random.default_rng(0)
bands = np.linspace(0, 1, 120)
spectra = np.stack([np.exp(-(((bands - centre) / 0.12) ** 2)) for centre in (0.2, 0.5, 0.75)], axis=1)
amounts = rng.dirichlet([0.3, 0.3, 0.3], 2000).T
V = spectra @ amounts + 0.01 * rng.random((120, 2000))
W, H, info = nmfuse.nmf(V, rank=3, seed=1)

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
axes[0].plot(bands, spectra / spectra.max(0), "0.7", lw=4)
axes[0].plot(bands, W / W.max(0))
axes[0].set_title("spectra (grey) and W")
axes[1].semilogy(info.iterations, info.objective)
axes[1].set_title("the objective never rises")
axes[1].set_xlabel("iterations")
