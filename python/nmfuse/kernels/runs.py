"""Many factorizations of one matrix, and how far they agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmfuse.kernels._array import Array, take
from nmfuse.kernels.checks import check_count
from nmfuse.kernels.nmf import nmf


@dataclass(frozen=True)
class NmfRuns:
    """Factorizations of one rank from several random starts.

    Attributes
    ----------
    rank : int
        The rank of the factorizations.
    seeds : tuple of int
        The seed of each random start.
    W, H : list of array, shapes (m, r) and (r, n)
        The factors of each run.
    objective : float64 array, shape (runs,)
        The objective that each run reached.
    """

    rank: int
    seeds: tuple[int, ...]
    W: list[Array]
    H: list[Array]
    objective: np.ndarray

    @property
    def best(self) -> int:
        """The number of the run that reached the least objective."""
        return int(self.objective.argmin())

    def consensus(self) -> np.ndarray:
        """Return the share of the runs in which two columns of V have the same strongest component.

        Returns
        -------
        consensus : float64 array, shape (n, n)
            The shares, a symmetric matrix with values in [0, 1] and ones on its diagonal.
        """
        labels = [take(H, "H").to_host().argmax(0) for H in self.H]
        same = np.zeros((len(labels[0]), len(labels[0])), np.int32)
        for each in labels:
            same += each[:, None] == each
        shares: np.ndarray = same / len(labels)
        return shares

    def stability(self) -> float:
        """Return the cophenetic correlation of the consensus, which is 1 if all runs group the columns in the same way.

        To choose among several ranks, take the largest one before the stability begins to fall (Brunet et al. 2004).

        Returns
        -------
        stability : float
            The correlation of ``1 - consensus`` with the heights at which average linkage joins the columns.
        """
        from scipy.cluster.hierarchy import average, cophenet
        from scipy.spatial.distance import squareform

        distances = squareform(1 - self.consensus(), checks=False)
        if np.ptp(distances) == 0:
            return 1.0
        return float(cophenet(average(distances), distances)[0])


def nmf_runs(
    V: Array,
    ranks: int | Sequence[int],
    seeds: Iterable[int],
    *,
    solver: str = "hals",
    inner_iter: int = 3,
    **options: Any,
) -> list[NmfRuns]:
    """Factorize V once for each rank and seed, to see how stable the components are.

    Parameters
    ----------
    V : array or sparse matrix, shape (m, n)
        The matrix, as `nmf` takes it.
    ranks : int or sequence of int seeds : iterable of int
        The seed of each random start.
    solver, inner_iter, **options
        Options of `nmf`. For a ``beta`` other than 2, and for ``weights``, pass ``solver="mu", inner_iter=1``.

    Returns
    -------
    runs : list of NmfRuns
        The factorizations of each rank.

    Raises
    ------
    TypeError, ValueError
        For what `nmf` refuses; ValueError also if there is no seed, or if V has more than two axes.

    References
    ----------
    Brunet, Tamayo, Golub & Mesirov, PNAS 101 (2004) (consensus and its cophenetic correlation).

    Examples
    --------
    >>> import numpy as np, nmfuse
    >>> rng = np.random.default_rng(0)
    >>> V = np.kron(np.eye(3), np.ones((20, 15))) + 0.1 * rng.random((60, 45))
    >>> runs = nmfuse.nmf_runs(V, 3, seeds=range(5))[0]
    >>> runs.consensus()[0, [0, 14, 15]]  # with itself, of its group, of another
    array([1., 1., 0.])
    >>> runs.stability() > 0.99
    True
    """
    seeds = tuple(seeds)
    if not seeds:
        raise ValueError("seeds: there are none; pass some numbers, such as range(20)")
    if len(V.shape) != 2:
        raise ValueError(f"V: shape {tuple(V.shape)}; expected two axes")
    ranks = list(ranks) if isinstance(ranks, Sequence) else [ranks]
    for rank in ranks:
        check_count("ranks", rank, 1)
    result = []
    for rank in ranks:
        fits = [nmf(V, rank, seed=seed, solver=solver, inner_iter=inner_iter, **options) for seed in seeds]
        objective = np.array([info.objective[-1] for _, _, info in fits])
        result.append(NmfRuns(rank, seeds, [W for W, _, _ in fits], [H for _, H, _ in fits], objective))
    return result
