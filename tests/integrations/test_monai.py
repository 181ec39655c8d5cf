"""The dictionary transform of MONAI, inside its own pipelines."""

from __future__ import annotations

import pytest
import torch

import nmfuse

pytest.importorskip("monai")
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, Invertd

from nmfuse.integrations.monai import Fused

A, B = torch.rand(2, 1, 20, 24, generator=torch.Generator().manual_seed(0))
AFFINE = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))


def test_it_gives_what_fuse_gives_with_the_first_ones_metadata() -> None:
    a = MetaTensor(A, affine=AFFINE, meta={"filename_or_obj": "a.nii"})
    data = {"a": a, "b": MetaTensor(B, affine=AFFINE), "label": 3}
    found = Fused(keys=["a", "b"], out="both", balance=[1, 0.5])(data)
    assert set(found) == {"a", "b", "both", "label"}
    assert "both" not in data
    assert torch.equal(found["both"].as_tensor(), nmfuse.fuse(A, B, balance=[1, 0.5]))
    assert torch.equal(found["both"].affine, a.affine)
    assert found["both"].meta["filename_or_obj"] == "a.nii"
    plain = Fused(keys=["a", "b"])({"a": A, "b": B})["fused"]
    assert type(plain) is torch.Tensor


def test_what_came_before_is_undone_for_the_result_too() -> None:
    data = {"a": MetaTensor(A, affine=AFFINE), "b": MetaTensor(B, affine=AFFINE)}
    flip = Flipd(keys=["a", "b"], spatial_axis=0)
    pipeline = Compose([flip, Fused(keys=["a", "b"], out="both")])
    there = pipeline(data)
    back = Invertd(keys="both", transform=flip, orig_keys="a", nearest_interp=False)(there)
    torch.testing.assert_close(back["both"].as_tensor(), there["both"].as_tensor().flip(1))
    assert torch.allclose(back["both"].affine, AFFINE.double())


def test_volumes_have_their_slices_last() -> None:
    a, b = torch.rand(2, 1, 20, 18, 3, generator=torch.Generator().manual_seed(1))
    found = Fused(keys=["a", "b"])({"a": a, "b": b})["fused"]
    assert torch.equal(found, nmfuse.fuse(a, b, spatial=3, slice_axis=2))


def test_what_is_refused() -> None:
    other = MetaTensor(B, affine=2 * AFFINE)
    with pytest.raises(ValueError, match=r"b: its affine differs from that of a by up to 4.*ResampleToMatchd"):
        Fused(keys=["a", "b"])({"a": MetaTensor(A, affine=AFFINE), "b": other})
    with pytest.raises(KeyError, match="b"):
        Fused(keys=["a", "b"])({"a": A})
    with pytest.raises(ValueError, match="expected two or more"):
        Fused(keys=["a", "b"], allow_missing_keys=True)({"a": A})
