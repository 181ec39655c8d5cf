"""A street as a camera and a thermal camera see it: light, temperature and distance of every pixel.

All geometry is analytic, in units of the height of the picture at a zoom of 1 (x to the right, y downwards, the origin
at the centre), so that a seed is the same street at every size, and pictures that are turned, shifted or enlarged are
drawn, not interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_GAMMA = 2.2  # of the photographs
_APERTURE = 0.06  # blur, in heights of the picture, of what is infinitely far when the focus is at 1 m
_BLURS = 12  # how many different blurs a photograph has, at most
_READ_NOISE = 0.004  # standard deviation, in shares of white


@dataclass(frozen=True, eq=False)
class StreetScene:
    """One view of the street; all pictures of it are registered by construction.

    Attributes
    ----------
    light : float32 array, shape (H, W, 3)
        The linear light in red, green and blue; 1 is white paper in the sun, and the passage is at about 0.02.
    temperature : float32 array, shape (H, W)
        The temperature in degrees Celsius.
    distance : float32 array, shape (H, W)
        The distance from the camera in metres.
    """

    light: NDArray[np.float32]
    temperature: NDArray[np.float32]
    distance: NDArray[np.float32]

    def photograph(self, exposure: float = 1.0, focus: float | None = None, seed: int = 0) -> NDArray[np.uint8]:
        """Take a photograph.

        Parameters
        ----------
        exposure : float
            The factor by which the light is multiplied; 1 is right for things in the sun.
        focus : float, optional
            The distance in metres at which the picture is sharp; everything nearer or further is blurred as by a lens.
            By default everything is sharp.
        seed : int
            The seed of the camera's noise.

        Returns
        -------
        uint8 array, shape (H, W, 3)
            The photograph, as RGB with a gamma of 2.2.

        Raises
        ------
        ValueError
            If `exposure` or `focus` is not above 0.

        Examples
        --------
        >>> street_scene(60, 80).photograph(focus=4.0).shape
        (60, 80, 3)
        """
        for name, value in (("exposure", exposure), ("focus", focus)):
            if value is not None and not value > 0:
                raise ValueError(f"{name}: got {value}; expected a number above 0")
        light = self.light.astype(np.float32) if focus is None else self._blurred(focus)
        noise = np.random.default_rng(seed).normal(0, _READ_NOISE, light.shape)
        seen = np.clip(exposure * light + noise, 0, 1) ** (1 / _GAMMA)
        return np.rint(255 * seen).astype(np.uint8)

    def _blurred(self, focus: float) -> NDArray[np.float32]:
        from scipy.ndimage import gaussian_filter

        sigma = _APERTURE * len(self.light) * np.abs(1 / self.distance - 1 / focus)
        steps = np.linspace(0, sigma.max(), _BLURS)
        place = np.interp(sigma, steps, np.arange(_BLURS))
        total = np.zeros_like(self.light)
        for k, step in enumerate(steps):
            share = np.clip(1 - np.abs(place - k), 0, 1)[..., None].astype(np.float32)
            if share.any():
                total += share * gaussian_filter(self.light, (step, step, 0), truncate=3.0)
        return total


def street_scene(
    height: int = 240,
    width: int = 320,
    seed: int = 0,
    *,
    zoom: float = 1.0,
    turn: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    person: float = 0.33,
) -> StreetScene:
    """Draw a street with a house, a dark passage, a person, a car, a tree, and a sign near the camera.

    Parameters
    ----------
    height, width : int
        The size in pixels, at least 16; the same part of the street is visible at every height.
    seed : int
        The seed of all textures.
    zoom : float
        The factor by which everything is larger.
    turn : float
        The angle in degrees by which the camera is turned about its axis.
    shift : (float, float)
        The distance in pixels by which everything is moved down and to the right.
    person : float
        The position of the person, in heights of the picture to the right of the centre; at 0.33 it is in front of the
        dark passage.

    Returns
    -------
    StreetScene
        The light, temperature and distance of all pixels.

    Raises
    ------
    ValueError
        If `height` or `width` is below 16, or `zoom` is not above 0.

    Examples
    --------
    >>> scene = street_scene(60, 80)
    >>> scene.light.shape, float(scene.temperature.max()) > 40
    ((60, 80, 3), True)
    """
    for name, value in (("height", height), ("width", width)):
        if value < 16:
            raise ValueError(f"{name}: got {value}; expected at least 16 pixels")
    if not zoom > 0:
        raise ValueError(f"zoom: got {zoom}; expected a number above 0")
    down, right = np.mgrid[:height, :width].astype(np.float64)
    down, right = down - (height - 1) / 2 - shift[0], right - (width - 1) / 2 - shift[1]
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    x, y = ((cosine * right + sine * down) / (zoom * height), (cosine * down - sine * right) / (zoom * height))
    drawing = _Drawing(x, y, 1 / (zoom * height), np.random.default_rng(seed))
    _draw(drawing, person)
    light, temperature, distance = drawing.light, drawing.temperature, drawing.distance
    return StreetScene(light.astype(np.float32), temperature.astype(np.float32), distance.astype(np.float32))


class _Drawing:
    """A picture that is painted from back to front."""

    def __init__(self, x: Floats, y: Floats, pixel: float, rng: np.random.Generator) -> None:
        self.x, self.y, self.pixel, self.rng = x, y, pixel, rng
        self.light, self.temperature, self.distance = np.zeros((*x.shape, 3)), np.zeros(x.shape), np.zeros(x.shape)

    def paint(
        self,
        inside: Floats,
        colour: tuple[float, float, float],
        temperature: float | Floats,
        distance: float | Floats,
        texture: float | Floats = 1.0,
    ) -> None:
        """Paint where `inside`, the distance from an edge in heights, is above 0; edges are one pixel wide."""
        cover = np.clip(inside / self.pixel + 0.5, 0, 1)
        lit = np.multiply.outer(np.broadcast_to(texture, cover.shape), colour)
        self.light += cover[..., None] * (lit - self.light)
        self.temperature += cover * (temperature - self.temperature)
        self.distance = np.where(cover > 0.5, distance, self.distance)

    def box(self, left: float, top: float, right: float, bottom: float) -> Floats:
        inside: Floats = np.minimum.reduce([self.x - left, right - self.x, self.y - top, bottom - self.y])
        return inside

    def ellipse(self, x: float, y: float, across: float, along: float) -> Floats:
        radius = np.hypot((self.x - x) / across, (self.y - y) / along)
        inside: Floats = (1 - radius) * min(across, along)
        return inside

    def noise(self, wavelength: float, octaves: int = 4) -> Floats:
        """Return smooth noise about 0, each octave with half the wavelength and 0.6 of the strength."""
        from scipy.ndimage import map_coordinates

        total = np.zeros(self.x.shape)
        for octave in range(octaves):
            lattice = self.rng.normal(size=(64, 64))
            step = wavelength / 2**octave
            fine = np.clip(step / self.pixel - 1, 0, 1)  # what is finer than pixels is not drawn
            at = np.stack([self.y / step + 7.3 * octave, self.x / step + 3.1 * octave])
            total += fine * 0.6**octave * map_coordinates(lattice, at, order=1, mode="grid-wrap")
        return total


def _draw(d: _Drawing, person: float) -> None:
    x, y, everywhere = d.x, d.y, np.ones(d.x.shape)
    d.paint(everywhere, (0.45, 0.62, 0.95), -12.0, 300.0, 0.75 + 0.2 * y + 0.12 * np.maximum(d.noise(0.35), 0))
    hills = y + 0.13 - 0.03 * np.sin(4 * x) - 0.02 * np.sin(11 * x + 1)
    d.paint(hills, (0.16, 0.26, 0.12), 7.0, 150.0, 1 + 0.25 * d.noise(0.05))
    ground = y - 0.2
    far = 0.9 / np.maximum(y - 0.17, 0.03)  # metres along the road, seen in perspective
    d.paint(ground, (0.20, 0.20, 0.21), 13 + 0.4 * d.noise(0.1), far, 1 + 0.22 * d.noise(0.03))
    line = np.minimum(0.06 * (y - 0.17) - np.abs(x + 0.1 + 0.9 * (y - 0.2)), ground - 0.02)
    d.paint(np.minimum(line, np.sin(3 * far) * 0.02), (0.75, 0.75, 0.7), 12.5, far)
    d.paint(d.ellipse(0.56, 0.27, 0.22, 0.03), (0.05, 0.05, 0.055), 11.0, far, 1 + 0.2 * d.noise(0.03))

    course = np.floor((y + 1) / 0.02)  # of bricks
    mortar = np.minimum(np.mod(y + 1, 0.02), np.mod(x + 1 + 0.025 * np.mod(course, 2), 0.05))
    bricks = np.where(mortar < 0.003, 1.5, 1.0) * (1 + 0.12 * d.noise(0.04))
    house = d.box(-0.52, -0.26, 0.17, 0.22)
    d.paint(house, (0.42, 0.20, 0.14), 10 + 0.3 * d.noise(0.2), 25.0, bricks)
    slope = 0.8 * (0.23 + 0.8 * (y + 0.42) - np.abs(x + 0.175))
    roof = np.minimum.reduce([y + 0.42, -0.24 - y, slope])
    d.paint(roof, (0.16, 0.08, 0.07), 6.0, 25.0, 1 + 0.2 * d.noise(0.03))

    for column in range(4):
        for row in range(2):
            left, top = -0.47 + 0.165 * column, -0.19 + 0.2 * row
            d.paint(d.box(left, top, left + 0.09, top + 0.12), (0.8, 0.8, 0.78), 11.0, 25.0)
            pane = d.box(left + 0.008, top + 0.008, left + 0.082, top + 0.112)
            glass = np.minimum(pane, np.abs(x - left - 0.045) - 0.004)
            d.paint(glass, (0.07, 0.09, 0.12), 17.0 + 2 * ((column + row) % 3), 25.0, 1 + 2 * (y - top))

    d.paint(d.box(0.17, -0.1, 0.52, 0.22), (0.50, 0.46, 0.38), 11.0, 25.0, 1 + 0.1 * d.noise(0.05))
    passage = d.box(0.21, -0.05, 0.46, 0.22)
    d.paint(passage, (0.018, 0.016, 0.014), 9.0, 32.0, 1 + 0.25 * d.noise(0.03))
    for k in range(3):  # crates that only a long exposure shows
        crate = d.box(0.225 + 0.03 * k, 0.14 - 0.035 * k, 0.285 + 0.03 * k, 0.215)
        d.paint(crate, (0.035, 0.026, 0.014), 8.0, 31.0, 1 + 0.5 * np.sign(np.sin(260 * (y + 0.3 * x))))

    trunk = np.minimum(0.02 + 0.02 * np.maximum(y, 0) - np.abs(x - 0.6), d.box(-9, -0.15, 9, 0.27))
    d.paint(trunk, (0.10, 0.07, 0.05), 8.5, 9.0, 1 + 0.3 * d.noise(0.02))
    crown = d.ellipse(0.6, -0.22, 0.17, 0.2) + 0.03 * d.noise(0.08)
    d.paint(crown, (0.10, 0.19, 0.05), 8.0, 9.0, np.maximum(1 + 0.5 * d.noise(0.03), 0.1))

    d.paint(d.box(-0.42, 0.16, -0.08, 0.28), (0.55, 0.06, 0.05), 12.0, 8.5)
    cabin = np.minimum(d.box(-0.35, 0.09, -0.15, 0.17), 0.1 + 0.3 * (y - 0.09) - np.abs(x + 0.25))
    d.paint(cabin, (0.12, 0.14, 0.17), 14.0, 8.5)
    d.paint(d.ellipse(-0.38, 0.19, 0.05, 0.03), (0.6, 0.08, 0.06), 46.0, 8.5)  # the motor is warm
    for wheel in (-0.34, -0.15):
        d.paint(d.ellipse(wheel, 0.28, 0.04, 0.04), (0.03, 0.03, 0.03), 24.0, 8.5)
        d.paint(d.ellipse(wheel, 0.28, 0.016, 0.016), (0.5, 0.5, 0.5), 20.0, 8.5)

    clothes = (0.018, 0.017, 0.016)  # as dark as the passage
    for leg in (-0.017, 0.017):
        d.paint(d.box(person + leg - 0.012, 0.15, person + leg + 0.012, 0.27), clothes, 26.0, 9.5)
    d.paint(d.ellipse(person, 0.09, 0.042, 0.085), clothes, 29.0, 9.5, 1 + 0.1 * d.noise(0.02))
    d.paint(d.ellipse(person, -0.01, 0.022, 0.028), (0.03, 0.022, 0.018), 34.0, 9.5)

    d.paint(d.box(-0.585, 0.2, -0.565, 0.6), (0.3, 0.3, 0.32), 12.0, 3.0)
    d.paint(d.box(-0.665, -0.02, -0.485, 0.22), (0.85, 0.83, 0.2), 12.0, 3.0)
    check = np.sin(np.pi * x / 0.02) * np.sin(np.pi * y / 0.02) * 0.006
    d.paint(np.minimum(d.box(-0.65, 0.0, -0.5, 0.2), check), (0.05, 0.05, 0.05), 12.0, 3.0)
