"""Models of how one image lies against another, fitted to pairs of points."""

from __future__ import annotations

import numpy as np

MODELS = ("translation", "rigid", "similarity", "affine", "homography", "deformable")
_ROUNDS = 20  # of reweighting
_LEAST = 0.3  # pixels that a point may always be off
_AGREES = 1.5  # pixels that a point that agrees may be off


def fit(model: str, points: np.ndarray, others: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the model that takes points (n, 2) to others (n, 2), without regard to those that fit no model.

    Least squares with weights that Tukey's biweight makes less for what is far off, again and again.

    Parameters
    ----------
    model : str
        "translation", "rigid", "similarity", "affine" or "homography".
    points, others : float64 array, shape (n, 2)
        Row and column.
    weights : float64 array, shape (n,)
        How much each pair counts.

    Returns
    -------
    matrix : float64 array, shape (3, 3)
    errors : float64 array, shape (n,)
        How far each point is off, in pixels.

    References
    ----------
    Holland & Welsch, "Robust regression using iteratively reweighted least-squares", Commun. Stat. 6 (1977).

    Examples
    --------
    >>> points = np.array([[0.0, 0], [0, 9], [9, 0], [9, 9], [4, 4]])
    >>> matrix, errors = fit("translation", points, points + [1, 2], np.ones(5))
    >>> matrix[:2, 2].round(6)
    array([1., 2.])
    """
    centre = points.mean(0)
    extent = max(float(np.abs(points - centre).max()), 1.0)
    shrink = np.diag([1 / extent, 1 / extent, 1.0])
    shrink[:2, 2] = -centre / extent
    p, q = (points - centre) / extent, (others - centre) / extent
    robust = np.ones(len(p))
    for _ in range(_ROUNDS):
        matrix = _least_squares(model, p, q, weights * robust)
        errors = np.linalg.norm(_moved(matrix, p) - q, axis=1) * extent
        spread = max(_LEAST, 1.4826 * _median(errors, weights))
        robust = np.clip(1 - (errors / (4.685 * spread)) ** 2, 1e-9, None) ** 2
    return np.linalg.inv(shrink) @ matrix @ shrink, errors


def agrees(errors: np.ndarray, weights: np.ndarray, least: int) -> tuple[np.ndarray, float]:
    """Return which points agree with a model to 1.5 pixels, and their share by weight; 0 if fewer than `least` do."""
    near = errors <= _AGREES
    return near, float(weights[near].sum() / weights.sum() * (near.sum() >= least))


def _moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    ahead = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(ahead[:, :2] / ahead[:, 2:])


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _least_squares(model: str, p: np.ndarray, q: np.ndarray, weights: np.ndarray) -> np.ndarray:
    if model == "rigid":
        return _rigid(p, q, weights)
    one, nil = np.ones(len(p)), np.zeros(len(p))
    (y, x), move = p.T, q - p
    if model == "translation":
        rows = [[one, nil], [nil, one]]
    elif model == "similarity":
        rows = [[y, -x, one, nil], [x, y, nil, one]]
    else:
        rows = [[y, x, one, nil, nil, nil], [nil, nil, nil, y, x, one]]
    if model == "homography":
        rows = [[*row, -to * y, -to * x] for row, to in zip(rows, q.T, strict=True)]
    root = np.sqrt(np.concatenate([weights, weights]))
    design = np.concatenate([np.stack(row, 1) for row in rows])
    b = np.linalg.lstsq(design * root[:, None], move.T.ravel() * root, rcond=None)[0]
    matrix = np.eye(3)
    if model == "translation":
        matrix[:2, 2] = b
    elif model == "similarity":
        matrix[:2] += [[b[0], -b[1], b[2]], [b[1], b[0], b[3]]]
    else:
        matrix[:2] += b[:6].reshape(2, 3)
        matrix[2, :2] = b[6:] if model == "homography" else 0
    return matrix


def _rigid(p: np.ndarray, q: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return rotation and shift: Umeyama, IEEE Trans. Pattern Anal. Mach. Intell. 13 (1991)."""
    share = (weights / weights.sum())[:, None]
    of_p, of_q = (share * p).sum(0), (share * q).sum(0)
    u, _, vt = np.linalg.svd((share * (q - of_q)).T @ (p - of_p))
    matrix = np.eye(3)
    matrix[:2, :2] = u @ np.diag([1, np.sign(np.linalg.det(u @ vt))]) @ vt
    matrix[:2, 2] = of_q - matrix[:2, :2] @ of_p
    return matrix
