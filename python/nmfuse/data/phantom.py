"""A digital brain phantom: one axial slice at the level of the basal ganglia, or several, seen by MRI, CT and PET.

All geometry is analytic and in millimetres (x to the right, y to the back, the origin in mid-brain), so that
a seed is the same head at every size. The head is an egg; sulci walk inwards from the surface of the brain,
and cortex is what lies within 3 mm of their fluid; nuclei, ventricles and a tumour are ellipses; a smooth
random deformation bends it all.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

FIELD_OF_VIEW = 220.0  # mm
_HALF_WIDTH, _HALF_LENGTH = 70.0, 87.0  # of the inside of the skull, mm
_LEAN = 0.2  # of the head forwards: what lies above is not what lies below
_HALF_HEIGHT, _HEIGHT = 70.0, 90.0  # of the head as an ellipsoid, and of what volumes show of it, mm
_CORTEX = 3.0  # thickness, mm
_FISSURE = 0.25  # bend, in radians, of the great fissures, which nothing stops
_PET_FWHM = 6.0  # mm
_PET_COUNTS = 8.0  # per mm² at full activity: 4 % noise after the blur
_MRI_SIGMA, _CT_SIGMA = 0.02, 0.008
_BIAS = 0.12  # greatest relative change of the MRI's sensitivity

# label: (name, T1, T2, CT, PET), 1 at full scale; the CT's window does not saturate bone
_TISSUES = (
    ("background", 0.00, 0.00, 0.00, 0.00),
    ("skin", 0.42, 0.30, 0.27, 0.03),
    ("fat", 0.90, 0.62, 0.13, 0.02),
    ("bone", 0.05, 0.04, 0.95, 0.00),
    ("diploe", 0.38, 0.30, 0.66, 0.00),
    ("csf", 0.15, 0.95, 0.20, 0.03),
    ("grey matter", 0.50, 0.56, 0.31, 0.85),
    ("white matter", 0.73, 0.37, 0.275, 0.26),
    ("deep grey matter", 0.58, 0.46, 0.32, 0.90),
    ("pallidum", 0.66, 0.30, 0.33, 0.62),
    ("ventricle", 0.13, 0.98, 0.19, 0.02),
    ("tumour", 0.40, 0.70, 0.29, 1.00),
    ("necrosis", 0.26, 0.86, 0.24, 0.08),
    ("oedema", 0.54, 0.78, 0.235, 0.20),
    ("calcification", 0.16, 0.07, 0.90, 0.05),
)
_LABEL = {tissue[0]: label for label, tissue in enumerate(_TISSUES)}

# (label, x, y, half-axes, tilt in degrees) of what lies on either side; the tilt turns the front outwards
_PAIRED = (
    ("ventricle", 8.0, -23.0, 4.0, 12.0, 22.0),  # frontal horn
    ("ventricle", 24.0, 31.0, 4.5, 13.0, -20.0),  # trigone
    ("deep grey matter", 15.5, -21.0, 4.2, 9.5, 20.0),  # head of the caudate
    ("deep grey matter", 9.0, 5.0, 7.5, 13.0, -24.0),  # thalamus
    ("deep grey matter", 29.0, -5.0, 4.5, 15.5, -12.0),  # putamen
    ("pallidum", 22.5, -3.0, 3.2, 9.5, -20.0),
)
_MIDLINE = (
    ("ventricle", 0.0, 4.0, 1.7, 11.0, 0.0),  # third ventricle
    ("csf", 0.0, 27.0, 4.5, 4.0, 0.0),  # cistern of the great vein
)


@dataclass(frozen=True, eq=False)
class BrainPhantom:
    """One slice or volume of a head in four modalities, which are registered by construction.

    Attributes
    ----------
    t1, t2, ct, pet
        The head as each modality shows it, of shape (size, size) or (depth, size, size), float32 in [0, 1].
    labels
        The tissue that fills most of each pixel, as an index into `label_names`, of the same shape, uint8.
    label_names
        The names of the tissues.
    """

    t1: NDArray[np.float32]
    t2: NDArray[np.float32]
    ct: NDArray[np.float32]
    pet: NDArray[np.float32]
    labels: NDArray[np.uint8]
    label_names: tuple[str, ...]


def brain_phantom(
    size: int = 256, seed: int = 0, *, noise: bool = True, lesion: bool = True, depth: int | None = None
) -> BrainPhantom:
    """Draw a brain slice, or a volume of them, and render it as T1 and T2 MRI, CT and FDG-PET.

    Pixels are drawn at twice the size and averaged (partial volume). MRI has a smooth bias field and Rician
    noise (Gudbjartsson & Patz, Magn. Reson. Med. 34 (1995) 910-914), CT has Gaussian noise, PET has Poisson
    counts and a resolution of 6 mm.

    Parameters
    ----------
    size
        The height and width in pixels, at least 64; the field of view is 220 mm whatever the size.
    seed
        A non-negative number that determines the head, its lesion and the noise.
    noise
        False gives the ground truth, with partial volume and the blur of PET, but without noise and bias.
    lesion
        Whether there is a tumour with oedema and a calcification.
    depth
        The number of slices of a volume; by default a single slice is drawn, without that axis. The slices are as far
        apart as the pixels of a slice, and the slice of this seed is in their middle. From there the head, with
        everything in it, leans and narrows like an ellipsoid; the tumour is a ball; the noise differs between slices.
        Together the slices are at most 90 mm high.

    Returns
    -------
    BrainPhantom
        The pictures, float32 in [0, 1], and a uint8 label map, each of shape (size, size) or (depth, size, size).

    Raises
    ------
    TypeError
        If `size`, `seed` or `depth` is not an integer.
    ValueError
        If `size` is below 64, `seed` is negative, or `depth` is below 1 or more than 90 mm.

    Examples
    --------
    >>> phantom = brain_phantom(64)
    >>> phantom.ct.shape, phantom.label_names[3]
    ((64, 64), 'bone')
    >>> brain_phantom(64, depth=5).pet.shape
    (5, 64, 64)
    """
    size, seed = _integer("size", size, 64), _integer("seed", seed, 0)
    if depth is None:
        return _slice(size, seed, 0, 0.0, noise=noise, lesion=lesion)
    depth, spacing = _integer("depth", depth, 1), FIELD_OF_VIEW / size
    if depth * spacing > _HEIGHT:
        raise ValueError(
            f"depth: got {depth}, which is {depth * spacing:.0f} mm; expected at most {int(_HEIGHT / spacing)} slices "
            f"of {spacing:.2g} mm, {_HEIGHT:.0f} mm in all"
        )
    middle = (depth - 1) // 2
    slices = [_slice(size, seed, k - middle, (k - middle) * spacing, noise=noise, lesion=lesion) for k in range(depth)]
    t1, t2, ct, pet, labels = (
        np.stack([getattr(one, name) for one in slices]) for name in ("t1", "t2", "ct", "pet", "labels")
    )
    return BrainPhantom(t1, t2, ct, pet, labels, slices[0].label_names)


def _slice(size: int, seed: int, place: int, height: float, *, noise: bool, lesion: bool) -> BrainPhantom:
    """Draw and render the slice at a height in mm above that of the seed, the `place`-th from there."""
    # geometry and noise have streams of their own: the head stays when size or noise change
    geometry, acquisition = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    fine = _label_map(2 * size, geometry, lesion, height)
    t1, t2, ct, pet = (_halve(np.array([tissue[column] for tissue in _TISSUES])[fine]) for column in range(1, 5))
    if noise:
        axis = _axis(size)
        bias = _smooth_noise(acquisition, axis, wavelength=160.0)
        if place != 0:  # the field is that of all slices
            acquisition = np.random.default_rng([seed, abs(place), int(place > 0)])
        t1, t2 = (_rician(acquisition, image * (1 + _BIAS * bias)) for image in (t1, t2))
        # air lies far below the window of the CT, and its noise with it
        ct = ct + np.where(ct > 0, acquisition.normal(0, _CT_SIGMA, ct.shape), 0)
        counts = _PET_COUNTS * (FIELD_OF_VIEW / size) ** 2
        pet = acquisition.poisson(counts * pet) / counts
    pet = _blur(pet, _PET_FWHM / 2.3548 * size / FIELD_OF_VIEW)
    return BrainPhantom(_shown(t1), _shown(t2), _shown(ct), _shown(pet), _majority(fine), tuple(_LABEL))


def pet_rgb(pet: ArrayLike) -> NDArray[np.uint8]:
    """Colour a PET image from black over red and yellow to white.

    Parameters
    ----------
    pet
        The activity in [0, 1], of any shape; values outside are clipped.

    Returns
    -------
    ndarray
        The colours, as uint8 RGB of shape (..., 3).

    Examples
    --------
    >>> pet_rgb([0.0, 1.0]).tolist()
    [[0, 0, 0], [255, 255, 255]]
    """
    knots = (0.0, 0.2, 0.45, 0.75, 1.0)
    channels = ((0, 70, 220, 255, 255), (0, 0, 40, 190, 255), (0, 60, 20, 30, 255))
    values = np.asarray(pet, np.float64)
    rgb = np.stack([np.interp(values, knots, channel) for channel in channels], axis=-1)
    return np.rint(rgb).astype(np.uint8)


def _integer(name: str, value: int, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: got {value!r}, expected an integer of at least {least}") from None
    if number < least:
        raise ValueError(f"{name}: got {number}, expected at least {least}")
    return number


# ---- geometry ----


def _axis(n: int) -> Floats:
    return ((np.arange(n) + 0.5) / n - 0.5) * FIELD_OF_VIEW


def _smooth_noise(rng: np.random.Generator, axis: Floats, wavelength: float) -> Floats:
    """Return 16 plane waves of about one wavelength, summed: within about [-1, 1] on the grid of `axis`."""
    angle, phase = rng.uniform(0, 2 * np.pi, (2, 16))
    k = 2 * np.pi / (wavelength * rng.uniform(0.8, 1.4, 16))
    along_y = np.exp(1j * np.outer(axis, k * np.sin(angle)))  # cos(kx x + ky y + phase) is separable as exp
    along_x = np.exp(1j * (np.outer(k * np.cos(angle), axis) + phase[:, None]))
    return np.asarray((along_y @ along_x).real / 6)


def _depth(x: Floats, y: Floats) -> Floats:
    """Return the depth below the inside of the skull in mm (negative outside), to first order in distance."""
    half_width = _HALF_WIDTH * (1 + 0.07 * y / _HALF_LENGTH)  # the forehead is narrower
    rho = np.hypot(x / half_width, y / _HALF_LENGTH)
    slope = np.hypot(x / half_width**2, y / _HALF_LENGTH**2) / np.maximum(rho, 1e-9)
    return np.asarray((1 - rho) / np.maximum(slope, 1e-9))


def _ellipse(x: Floats, y: Floats, cx: float, cy: float, a: float, b: float, tilt: float) -> Floats:
    """Return the level of a point about an ellipse: 0 at its centre, 1 on its edge."""
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    return np.asarray(np.hypot((c * (x - cx) + s * (y - cy)) / a, (c * (y - cy) - s * (x - cx)) / b))


def _label_map(n: int, rng: np.random.Generator, lesion: bool, height: float = 0.0) -> NDArray[np.uint8]:
    """Draw the tissues on an n × n grid, at a height in mm above the middle of the head."""
    axis = _axis(n) / np.sqrt(1 - (height / _HALF_HEIGHT) ** 2)  # an ellipsoid: narrower above and below
    x = axis[None, :] + 2.5 * _smooth_noise(rng, axis, 70.0)
    y = axis[:, None] + 2.5 * _smooth_noise(rng, axis, 70.0) + _LEAN * height
    rough = _smooth_noise(rng, axis, 14.0)
    depth = _depth(x, y)
    labels = np.zeros((n, n), np.uint8)

    # from the outside in: skin, fat, two tables of bone with the diploe between, fluid
    thickness = 6.5 + 1.5 * np.cos(2 * np.arctan2(x, y)) + 0.3 * rough
    outer = depth + thickness  # depth below the outside of the skull
    labels[outer > -6.0 - 0.15 * rough] = _LABEL["skin"]
    labels[outer > -4.2 + 0.2 * rough] = _LABEL["fat"]
    labels[outer > 0] = _LABEL["bone"]
    labels[(outer > 0.3 * thickness) & (outer < 0.68 * thickness)] = _LABEL["diploe"]
    labels[depth > 0] = _LABEL["csf"]

    inside = depth > 0
    fold = np.full((n, n), -1.0)
    fold[inside] = _below_pia(x[inside], y[inside], depth[inside] - 2.2 - 0.8 * rough[inside], _sulci(rng))
    labels[fold > 0] = _LABEL["grey matter"]
    labels[fold > _CORTEX + 0.5 * rough] = _LABEL["white matter"]

    scale = {"ventricle": rng.uniform(0.85, 1.25), "csf": 1.0, "deep grey matter": 1.0, "pallidum": 1.0}
    for side in (-1.0, 1.0):
        for name, cx, cy, a, b, tilt in _PAIRED[::-1]:  # ventricles last
            level = _ellipse(side * x, y, cx, cy, a, b, tilt)
            labels[level < scale[name] + 0.08 * rough] = _LABEL[name]
    for name, cx, cy, a, b, tilt in _MIDLINE:
        labels[_ellipse(x, y, cx, cy, a, b, tilt) < scale[name]] = _LABEL[name]
    for cx, cy in ((0.0, 18.5), (-23.0, 28.0), (23.0, 28.0)):  # pineal gland and choroid plexus
        labels[np.hypot(x - cx, y - cy) < rng.uniform(1.0, 2.2)] = _LABEL["calcification"]
    if lesion:
        _draw_lesion(labels, x, y, depth, rough, rng, height)
    return labels


def _below_pia(x: Floats, y: Floats, depth: Floats, sulci: Floats) -> Floats:
    """Return the distance in mm to the nearest fluid at the outside of the brain: its surface or a sulcus."""
    from scipy.spatial import cKDTree

    reach = 12.0
    distance, nearest = cKDTree(sulci[:, :2]).query(np.column_stack([x, y]), distance_upper_bound=reach)
    found = np.isfinite(distance)
    width = np.where(found, sulci[np.where(found, nearest, 0), 2], 0)
    bank = np.where(found, distance, reach) - width
    # a circular fillet of 4 mm rounds the crowns of the gyri
    r = 4.0
    fillet = r - np.hypot(np.maximum(r - depth, 0), np.maximum(r - bank, 0))
    return np.asarray(np.minimum(np.minimum(depth, bank), fillet))


def _sulci(rng: np.random.Generator) -> Floats:
    """Let sulci walk; return their points as rows of x, y and half-width in mm, every 0.5 mm."""
    paths: list[Floats] = []

    def near(x: float, y: float, parent: Floats | None = None) -> float:
        """Return the distance to the nearest sulcus other than the parent."""
        others = [np.hypot(path[:, 0] - x, path[:, 1] - y).min() for path in paths if path is not parent]
        return min(others, default=np.inf)

    def walk(
        start: Floats, heading: float, length: float, width: float, bend: float, parent: Floats | None = None
    ) -> Floats:
        """Meander until `length` is reached, or the nuclei or another sulcus are close."""
        (x, y), wavelength, phase = start, rng.uniform(14, 24), rng.uniform(0, 2 * np.pi)
        points = [(x, y, width)]
        for s in np.arange(0.5, length, 0.5):
            turned = heading + bend * np.sin(2 * np.pi * s / wavelength + phase)
            x, y = x + 0.5 * np.cos(turned), y + 0.5 * np.sin(turned)
            close = s > 4 and near(x, y, parent) < 6.8
            if bend > _FISSURE and (close or _ellipse(x, y, 0.0, 2.0, 37.0, 46.0, 0.0) < 1):
                break
            points.append((x, y, width))
        paths.append(np.array(points))
        return paths[-1]

    def branch(trunk: Floats, at: float, turn: float, length: float) -> None:
        i = int(at * (len(trunk) - 2))
        dx, dy = trunk[i + 1, :2] - trunk[i, :2]
        walk(trunk[i, :2], np.arctan2(dy, dx) + turn, length, 0.5, 0.4, trunk)

    # the fissure between the hemispheres, and the medial sulci that leave it
    front = walk(np.array([0.0, -_HALF_LENGTH]), np.pi / 2, 43, 0.9, 0)
    back = walk(np.array([0.0, _HALF_LENGTH]), -np.pi / 2, 56, 0.9, 0)
    for trunk, at in ((front, 0.35), (front, 0.75), (back, 0.2), (back, 0.5), (back, 0.8)):
        for side in (-1.0, 1.0):
            branch(trunk, at + rng.uniform(-0.07, 0.07), side * rng.uniform(1.0, 1.7), rng.uniform(8, 16))
    # the Sylvian fissures, each with the insula at its end
    for side in (-1.0, 1.0):
        start = np.array([side * 0.98 * _HALF_WIDTH, rng.uniform(-18, -10)])
        stem = walk(start, np.pi / 2 + side * (np.pi / 2 - 0.25), 25, 1.5, _FISSURE)
        for turn, length in ((-1.0, 12.0), (1.0, 20.0)):
            walk(stem[-1, :2], turn * np.pi / 2 + side * 0.15, length, 1.1, _FISSURE)
    # the others, deep and shallow in turn
    count = 46
    for k, angle in enumerate(2 * np.pi * (np.arange(count) + rng.uniform(-0.25, 0.25, count)) / count):
        start = np.array([_HALF_WIDTH * np.cos(angle), _HALF_LENGTH * np.sin(angle)])
        length = rng.uniform(20, 32) if k % 2 == 0 else rng.uniform(8, 15)
        if near(*start) < 7:
            continue
        inwards = np.arctan2(-start[1] / _HALF_LENGTH**2, -start[0] / _HALF_WIDTH**2)
        trunk = walk(start, inwards + rng.normal(0, 0.25), length, rng.uniform(0.5, 0.9), 0.75)
        if len(trunk) > 26:
            turn = rng.choice([-1, 1]) * rng.uniform(0.9, 1.5)
            branch(trunk, rng.uniform(0.5, 0.8), turn, rng.uniform(6, 11))
    return np.concatenate(paths)


def _draw_lesion(
    labels: NDArray[np.uint8],
    x: Floats,
    y: Floats,
    depth: Floats,
    rough: Floats,
    rng: np.random.Generator,
    height: float,
) -> None:
    """Draw a tumour with necrosis and calcification; its oedema spreads in white matter alone."""
    side, end = rng.choice([-1, 1], 2)
    cx, cy = side * rng.uniform(26, 36), end * rng.uniform(36, 44)
    radius = rng.uniform(10, 13)
    distance = _ellipse(x, y, cx, cy, 1.0, rng.uniform(0.85, 1.15), rng.uniform(0, 180)) + 1.2 * rough
    distance = np.hypot(distance, height) if height else distance  # a ball
    brain = (depth > 4) & (labels != _LABEL["ventricle"])
    labels[(labels == _LABEL["white matter"]) & (distance < radius + 9 + 3 * rough)] = _LABEL["oedema"]
    labels[brain & (distance < radius)] = _LABEL["tumour"]
    labels[brain & (distance < 0.45 * radius)] = _LABEL["necrosis"]
    angle = rng.uniform(0, 2 * np.pi)
    spot = np.hypot(x - cx - 0.65 * radius * np.cos(angle), y - cy - 0.65 * radius * np.sin(angle))
    spot = np.hypot(spot, height) if height else spot
    labels[brain & (spot < 2.6 + 0.6 * rough)] = _LABEL["calcification"]


# ---- rendering ----


def _shown(image: Floats) -> NDArray[np.float32]:
    return np.clip(image, 0, 1).astype(np.float32)


def _halve(image: Floats) -> Floats:
    n = len(image) // 2
    return np.asarray(image.reshape(n, 2, n, 2).mean(axis=(1, 3)))


def _majority(fine: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the most frequent label of each 2 × 2 cell; the higher one in a tie."""
    n = len(fine) // 2
    cells = fine.reshape(n, 2, n, 2).swapaxes(1, 2).reshape(n, n, 4)
    votes = (cells[..., :, None] == cells[..., None, :]).sum(-1)  # how many of the cell agree with each
    best = np.argmax(votes * len(_TISSUES) + cells, axis=-1)
    return np.asarray(np.take_along_axis(cells, best[..., None], axis=-1)[..., 0])


def _rician(rng: np.random.Generator, signal: Floats) -> Floats:
    real, imaginary = rng.normal(0, _MRI_SIGMA, (2, *signal.shape))
    return np.asarray(np.hypot(signal + real, imaginary))


def _blur(image: Floats, sigma: float) -> Floats:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(image, sigma, mode="constant"))
