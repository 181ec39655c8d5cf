"""Dictionaries of the sparse representation methods: learned from patches of photographs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nmfuse.io import check_file, new_file
from nmfuse.methods.rivals.asr import ORIENTATIONS, orientation
from nmfuse.methods.rivals.sparse import PATCH
from nmfuse.training.patches import find_images, read_grey

ATOMS = 256
_LEAST_VARIANCE = 4.0  # of a patch, on the scale 0 to 255: flatter ones teach nothing


def train_dictionaries(
    images: str | Path,
    output: str | Path,
    *,
    patches: int = 20_000,
    seed: int = 0,
    overwrite: bool = False,
    progress: Callable[[int, int, float], None] | None = None,
) -> None:
    """Learn seven dictionaries of 8 x 8 patches and write them, atoms as int8, to one .npz file.

    One general dictionary, and one for each of six gradient orientations, learned from the patches that have it.
    Patches lose their means; atoms are learned by online dictionary learning with orthogonal matching pursuit
    (Mairal et al., ICML 2009, as scikit-learn has it) in place of the K-SVD of the methods' authors.

    Parameters
    ----------
    images : path
        Folder of photographs.
    output : path
        File to write, ending in .npz.
    patches : int
        Patches for each dictionary.
    seed : int
        Of the draw and of the start.
    overwrite : bool
        Replace the file if it exists.
    progress : callable, optional
        Called with (dictionaries done, in all, mean error of codes of eight atoms) after each.

    Raises
    ------
    FileNotFoundError, FileExistsError, ValueError
        For folders and files; if the photographs have too few patches of an orientation.
    ModuleNotFoundError
        If scikit-learn is missing.
    """
    from sklearn.decomposition import MiniBatchDictionaryLearning
    from sklearn.exceptions import ConvergenceWarning

    check_file(Path(output), overwrite=overwrite)
    drawn = _draw(find_images(Path(images)), 60 * patches, np.random.default_rng(seed))
    kinds = orientation(torch.from_numpy(drawn)).numpy()
    learned: list[NDArray[np.int8]] = []
    for k in range(ORIENTATIONS + 1):
        chosen = drawn[:patches] if k == ORIENTATIONS else drawn[kinds == k][:patches]
        if len(chosen) < 4 * ATOMS:
            raise ValueError(
                f"images: {len(chosen)} patches of orientation {k}; expected {4 * ATOMS}, give more images"
            )
        chosen = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
        learner = MiniBatchDictionaryLearning(
            ATOMS, batch_size=512, max_iter=2, fit_algorithm="cd", alpha=0.15, random_state=seed, tol=0,
            max_no_improvement=None,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of single codes; the atoms are what is wanted
            atoms = learner.fit(chosen).components_
        atoms = atoms - atoms.mean(axis=1, keepdims=True)
        atoms /= np.abs(atoms).max(axis=1, keepdims=True)
        learned.append(np.rint(127 * atoms).astype(np.int8).T)  # (64, 256)
        if progress is not None:
            progress(k + 1, ORIENTATIONS + 1, _code_error(chosen[:1000], learned[-1]))
    with new_file(output, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, general=learned[-1], oriented=np.stack(learned[:-1]))


def _code_error(patches: NDArray[np.float32], atoms: NDArray[np.int8]) -> float:
    """Return the mean residual of unit patches coded by eight atoms each."""
    from sklearn.linear_model import orthogonal_mp

    unit = atoms / np.linalg.norm(atoms, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # fewer atoms are enough
        codes = orthogonal_mp(unit, patches.T, n_nonzero_coefs=8)
    return float(np.linalg.norm(patches.T - unit @ codes, axis=0).mean())


def _draw(paths: list[Path], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return up to `count` patches (N, 64) without their means, as many of each image, those that are not flat."""
    each = -(-count // len(paths))
    drawn = []
    for path in paths:
        pixels = read_grey(path).astype(np.float32)
        rows, columns = (rng.integers(n - PATCH + 1, size=each) for n in pixels.shape)
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (PATCH, PATCH))
        patches = windows[rows, columns].reshape(each, -1)
        patches = patches - patches.mean(axis=1, keepdims=True)
        drawn.append(patches[patches.var(axis=1) > _LEAST_VARIANCE])
    mixed = np.concatenate(drawn)
    rng.shuffle(mixed)
    return mixed
