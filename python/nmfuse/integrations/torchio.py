"""A transform of TorchIO that fuses images of a subject into one more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nmfuse.fuser import fuse

try:
    from torchio import ScalarImage, Subject
    from torchio.transforms import Transform
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("nmfuse.integrations.torchio needs TorchIO; pip install 'nmfuse[torchio]'") from error


class Fuse(Transform):  # type: ignore[misc]  # TorchIO has no types for subclasses
    """Fuses images of a subject, and puts the result into it as another one, with the affine of the first.

    Parameters
    ----------
    names : sequence of str
        Of two or more images (C, X, Y, Z), C 1 or 3, on one grid; with Z of 1 they are images, else volumes.
    out : str
        Name of the result: of the dtype and range that `nmfuse.fuse` gives.
    options : dict, optional
        Of `nmfuse.fuse`: method, window, balance and so on. Slices of volumes are taken across their last axis.
    **kwargs
        Of ``torchio.Transform``, such as p.

    Raises
    ------
    KeyError
        For a name that is not in the subject.
    ValueError
        For images on different grids (bring them onto one by ``torchio.Resample``), and as `nmfuse.fuse`.

    Examples
    --------
    >>> import torch, torchio
    >>> a, b = (torchio.ScalarImage(tensor=torch.rand(1, 32, 40, 1)) for _ in range(2))
    >>> Fuse(["mri", "ct"])(torchio.Subject(mri=a, ct=b)).fused.shape
    (1, 32, 40, 1)
    """

    def __init__(
        self, names: Sequence[str], out: str = "fused", options: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.names, self.out, self.options = list(names), out, options
        self.args_names = ["names", "out", "options"]

    def apply_transform(self, subject: Subject) -> Subject:
        """Return the subject with the fused image in it."""
        images = [subject[name] for name in self.names]
        for name, image in zip(self.names[1:], images[1:], strict=True):
            if not np.allclose(image.affine, images[0].affine, atol=1e-3):
                raise ValueError(
                    f"{name}: is not on the grid of {self.names[0]}; bring it there first, by "
                    f"torchio.Resample({self.names[0]!r})"
                )
        tensors = [image.data for image in images]
        if tensors[0].shape[-1] == 1:
            fused = fuse(*[x[..., 0] for x in tensors], **(self.options or {}))[..., None]
        else:
            fused = fuse(*tensors, **{"spatial": 3, "slice_axis": 2, **(self.options or {})})
        subject.add_image(ScalarImage(tensor=fused, affine=images[0].affine), self.out)
        return subject
