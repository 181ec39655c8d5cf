"""A dictionary transform of MONAI that fuses images of a dictionary into one more."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from nmfuse.fuser import fuse

try:
    from monai.config import KeysCollection
    from monai.data import MetaTensor
    from monai.transforms import MapTransform
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("nmfuse.integrations.monai needs MONAI; pip install 'nmfuse[monai]'") from error


class Fused(MapTransform):  # type: ignore[misc]  # MONAI has no types
    """Fuses the images of some keys, and puts the result under another one.

    The result has the affine, the metadata and the record of applied operations of the first image, so that it is saved
    like that one, and ``monai.transforms.Invertd`` undoes the spatial transforms that came before. The sources stay.

    Parameters
    ----------
    keys : str or sequence of str
        Of two or more images (C, H, W) or volumes (C, X, Y, Z), C 1 or 3, tensors or MetaTensors on one grid.
    out : str
        Key of the result: of the shape, dtype and range that `nmfuse.fuse` gives.
    allow_missing_keys : bool
        Whether keys may be missing; two must be there.
    **options
        Of `nmfuse.fuse`: method, window, balance and so on. Slices of volumes are taken across their last axis.

    Raises
    ------
    KeyError
        For a key that is not there.
    ValueError
        For images on different grids (bring them onto one by ``monai.transforms.ResampleToMatchd``), and as
        `nmfuse.fuse`.

    Examples
    --------
    >>> a, b = torch.rand(2, 1, 32, 40)
    >>> Fused(keys=("mri", "ct"))({"mri": a, "ct": b})["fused"].shape
    torch.Size([1, 32, 40])
    """

    def __init__(
        self, keys: KeysCollection, out: str = "fused", *, allow_missing_keys: bool = False, **options: Any
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.out, self.options = out, options

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with the fused image in it."""
        result = dict(data)
        keys = list(self.key_iterator(result))
        for key in keys[1:]:
            _check_grid(result[keys[0]], result[key], str(keys[0]), str(key))
        images = [_plain(result[key]) for key in keys]
        volumes = images[0].dim() == 4
        options = {"spatial": 3, "slice_axis": 2} if volumes else {}
        fused = fuse(*images, **{**options, **self.options})
        first = result[keys[0]]
        if isinstance(first, MetaTensor):
            operations = deepcopy(first.applied_operations)
            fused = MetaTensor(fused, meta=deepcopy(first.meta), applied_operations=operations)
        result[self.out] = fused
        return result


def _plain(x: Any) -> Tensor:
    tensor: Tensor = x.as_tensor() if isinstance(x, MetaTensor) else torch.as_tensor(x)
    return tensor


def _check_grid(first: Any, other: Any, name: str, key: str) -> None:
    """Refuse images whose pixels lie elsewhere."""
    if isinstance(first, MetaTensor) and isinstance(other, MetaTensor):
        apart = (first.affine - other.affine).abs().max()
        if apart > 1e-3:
            raise ValueError(
                f"{key}: its affine differs from that of {name} by up to {float(apart):.3g}; bring it onto that grid "
                "first, by monai.transforms.ResampleToMatchd"
            )
