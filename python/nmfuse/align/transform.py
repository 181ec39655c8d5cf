"""What takes the places of one image to those of another: kept in files, combined, applied at once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from nmfuse.align.interpolation import interpolated, spline_coefficients
from nmfuse.align.models import MODELS
from nmfuse.align.resampling import Finished, onto_grid, sampled, simple_itk, working_dtype
from nmfuse.images import Image
from nmfuse.io import new_file
from nmfuse.io.orientation import LPS_TO_RAS
from nmfuse.kernels import num_threads

_FORMAT = "nmfuse transform 1"
_SLAB = 1 << 15  # pixels that are interpolated at once, so few that torch takes no threads of its own for them


@dataclass(frozen=True, eq=False)
class Transform:
    """A transform from positions in the fixed image to positions in the moving image.

    Attributes
    ----------
    matrix : float64 array, shape (n + 1, n + 1) for n axes
        The homogeneous matrix. In pixels, it takes row and column of the fixed image, counted from 0 at the centre of
        the first pixel, to those of the moving image. In mm, it takes positions of the fixed image's `Grid` to those of
        the moving image's.
    model : str
        The kind of transform: "translation", "rigid", "similarity", "affine", "homography" or "deformable".
    unit : str
        The unit of positions, "pixel" or "mm".
    field : float64 array, shape (2, h, w), optional
        For a deformable transform, the row and column that are added before the matrix is applied, at nodes that are
        `step` pixels apart, beginning at the first pixel of the fixed image; values in between are interpolated
        linearly.
    step : float
        The distance from one node of `field` to the next, in pixels.

    Raises
    ------
    ValueError
        For an unknown model or unit, or if the matrix or field has the wrong form.

    Examples
    --------
    >>> shift = Transform.translation(3, -2)
    >>> shift(np.array([10.0, 10.0]))
    array([13.,  8.])
    >>> (shift.inverse() @ shift).matrix.round().tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """

    matrix: np.ndarray
    model: str = "affine"
    unit: str = "pixel"
    field: np.ndarray | None = field(default=None, repr=False)
    step: float = 0.0

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, np.float64)
        if matrix.shape not in ((3, 3), (4, 4)) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
            raise ValueError(f"matrix: got {matrix.tolist()}; expected (3, 3) or (4, 4), finite, with an inverse")
        if self.model not in MODELS:
            raise ValueError(f"model: got {self.model!r}; expected one of {', '.join(MODELS)}")
        if self.unit not in ("pixel", "mm"):
            raise ValueError(f"unit: got {self.unit!r}; expected pixel or mm")
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)
        if self.field is not None:
            nodes = np.array(self.field, np.float64)
            if nodes.ndim != 3 or len(nodes) != 2 or not self.step > 0 or not np.isfinite(nodes).all():
                raise ValueError(
                    f"field: shape {nodes.shape}, step {self.step}; expected (2, h, w), finite, a step > 0"
                )
            object.__setattr__(self, "field", nodes)

    @classmethod
    def translation(cls, rows: float, columns: float) -> Transform:
        """Return a shift in pixels."""
        return cls(np.array([[1, 0, rows], [0, 1, columns], [0, 0, 1.0]]), "translation")

    @classmethod
    def scaling(cls, fixed: tuple[int, ...], moving: tuple[int, ...]) -> Transform:
        """Return what takes an image of one size (rows, columns) to one of another: the same picture, resized."""
        matrix = np.eye(3)
        for axis, (n, m) in enumerate(zip(fixed, moving, strict=True)):
            matrix[axis, axis], matrix[axis, 2] = m / n, (m / n - 1) / 2
        return cls(matrix, "affine")

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Return where places (n, ...) of the fixed image lie in the moving one."""
        places = np.asarray(places, np.float64)
        n = len(self.matrix) - 1
        if self.field is not None:
            nodes = places / self.step
            places = places + [
                ndimage.map_coordinates(x, nodes.reshape(2, -1), order=1, mode="nearest").reshape(places.shape[1:])
                for x in self.field
            ]
        ahead = np.tensordot(self.matrix[:, :n], places, 1) + self.matrix[:, n].reshape(-1, *[1] * (places.ndim - 1))
        return np.asarray(ahead[:n] if (self.matrix[n, :n] == 0).all() else ahead[:n] / ahead[n:])

    def __matmul__(self, first: Transform) -> Transform:
        """Return one that does what `first` does, and then this one.

        Raises
        ------
        ValueError
            If their units or axes differ, or `self` is deformable.
        """
        if (self.unit, self.matrix.shape) != (first.unit, first.matrix.shape):
            raise ValueError(
                f"transforms: {len(first.matrix) - 1} axes in {first.unit}, then {len(self.matrix) - 1} in "
                f"{self.unit}; expected both alike"
            )
        if self.field is not None:
            raise ValueError("transforms: the second is deformable; only the first may be, apply them one by one")
        model = max(self.model, first.model, key=MODELS.index)
        return replace(first, matrix=self.matrix @ first.matrix, model=model)

    def inverse(self) -> Transform:
        """Return the transform from positions in the moving image to positions in the fixed image.

        Raises
        ------
        ValueError
            If the transform is deformable.
        """
        if self.field is not None:
            raise ValueError("model: is deformable, which has no inverse here; register the images the other way round")
        return replace(self, matrix=np.linalg.inv(self.matrix))

    def apply(self, image: Image, like: Image, *, interpolation: str | None = None) -> Image:
        """Return an image resampled onto the pixels of the fixed image, with a single interpolation.

        Parameters
        ----------
        image : Image
            The moving image, or another image that is registered with it, with NumPy pixels of any dtype that
            `nmfuse.fuse` takes.
        like : Image
            The fixed image, or another image on the same pixels. The result has its size and its grid.
        interpolation : str, optional
            "nearest", which never mixes values and is right for labels; "linear"; or "bspline", which is cubic,
            sharper, and may overshoot. The default is "bspline" in pixels and "linear" in mm.

        Returns
        -------
        Image
            The resampled image, in the dtype of `image` and with its metadata. Pixels that lie outside of `image`, or
            where it is not valid, are not valid.

        Raises
        ------
        ValueError
            If the image lies entirely outside, if it has no grid and the transform is in mm, or for an unknown
            interpolation.

        References
        ----------
        "bspline": Unser, Aldroubi & Eden, "B-spline signal processing", IEEE Trans. Signal Process. 41 (1993).

        Examples
        --------
        >>> image = Image(np.arange(12, dtype=np.uint8).reshape(3, 4))
        >>> moved = Transform.translation(0, 1).apply(image, image)
        >>> moved.pixels[0], moved.valid[0]
        (array([1, 2, 3, 0], dtype=uint8), array([ True,  True,  True, False]))
        """
        if self.unit == "mm":
            if like.grid is None:
                raise ValueError(f"{like.name or 'like'}: has no grid, and the transform is in mm; give one that has")
            return onto_grid(image, like.grid, self.matrix, interpolation or "linear")
        if image.spatial != 2 or like.spatial != 2:
            raise ValueError(f"{image.name or 'image'}: is a volume, and the transform is in pixels of two axes")
        orders = {"nearest": 0, "linear": 1, "bspline": 3}
        if (order := orders.get(interpolation or "bspline")) is None:
            raise ValueError(f"interpolation: got {interpolation!r}; expected one of {', '.join(orders)}")

        def take(pixels: np.ndarray, valid: np.ndarray | None, finished: Finished) -> tuple[np.ndarray, np.ndarray]:
            return self._interpolated(pixels, valid, like.shape[:2], order, finished)

        return sampled(image, take, like.spacing, like.grid, "the fixed image")

    def _interpolated(
        self, pixels: np.ndarray, valid: np.ndarray | None, shape: tuple[int, ...], order: int, finished: Finished
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixels (H, W) or (H, W, C) at the places of a fixed image of this shape, and which are valid."""
        planes, work = np.moveaxis(np.atleast_3d(pixels), 2, 0), working_dtype(pixels.dtype)
        planes = spline_coefficients(planes, work) if order == 3 else planes.astype(work, order="C")
        mask = None if valid is None else valid[None].astype(np.float32)
        last = np.array(pixels.shape[:2])[:, None, None] - 1
        result, shown = np.empty((*shape, len(planes)), pixels.dtype), np.empty(shape, bool)
        rows = max(1, _SLAB // shape[1])

        def fill(start: int) -> None:
            part = slice(start, start + rows)
            places = self._places(start, len(shown[part]), shape[1])
            shown[part] = ((places >= -1e-6) & (places <= last + 1e-6)).all(0)
            if mask is not None:
                shown[part] &= interpolated(mask, places, 0)[0].numpy() > 0
            result[part] = finished(interpolated(planes, places, order).movedim(0, -1).numpy())

        with ThreadPoolExecutor(num_threads()) as pool:
            list(pool.map(fill, range(0, shape[0], rows)))
        return result.reshape(*shape, *pixels.shape[2:]), shown

    def _places(self, start: int, rows: int, columns: int) -> np.ndarray:
        """Return where the pixels of some rows of the fixed image lie in the moving one, (2, rows, columns)."""
        row, column = np.arange(start, start + rows, dtype=np.float64)[:, None], np.arange(columns, dtype=np.float64)
        if self.field is not None or (self.matrix[2, :2] != 0).any():
            return self(np.stack(np.broadcast_arrays(row, column)))
        matrix = self.matrix / self.matrix[2, 2]
        return np.stack([(down * row + shift) + right * column for down, right, shift in matrix[:2]])

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the transform to a file: JSON if it is in pixels, the .tfm format of ITK if it is in mm.

        Raises
        ------
        ValueError
            If the suffix is not .json (in pixels) or .tfm (in mm).
        FileExistsError, FileNotFoundError, PermissionError
            See `nmfuse.io.check_file`.

        Examples
        --------
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "x.json"
        >>> Transform.translation(3, -2).save(path)
        >>> Transform.load(path).matrix[:2, 2]
        array([ 3., -2.])
        """
        suffix = ".tfm" if self.unit == "mm" else ".json"
        if Path(path).suffix != suffix:
            raise ValueError(f"{path}: a transform in {self.unit} is kept as {suffix}; name the file so")
        with new_file(path, overwrite=overwrite) as temporary:
            if self.unit == "mm":
                simple_itk().WriteTransform(self._to_itk(), str(temporary))
                return
            kept: dict[str, Any] = {
                "format": _FORMAT,
                "model": self.model,
                "axes": "row, column of the fixed image, in pixels, to those of the moving image",
                "matrix": self.matrix.tolist(),
            }
            if self.field is not None:
                kept |= {"step": self.step, "field": self.field.round(4).tolist()}
            temporary.write_text(json.dumps(kept, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Transform:
        """Read a file that `save` wrote, or a linear transform that ITK wrote (.tfm, .txt, .mat, .h5).

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no transform, or one that is neither a matrix nor one of ours.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        if path.suffix == ".json":
            try:
                kept = json.loads(path.read_text())
                if kept.get("format") != _FORMAT:
                    raise ValueError(f"its format is {kept.get('format')!r}, expected {_FORMAT!r}")
                return cls(kept["matrix"], kept["model"], "pixel", kept.get("field"), kept.get("step", 0.0))
            except (ValueError, KeyError, AttributeError, UnicodeDecodeError) as error:
                raise ValueError(f"{path}: is no transform that nmfuse wrote ({error})") from error
        sitk = simple_itk()
        try:
            found = sitk.ReadTransform(str(path))
        except RuntimeError as error:
            raise ValueError(f"{path}: is no transform that ITK reads") from error
        if not found.IsLinear() or found.GetDimension() != 3:
            raise ValueError(
                f"{path}: is a {found.GetName()} of {found.GetDimension()} axes; expected a linear one of 3"
            )
        zero = np.array(found.TransformPoint((0.0, 0.0, 0.0)))
        lps = np.eye(4)
        lps[:3, :3] = np.array([found.TransformPoint(row) for row in np.eye(3).tolist()]).T - zero[:, None]
        lps[:3, 3] = zero
        return cls(LPS_TO_RAS @ lps @ LPS_TO_RAS, "affine", "mm")

    def _to_itk(self) -> Any:
        """Return the SimpleITK transform of a matrix in mm."""
        sitk = simple_itk()
        if len(self.matrix) != 4:
            raise ValueError(f"matrix: has {len(self.matrix) - 1} axes; expected 3, ITK's files are of volumes")
        lps = LPS_TO_RAS @ self.matrix @ LPS_TO_RAS
        result: Any = sitk.AffineTransform(3)
        result.SetMatrix(lps[:3, :3].ravel().tolist())
        result.SetTranslation(lps[:3, 3].tolist())
        return result
