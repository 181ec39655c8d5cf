"""Registration by mutual information, by SimpleITK."""

from __future__ import annotations

from typing import Any

import numpy as np

from nmfuse.align.resampling import simple_itk
from nmfuse.align.transform import Transform
from nmfuse.images import Grid, Image
from nmfuse.images.luma import luminance
from nmfuse.kernels import num_threads

_BINS = 32
_SHRINK = (4, 2, 1)  # of the levels, as far as the shortest side keeps _SIDE pixels
_SIDE = 12
_SAMPLES = 100_000  # pixels that are looked at on each level, about
_SMOOTHED = 2.0  # standard deviation in pixels, of images of two axes: less, and interpolation makes false optima
_SEED = 1  # of where samples lie within their pixels, so that the same images give the same transform


def register_by_information(moving: Image, fixed: Image, model: str) -> Transform:
    """Return the transform of greatest Mattes mutual information, coarse to fine; see `nmfuse.align.register`.

    In mm where the images have grids. It starts where the grids say, or with centres or centres of mass on one another,
    by what tells most.
    """
    sitk = simple_itk()
    a, b = _image_of(fixed), _image_of(moving)
    axes = a.GetDimension()
    kinds = {"translation": "TranslationTransform", "affine": "AffineTransform"}
    name = kinds.get(model) or {"rigid": "Euler", "similarity": "Similarity"}[model] + f"{axes}DTransform"
    registration: Any = sitk.ImageRegistrationMethod()
    registration.SetNumberOfThreads(num_threads())
    registration.SetMetricAsMattesMutualInformation(_BINS)
    registration.SetInterpolator(sitk.sitkLinear)
    for image, set_mask in ((fixed, registration.SetMetricFixedMask), (moving, registration.SetMetricMovingMask)):
        if image.valid is not None:
            mask = sitk.GetImageFromArray(np.asarray(image.valid, np.uint8))
            mask.CopyInformation(a if image is fixed else b)
            set_mask(mask)
    registration.SetMetricSamplingStrategy(registration.REGULAR)
    shrink = [factor for factor in _SHRINK if factor == 1 or min(a.GetSize()) // factor >= _SIDE]
    shares = [min(1.0, _SAMPLES * factor**axes / a.GetNumberOfPixels()) for factor in shrink]
    registration.SetMetricSamplingPercentagePerLevel(shares, _SEED)
    registration.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0 * min(a.GetSpacing()),
        minStep=1e-3 * min(a.GetSpacing()),
        numberOfIterations=200,
        relaxationFactor=0.7,
        gradientMagnitudeTolerance=1e-6,
    )
    registration.SetOptimizerScalesFromPhysicalShift()
    registration.SetShrinkFactorsPerLevel(shrink)
    registration.SetSmoothingSigmasPerLevel(
        [_SMOOTHED if axes == 2 else factor / 2 if factor > 1 else 0.0 for factor in shrink]
    )
    registration.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(False)
    best = None
    middle = a.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in a.GetSize()])
    for where in _starts(a, b):
        transform: Any = getattr(sitk, name)(*[axes] * (model in kinds))
        if model != "translation":
            transform.SetCenter(middle)
            transform.SetTranslation(where.tolist())
        else:
            transform.SetOffset(where.tolist())
        registration.SetInitialTransform(transform, True)
        try:
            value = registration.MetricEvaluate(a, b)
        except RuntimeError:  # they do not overlap
            continue
        if best is None or value < best[0]:
            best = value, transform
    if best is None:
        raise ValueError("moving: has nothing in common with fixed, wherever it is put; are they of one thing?")
    registration.SetInitialTransform(best[1], True)
    registration.Execute(a, b)
    matrix = np.eye(axes + 1)
    matrix[:axes, axes] = best[1].TransformPoint([0.0] * axes)
    for axis, row in enumerate(np.eye(axes)):
        matrix[:axes, axis] = np.array(best[1].TransformPoint(row.tolist())) - matrix[:axes, axes]
    if fixed.grid is not None:
        return Transform(matrix, model, "mm")
    backwards = [1, 0, 2]  # ITK counts x, y
    return Transform(matrix[backwards][:, backwards], model)


def _image_of(image: Image) -> Any:
    """Return the luminance as a SimpleITK image, where its grid says, in the grid's own mm."""
    sitk = simple_itk()
    values = luminance(image)
    values = np.asarray(np.nan_to_num(values.astype(np.float32)))
    result = sitk.GetImageFromArray(values)
    if image.grid is not None:
        grid: Grid = image.grid
        axes = len(grid.shape)
        result.SetOrigin(grid.affine[:axes, axes].tolist())
        result.SetSpacing(grid.spacing[::-1])
        result.SetDirection((grid.affine[:axes, :axes] / grid.spacing)[:, ::-1].ravel().tolist())
    return result


def _starts(a: Any, b: Any) -> list[np.ndarray]:
    """Return shifts to begin with: none, between centres, between centres of mass."""
    sitk = simple_itk()
    axes = a.GetDimension()
    found = [np.zeros(axes)]
    for mode in ("GEOMETRY", "MOMENTS"):
        kind = getattr(sitk, f"Euler{axes}DTransform")()
        start = sitk.CenteredTransformInitializer(a, b, kind, getattr(sitk.CenteredTransformInitializerFilter, mode))
        found.append(np.array(sitk.Transform(start).GetParameters()[-axes:]))
    return found
