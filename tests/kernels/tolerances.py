"""How far a kernel may lie from its float64 oracle: one table by dtype, with the reason beside each figure."""

from __future__ import annotations

import numpy as np

# Means of up to 63 x 63 values in [0, 1]: relative rounding of one sum of 63 terms along each axis and one division.
# Integers: half a unit for the rounding to nearest, and 65535 times float32's share where a mean lies at a tie.
MEAN = {
    np.dtype(np.float32): 4e-6,
    np.dtype(np.float64): 1e-14,
    np.dtype(np.uint8): 0.5001,
    np.dtype(np.uint16): 0.55,
}

# Relative to the largest element: the adjoint adds up shares grad / norm, as many as a window has pixels; with few
# reliable pixels a norm is one small weight, whose relative error is that of its sum.
ADJOINT = {
    np.dtype(np.float32): 1e-5,
    np.dtype(np.float64): 1e-12,
}

# Aggregation adds at most 20 x 20 scores of size 1 by doubling, so the error grows with the logarithm of their number.
BLOCKS = {
    np.dtype(np.float32): 1e-6,
    np.dtype(np.float64): 1e-14,
}

# NMF, relative to the largest entry, after some ten iterations: an update is a quotient of sums of non-negative terms
# (no cancellation) of at most 1500 of them; errors of one iteration enter the next and do not grow.
NMF = {
    np.dtype(np.float32): 1e-5,
    np.dtype(np.float64): 1e-12,
}

# Information of windows, in [0, 1]: single precision once the minimum is gone, sums of some forty terms p log p, and
# for float32 images the rounding of what the minimum leaves.
INFORMATION = {
    np.dtype(np.float32): 1e-4,
    np.dtype(np.float64): 3e-5,
}
