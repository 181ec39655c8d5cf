"""`NMF` and `MiniBatchNMF` with scikit-learn's interface, computed by the kernels (the extra ``nmfuse[sklearn]``).

They are scikit-learn's own classes with other solvers inside: parameters, attributes, starting points, penalties and
the meaning of each are theirs, so that they take their place in any pipeline.
"""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import Any

import numpy as np

from nmfuse.kernels._array import take
from nmfuse.kernels._native import native_for
from nmfuse.kernels._sparse import SparseProblem
from nmfuse.kernels.nmf import FLOOR
from nmfuse.kernels.problem import Problem

try:
    from scipy import sparse
    from sklearn import decomposition
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data
except ImportError as error:
    raise ImportError("nmfuse.sklearn needs scikit-learn of at least 1.6; pip install 'nmfuse[sklearn]'") from error

__all__ = ["NMF", "MiniBatchNMF"]

_CHECK_EVERY = 10  # iterations, as scikit-learn's "mu"
_SWEEPS = 3  # of coordinate descent over a factor, for each pass over X


class NMF(decomposition.NMF):  # type: ignore[misc]
    """Non-negative matrix factorization ``X ~ W @ H``, as `sklearn.decomposition.NMF`.

    All parameters, attributes and methods are those of scikit-learn. These are the differences:

    - With ``solver="cd"`` an iteration updates each factor three times for each pass over X, so that fewer are needed.
      With ``solver="mu"`` the iterates are scikit-learn's, to rounding.
    - ``solver="mu"`` takes missing values: NaN in X counts nowhere, neither in `fit` nor in `transform`.
    - `tol` is the same for both solvers: every ten iterations, stop if the error (the square root of twice the
      penalised objective) has fallen by less than `tol` of its value at the start.
    - ``shuffle=True`` changes the order of the components every ten iterations.
    - With an L2 penalty and ``beta_loss`` below 2 the updates are damped so that the objective never rises.

    A dense X is copied once, transposed. A sparse X is converted to a dense one if ``beta_loss`` is neither 2 nor 1.

    Parameters
    ----------
    n_components, init, solver, beta_loss, tol, max_iter, random_state, alpha_W, alpha_H, l1_ratio, verbose, shuffle
        See `sklearn.decomposition.NMF`.

    Raises
    ------
    ValueError
        For negative or infinite entries, for NaN with ``solver="cd"``, and for everything that scikit-learn refuses.

    References
    ----------
    Cichocki & Phan, IEICE Trans. Fundamentals E92-A (2009) ("cd"); Fevotte & Idier, Neural Computation 23 (2011)
    ("mu").

    Examples
    --------
    >>> import numpy as np
    >>> from nmfuse.sklearn import NMF
    >>> X = np.outer([1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 2.0])
    >>> model = NMF(n_components=1, max_iter=500).fit(X)
    >>> model.components_.shape, bool(model.reconstruction_err_ < 1e-6)
    ((1, 3), True)
    """

    def fit_transform(self, X: Any, y: Any = None, W: Any = None, H: Any = None) -> np.ndarray:  # noqa: ARG002
        """Fit the model to X and return W.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
            The samples, non-negative; with ``solver="mu"``, NaN means a missing value.
        y : ignored
        W : array, shape (n_samples, n_components), optional
            The factor to start from, with ``init="custom"``.
        H : array, shape (n_components, n_features), optional
            The factor to start from, with ``init="custom"``.

        Returns
        -------
        W : array, shape (n_samples, n_components)
            The amounts of the components in each sample, in the dtype of X.
        """
        self._validate_params()
        X = self._take(X, reset=True)
        scores: np.ndarray
        scores, self.components_, self.n_iter_ = self._fit_transform(X, W=W, H=H)
        self.n_components_ = len(self.components_)
        return scores

    def transform(self, X: Any) -> np.ndarray:
        """Return W for the components of the model.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
            The samples, non-negative; with ``solver="mu"``, NaN means a missing value.

        Returns
        -------
        W : array, shape (n_samples, n_components)
            The amounts of the components in each sample, in the dtype of X.
        """
        check_is_fitted(self)
        X = self._take(X, reset=False)
        if not self.components_.any():  # penalised away
            return np.zeros((X.shape[0], self.n_components_), X.dtype)
        W: np.ndarray = self._fit_transform(X, H=self.components_.astype(X.dtype, copy=False), update_H=False)[0]
        return W

    def _take(self, X: Any, *, reset: bool) -> Any:
        finite: Any = "allow-nan" if self.solver == "mu" and not sparse.issparse(X) else True
        formats = ("csr", "csc")
        X = validate_data(
            self, X, accept_sparse=formats, dtype=[np.float64, np.float32], ensure_all_finite=finite, reset=reset
        )
        check_non_negative(X if sparse.issparse(X) else np.fmin(X, np.inf), f"{type(self).__name__} (input X)")
        return X

    def _fit_transform(
        self,
        X: Any,
        y: Any = None,  # noqa: ARG002
        W: Any = None,
        H: Any = None,
        update_H: bool = True,
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Return W, H and the iterations done; scikit-learn's `non_negative_factorization` calls it too."""
        self._check_params(X)
        missing = None if sparse.issparse(X) else np.isnan(X)
        known = None if missing is None or not missing.any() else ~missing
        filled = X if known is None else np.where(known, X, X[known].mean())
        if self._beta_loss <= 0 and filled.min() == 0:
            raise ValueError(
                "When beta_loss <= 0 and X contains zeros, the solver may diverge. Please add small values to X, or "
                "use a positive beta_loss."
            )
        if sparse.issparse(X):  # SciPy's mean would make a copy in double precision
            mean = X.data.sum(dtype=np.float64) / math.prod(X.shape)
            filled = type(X)((X.data, X.indices, X.indptr), shape=X.shape)
            filled.mean = lambda: mean
        W, H = (x.astype(X.dtype, copy=False) for x in self._check_w_h(filled, W, H, update_H))
        l1_W, l1_H, l2_W, l2_H = self._compute_regularization(X)
        # With H fixed, least squares have one minimum: coordinate descent finds it soonest, whatever the solver.
        hals = self.solver == "cd" or (self._beta_loss == 2 and known is None and not update_H)
        fit = _Fit(
            X, W, H, known, beta=self._beta_loss, hals=hals, update_H=update_H,
            penalties={"l1_W": l1_W, "l1_H": l1_H, "l2_W": l2_W, "l2_H": l2_H},
        )  # fmt: skip
        del W  # the kernels have a copy
        random = check_random_state(self.random_state) if self.shuffle and self.solver == "cd" else None
        n_iter = fit.run(self.max_iter, self.tol, self.verbose, random)
        if n_iter == self.max_iter and self.tol > 0:
            warnings.warn(
                f"Maximum number of iterations {self.max_iter} reached. Increase it to improve convergence.",
                ConvergenceWarning,
                stacklevel=2,
            )
        if update_H:
            self.reconstruction_err_ = fit.error(penalised=False)
        return fit.W, fit.H if update_H else H, n_iter

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.solver == "mu"
        return tags


class MiniBatchNMF(decomposition.MiniBatchNMF):  # type: ignore[misc]
    """Online non-negative matrix factorization, as `sklearn.decomposition.MiniBatchNMF`.

    All parameters, attributes and methods are those of scikit-learn. The solving for W with the components fixed, which
    is what `transform`, `partial_fit` and ``fresh_restarts=True`` spend their time on, runs in the kernels; its
    tolerance is looked at every ten iterations.

    Parameters
    ----------
    n_components, init, batch_size, beta_loss, tol, max_no_improvement, max_iter, alpha_W, alpha_H, l1_ratio
        See `sklearn.decomposition.MiniBatchNMF`.
    forget_factor, fresh_restarts, fresh_restarts_max_iter, transform_max_iter, random_state, verbose
        See `sklearn.decomposition.MiniBatchNMF`.

    References
    ----------
    Lefevre, Bach & Fevotte, WASPAA (2011).

    Examples
    --------
    >>> import numpy as np
    >>> from nmfuse.sklearn import MiniBatchNMF
    >>> chunks = np.random.default_rng(0).random((5, 40, 6))
    >>> model = MiniBatchNMF(n_components=2, random_state=0)
    >>> for chunk in chunks:
    ...     model = model.partial_fit(chunk)
    >>> model.transform(chunks[0]).shape
    (40, 2)
    """

    def _solve_W(self, X: Any, H: np.ndarray, max_iter: int) -> np.ndarray:
        l1_W, _, l2_W, _ = self._compute_regularization(X)
        start = np.full((X.shape[0], self._n_components), np.sqrt(X.mean() / self._n_components), X.dtype)
        penalties = {"l1_W": l1_W, "l2_W": l2_W}
        fit = _Fit(X, start, H, None, beta=self._beta_loss, hals=False, update_H=False, penalties=penalties)
        before = fit.W
        for done in range(0, max_iter, _CHECK_EVERY):
            fit.update(min(_CHECK_EVERY, max_iter - done))
            W = fit.W
            if self.tol > 0 and np.linalg.norm(W - before) <= self.tol * np.linalg.norm(W):
                break
            before = W
        return fit.W


class _Fit:
    """``X ~ W @ H`` in flight: scikit-learn's W comes first in an iteration, so the kernels see ``X.T ~ H.T @ W.T``."""

    def __init__(
        self, X: Any, W: np.ndarray, H: np.ndarray, known: np.ndarray | None, *, beta: float, hals: bool,
        update_H: bool, penalties: dict[str, float],
    ) -> None:  # fmt: skip
        if sparse.issparse(X) and beta not in (1, 2):
            X = X.toarray()
        self.sweeps = hals and not update_H  # what they need of X is computed once for several
        other = {"W": "H", "H": "W"}
        settings: dict[str, Any] = {name[:-1] + other[name[-1]]: float(value) for name, value in penalties.items()}
        settings |= {"beta": float(beta), "update_W": update_H, "hals": hals, "weighted": known is not None}
        if hals:
            settings["inner_iter"] = _SWEEPS
        if sparse.issparse(X):
            rows = X.tocsr()  # whose transpose is CSC: W comes first there too
            self.problem: Problem = SparseProblem(rows.T, H.T, W.T, **settings)
        else:
            values, of_H, of_W = (take(np.array(x.T, X.dtype, order="C"), "X") for x in (X, H, W))
            native, stream = native_for(values)
            weights = None if known is None else take(np.ascontiguousarray(known.T).view(np.uint8), "X")
            options = native.NmfOptions(**settings)
            self.problem = Problem(native, stream, values, of_H, of_W, options, weights)
        for factor in () if hals else (self.problem.W, self.problem.H):
            np.maximum(factor, FLOOR, out=factor)
        make = self.problem.native.NmfOptions
        self.options = partial(make, **settings)
        self.plain = make(beta=float(beta), weighted=known is not None)
        self.order = np.arange(W.shape[1])  # of the components, where they are shuffled

    @property
    def W(self) -> np.ndarray:
        """A copy, with zeros where the multiplicative updates keep the least value that can still grow."""
        return self._original(self.problem.H.T)

    @property
    def H(self) -> np.ndarray:
        """A copy, as W."""
        return self._original(self.problem.W).T.copy()

    def _original(self, columns: np.ndarray) -> np.ndarray:
        ordered = np.empty(columns.shape, columns.dtype)
        for column, place in zip(columns.T, self.order, strict=True):  # one by one: W may be as large as X
            ordered[:, place] = np.where(column <= FLOOR, 0, column)
        return ordered

    def update(self, iterations: int) -> None:
        if self.sweeps:
            self.problem.options = self.options(inner_iter=iterations)
            self.problem.update(None, 1, iterations)
        else:
            self.problem.update(None, iterations)

    def shuffle(self, random: Any) -> None:
        order = random.permutation(len(self.order))
        self.order = self.order[order]
        self.problem.W[...], self.problem.H[...] = self.problem.W[:, order], self.problem.H[order]

    def error(self, *, penalised: bool = True) -> float:
        """Return the square root of twice the objective."""
        values = np.empty(1)
        self.problem.objective(values, None if penalised else self.plain)
        return float(np.sqrt(2 * max(values[0], 0.0)))

    def run(self, max_iter: int, tol: float, verbose: int, random: Any) -> int:
        """Iterate until the error falls no longer; return how often."""
        first = before = self.error() if tol > 0 else 0.0
        done = 0
        while done < max_iter:
            if random is not None:
                self.shuffle(random)
            count = min(_CHECK_EVERY, max_iter - done)
            self.update(count)
            done += count
            if tol > 0 and count == _CHECK_EVERY:
                now = self.error()
                if verbose:
                    print(f"Iteration {done}, error: {now}")
                if before - now < tol * first or first == 0:
                    break
                before = now
        return done
