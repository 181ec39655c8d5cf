"""The transform of TorchIO, inside its own pipelines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import nmfuse

torchio = pytest.importorskip("torchio")
from nmfuse.integrations.torchio import Fuse  # noqa: E402

A, B = torch.rand(2, 1, 20, 18, 3, generator=torch.Generator().manual_seed(0))
AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])


def subject(a: torch.Tensor, b: torch.Tensor, affine: np.ndarray = AFFINE) -> torchio.Subject:
    images = {"a": torchio.ScalarImage(tensor=a, affine=AFFINE), "b": torchio.ScalarImage(tensor=b, affine=affine)}
    return torchio.Subject(images, age=40)


def test_it_gives_what_fuse_gives_with_the_first_ones_affine() -> None:
    found = Fuse(["a", "b"], "both", {"balance": [1, 0.5]})(subject(A, B))
    assert torch.equal(found.both.data, nmfuse.fuse(A, B, spatial=3, slice_axis=2, balance=[1, 0.5]))
    assert np.array_equal(found.both.affine, AFFINE)
    assert torch.equal(found.a.data, A)
    assert found.age == 40
    flat = Fuse(["a", "b"])(subject(A[..., :1], B[..., :1])).fused
    assert torch.equal(flat.data[..., 0], nmfuse.fuse(A[..., 0], B[..., 0]))


def test_it_is_in_the_history_and_runs_in_a_pipeline() -> None:
    pipeline = torchio.Compose([torchio.Flip(axes=0), Fuse(["a", "b"]), torchio.Crop((1, 1, 0, 0, 0, 0))])
    found = pipeline(subject(A, B))
    assert found.fused.shape == (1, 18, 18, 3)
    assert [type(step).__name__ for step in found.get_applied_transforms()] == ["Flip", "Fuse", "Crop"]
    again = found.get_composed_history()(subject(A, B))
    assert torch.equal(again.fused.data, found.fused.data)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"b: is not on the grid of a; .*torchio.Resample\('a'\)"):
        Fuse(["a", "b"])(subject(A, B, 2 * AFFINE))
    with pytest.raises(KeyError):
        Fuse(["a", "missing"])(subject(A, B))
