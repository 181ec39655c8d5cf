"""NSCT-PC: contourlets, phase congruency for the details and local Laplacian energy for the low band."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nmfuse.methods.base import Plane, Planes, Rival
from nmfuse.methods.rivals.contourlets import check_directions, decompose, reconstruct
from nmfuse.methods.rivals.rules import choose


@dataclass(frozen=True)
class NsctPc(Rival):
    """Nonsubsampled contourlets.

    Details: of all images the coefficient of the largest ``NAM = PC LSCM^2 LE^2`` (phase congruency, local sharpness
    change and energy). Low band: of the largest weighted local energy times weighted sum of modified Laplacians. A
    majority of 7 x 7 decides.

    This is the rule of the paper. The code that its authors published differs: it takes the larger magnitude at three
    scales (majority of 19 x 19), a pulse-coupled network at the finest, and raises the phase congruency of the low band
    to 0.005.

    Parameters
    ----------
    directions : tuple of int
        From the coarsest to the finest scale, the base-2 logarithm of the number of directions: 0, 1 or 2.

    References
    ----------
    Zhu, Zheng, Qi, Wang & Xiang, IEEE Access 7 (2019) 20811-20824, there of two images.

    Examples
    --------
    >>> NsctPc(directions=(1, 2)).fuse_planes(np.random.default_rng(0).random((3, 32, 24))).shape
    (32, 24)
    """

    directions: tuple[int, ...] = (1, 1, 1, 1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "directions", check_directions(self.directions))

    def fuse_planes(self, x: Planes) -> Plane:
        """Return the fused luminance (H, W) of (S, H, W)."""
        sources = [decompose(source, self.directions) for source in x]
        fused = []
        for scale, of_sources in enumerate(zip(*sources, strict=True)):
            activity = _activity if scale else _low_activity
            fused.append([_choose(np.stack(bands), activity) for bands in zip(*of_sources, strict=True)])
        return reconstruct(fused)


def _choose(bands: Planes, activity: Callable[[Plane], Plane]) -> Plane:
    return choose(bands, np.stack([activity(band) for band in bands]), 7)


def _low_activity(c: Plane) -> Plane:
    """Weighted local energy times the weighted sum of eight-neighbour modified Laplacians."""
    window = np.outer([1, 2, 1], [1, 2, 1]) / 16
    padded = np.pad(c, 1, mode="edge")

    def second_difference(dy: int, dx: int) -> Plane:
        h, w = c.shape
        before, after = (padded[1 + s * dy : 1 + s * dy + h, 1 + s * dx : 1 + s * dx + w] for s in (-1, 1))
        return np.abs(2 * c - before - after)

    laplacians = second_difference(1, 0) + second_difference(0, 1)
    laplacians = laplacians + (second_difference(1, 1) + second_difference(1, -1)) / np.sqrt(2)
    return np.asarray(ndimage.convolve(c * c, window) * ndimage.convolve(laplacians, window))


def _activity(c: Plane) -> Plane:
    """NAM of a detail band: phase congruency x local sharpness change squared x local energy squared."""
    padded = np.pad(c, 1, mode="edge")
    h, w = c.shape
    change = np.zeros_like(c)
    for dy in range(3):
        for dx in range(3):
            change += (c - padded[dy : dy + h, dx : dx + w]) ** 2
    sharpness, energy = (ndimage.uniform_filter(x, 7) for x in (change, c * c))
    return np.asarray(phase_congruency(c) * sharpness**2 * energy**2)


def phase_congruency(
    image: Plane,
    scales: int = 4,
    orientations: int = 4,
    least_wavelength: float = 6.0,
    factor: float = 2.0,
    sigma_on_f: float = 0.55,
    d_theta_on_sigma: float = 1.2,
    k: float = 2.0,
    cut_off: float = 0.4,
    gain: float = 10.0,
) -> Plane:
    """Return the phase congruency of an image (H, W), 0 to 1, summed over orientations.

    Log-Gabor filters; the noise is estimated from the median energy of the finest scale; a spread of frequencies is
    asked for.

    References
    ----------
    Kovesi, "Image features from phase congruency", Videre 1 (1999): his phasecong2.
    """
    h, w = image.shape
    y, x = np.meshgrid(np.fft.fftfreq(h), np.fft.fftfreq(w), indexing="ij")
    radius, theta = np.hypot(x, y), np.arctan2(-y, x)
    radius[0, 0] = 1
    low_pass = 1 / (1 + (radius / 0.45) ** 30)
    radial = []
    for scale in range(scales):
        centre = 1 / (least_wavelength * factor**scale)
        gabor = np.exp(-(np.log(radius / centre) ** 2) / (2 * np.log(sigma_on_f) ** 2)) * low_pass
        gabor[0, 0] = 0
        radial.append(gabor)
    spectrum = np.fft.fft2(image)
    theta_sigma = np.pi / orientations / d_theta_on_sigma
    total, amplitudes = np.zeros((h, w)), np.zeros((h, w))
    for orientation in range(orientations):
        angle = orientation * np.pi / orientations
        distance = np.abs(np.arctan2(np.sin(theta - angle), np.cos(theta - angle)))
        spread = np.exp(-(distance**2) / (2 * theta_sigma**2))
        responses = [np.fft.ifft2(spectrum * gabor * spread) for gabor in radial]
        energy, amplitude = _energy(responses, [gabor * spread for gabor in radial], k, cut_off, gain)
        total += energy
        amplitudes += amplitude
    return np.asarray(total / (amplitudes + _TINY))


_TINY = 1e-4


def _energy(
    responses: list[NDArray[np.complex128]], filters: list[Plane], k: float, cut_off: float, gain: float
) -> tuple[Plane, Plane]:
    """Return the weighted energy above noise and the summed amplitude of one orientation."""
    amplitudes = [np.abs(response) for response in responses]
    amplitude = np.sum(amplitudes, axis=0)
    mean = np.sum(responses, axis=0)
    mean = mean / (np.abs(mean) + _TINY)
    energy = sum(
        (r.real * mean.real + r.imag * mean.imag) - np.abs(r.real * mean.imag - r.imag * mean.real) for r in responses
    )
    # Rayleigh noise, from the finest scale's median energy
    noise_power = (np.median(amplitudes[0] ** 2) / np.log(2)) / np.sum(filters[0] ** 2)
    spatial = [np.fft.ifft2(f).real * np.sqrt(f.size) for f in filters]
    squares = sum(np.sum(s**2) for s in spatial)
    cross = sum(np.sum(spatial[i] * spatial[j]) for i in range(len(spatial)) for j in range(i + 1, len(spatial)))
    noise_energy = 2 * noise_power * squares + 4 * noise_power * cross
    tau = np.sqrt(max(noise_energy, 0) / 2)
    threshold = (tau * np.sqrt(np.pi / 2) + k * np.sqrt((2 - np.pi / 2) * tau**2)) / 1.7
    width = amplitude / (np.max(amplitudes, axis=0) + _TINY) / len(responses)
    weight = 1 / (1 + np.exp((cut_off - width) * gain))
    return np.asarray(weight * np.maximum(energy - threshold, 0)), np.asarray(amplitude)
