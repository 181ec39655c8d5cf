"""The order that sources are worked on in: it does not depend on the order in which they were given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cmp_to_key

from torch import Tensor


def canonical_order(
    planes: Sequence[Tensor],
    ties: Sequence[tuple[Tensor | None, ...]] | None = None,
    release: Callable[[], None] = lambda: None,
) -> list[int]:
    """Return the places of the sources from the brightest to the darkest.

    Sources of one mean are ordered by the first pixel in which they differ, the greater value first; sources that agree
    in all pixels by those of their `ties` (chroma and validity, say). So sums over sources, and a factorization that
    starts from a random draw, have the same bits whichever way the sources came. `release` is called when a plane is
    done with.

    Examples
    --------
    >>> import torch
    >>> canonical_order([torch.zeros(2), torch.ones(2), torch.tensor([1.0, 0.5])])
    [1, 2, 0]
    """
    means = []
    for plane in planes:
        means.append(float(plane.detach().double().mean()))
        release()

    def compare(i: int, j: int) -> int:
        if means[i] != means[j]:
            return -1 if means[i] > means[j] else 1
        decided = _first_difference(planes[i], planes[j])
        if decided == 0 and ties is not None:
            for one, other in zip(ties[i], ties[j], strict=True):
                if one is not None and other is not None:
                    decided = _first_difference(one, other)
                else:
                    decided = (one is None) - (other is None)
                if decided:
                    break
        release()
        return decided

    return sorted(range(len(planes)), key=cmp_to_key(compare))


def _first_difference(a: Tensor, b: Tensor) -> int:
    """Return -1 where a is greater at the first pixel in which both differ, 1 where b is, 0 where they agree."""
    differ = (a != b).flatten()
    if not bool(differ.any()):
        return 0
    first = int(differ.int().argmax())
    return -1 if bool(a.flatten()[first] > b.flatten()[first]) else 1
