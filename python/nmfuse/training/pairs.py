"""Pairs of registered images to learn fusion from: real ones, and ones made from photographs and phantoms."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nmfuse.data import BrainPhantom, brain_phantom
from nmfuse.images.luma import luminance
from nmfuse.io import find_sets, read_image
from nmfuse.training.patches import find_images, read_grey
from nmfuse.training.stacks import Scene, bracket, focus_stack

Image = NDArray[np.float32]  # (H, W) luminance in [0, 1]
Pair = tuple[Image, Image]
Maker = Callable[[int, np.random.Generator], Pair]  # a crop of a side, at random
StackMaker = Callable[[int, int, np.random.Generator], Scene]  # of so many sources, too
_HELD_OUT = 5  # every fifth patient, photograph or phantom is held out
_TEXTURED = 0.5  # share of the views of phantoms with textures of photographs
_FACED = {"mri_pet": 0.9}  # share of the views of phantoms with a face or a neck
_SOMETIMES_FACED = 0.2  # of the other kinds
_REPEATED = 0.9  # share of the views of uptake whose pixels are repeated
_FEW_GREYS = 0.75  # share of the views of phantoms in few greys
_WITH_CT = 0.4  # share of the stacks of heads with a CT among MRI
_FRAME = 256  # pixels of a phantom's image
_HEADS = (256, 224, 192, 160)  # pixels that phantoms are drawn at, in turn
_BONE = 3  # labels of a phantom below this are air, skin and fat, from it on bone,
_INSIDE = 5  # and from this on what lies within the skull


@dataclass(frozen=True)
class PairSet:
    """Sources of pairs, and of stacks for training, by kind; `files` are those they were read from."""

    training: dict[str, Maker]
    held_out: dict[str, Maker]
    files: list[Path]
    stacks: dict[str, StackMaker]

    def draw(self, half: str, count: int, side: int, rng: np.random.Generator) -> tuple[Image, Image, list[str]]:
        """Return crops (N, side, side) of both images, in 255ths, and their kinds, each as likely as any other."""
        makers: dict[str, Maker] = getattr(self, half)
        kinds = [list(makers)[rng.integers(len(makers))] for _ in range(count)]
        drawn = zip(*(makers[kind](side, rng) for kind in kinds), strict=True)
        a, b = (_in_bytes(np.stack(x)) for x in drawn)
        return a, b, kinds

    def draw_stack(self, sources: int, count: int, side: int, rng: np.random.Generator) -> tuple[Image, Image | None]:
        """Return crops (S, count, side, side) of a random kind, in 255ths, and what they are images of (or None)."""
        make = list(self.stacks.values())[rng.integers(len(self.stacks))]
        scenes = [make(sources, side, rng) for _ in range(count)]
        truths = [scene.truth for scene in scenes if scene.truth is not None]
        return _in_bytes(np.stack([scene.images for scene in scenes], axis=1)), np.stack(truths) if truths else None


def pair_set(data: Path | None, photos: Path | None, phantoms: int) -> PairSet:
    """Return what a run learns from.

    Parameters
    ----------
    data : path, optional
        A folder with one folder a kind, of images ``NAME_A.*`` and ``NAME_B.*``. The pairs of a folder named like one
        of the kinds below are ranked among that kind's other methods, those of any other among the mean of all.
        ``index.csv`` (kind, n, patient) tells who must not be in both halves, else each pair stands for itself. A pair
        smaller than the crop that is asked for is passed over; where all of a kind are, that is a ValueError.
    photos : path, optional
        A folder of sharp photographs: pairs of two depths of focus (multi_focus, half of the time also of two
        exposures), of two exposures (multi_exposure) and of two modalities (ir_vis) are made of them, all with noise.
    phantoms : int
        How many digital brain phantoms are drawn, each seen by two modalities (mri_ct, mri_pet, mri_spect, mri_t1_t2).
        Some, beside PET most, have a face or a neck at one side. T1, T2 and the uptake are mottled, and half of the
        time take on textures of the photographs, of those of at least 256 pixels. Most often an image has few greys.

    A kind that `data` holds is drawn from there alone. Stacks of any number are made of photographs (depths of focus,
    exposures) and of phantoms (what MRI and CT show of one head).

    Raises
    ------
    FileNotFoundError, ValueError
        If a folder is missing or nothing is asked for.
    """
    training: dict[str, Maker] = {}
    held_out: dict[str, Maker] = {}
    files: list[Path] = []
    if data is not None:
        if not data.is_dir():
            raise FileNotFoundError(f"data: {data} is not a folder; give a folder with one folder a kind")
        owners = _owners(data)
        for folder in sorted(path for path in data.iterdir() if path.is_dir()):
            sets = [one for one in find_sets(folder) if one.kind == folder.name]
            if more := [one for one in sets if len(one.paths) != 2]:
                raise ValueError(f"data: {more[0].label} has {len(more[0].paths)} images; expected pairs")
            names = [owners.get((folder.name, one.name), one.name) for one in sets]
            held = set(sorted(set(names))[::_HELD_OUT]) if len(set(names)) > 1 else set()
            both = [(_read(one.paths[0]), _read(one.paths[1])) for one in sets]
            files += [path for one in sets for path in one.paths]
            training[folder.name] = _crops_of([p for p, name in zip(both, names, strict=True) if name not in held])
            if held:
                held_out[folder.name] = _crops_of([p for p, name in zip(both, names, strict=True) if name in held])
    made: dict[str, tuple[Maker, Maker]] = {}  # for training and held out
    stacks: dict[str, StackMaker] = {}
    grey: list[Image] = []
    if photos is not None:
        paths = find_images(photos)
        files += paths
        grey = [(read_grey(path) / np.float32(255)).astype(np.float32) for path in paths]
        for kind, change in _OF_PHOTOS.items():
            made[kind] = _made_from(_others(grey), change), _made_from(grey[::_HELD_OUT], change)
        stacks = {kind: _stacks_from(_others(grey), take) for kind, take in _STACKS_OF_PHOTOS.items()}
    if phantoms > 0:
        heads = [_framed(brain_phantom(_HEADS[seed % len(_HEADS)], seed)) for seed in range(phantoms)]
        for kind in _OF_PHANTOMS:
            made[kind] = (
                _views_of(kind, _others(heads) or heads, _others(grey)),
                _views_of(kind, heads[::_HELD_OUT], grey[::_HELD_OUT]),
            )
        stacks["heads"] = _stacks_of_heads(_others(heads) or heads, _others(grey))
    for kind in made.keys() - training.keys():
        training[kind], held_out[kind] = made[kind]
    if not training:
        raise ValueError("data, photos, phantoms: nothing to learn from; give at least one of them")
    return PairSet(dict(sorted(training.items())), dict(sorted(held_out.items())), files, stacks)


def _others(items: list) -> list:  # type: ignore[type-arg]
    return [item for i, item in enumerate(items) if i % _HELD_OUT]


def _owners(data: Path) -> dict[tuple[str, str], str]:
    index = data / "index.csv"
    if not index.is_file():
        return {}
    with index.open(newline="") as file:
        return {(row["kind"], f"{int(row['n']):03d}"): row["patient"] or f"{row['n']}" for row in csv.DictReader(file)}


def _read(path: Path) -> Image:
    pixels = read_image(path).pixels
    scale = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1.0
    return (luminance(pixels) / scale).astype(np.float32)


def _in_bytes(x: np.ndarray) -> Image:
    """Bring 0 to 1 to 255ths, as 8-bit files have it: it tells in MI."""
    return np.asarray(np.rint(255 * x) / np.float32(255), np.float32)


def _crop(images: Sequence[Image], side: int, rng: np.random.Generator) -> tuple[Image, ...]:
    """Cut a square of registered images that is not all black, flipped and turned at random."""
    sizes = [x.shape for x in images]
    if min(sizes[0]) < side or len(set(sizes)) > 1:
        raise ValueError(f"data: images of sizes {sizes}; expected all alike and of at least {side} pixels")
    for _ in range(10):
        y, x = (rng.integers(n - side + 1) for n in sizes[0])
        cut = [z[y : y + side, x : x + side] for z in images]
        if max(z.mean() for z in cut) > 0.05:
            break
    turns, flip = int(rng.integers(4)), rng.random() < 0.5
    return tuple(np.ascontiguousarray(np.rot90(z[:, ::-1] if flip else z, turns)) for z in cut)


def _crops_of(pairs: list[Pair]) -> Maker:
    def make(side: int, rng: np.random.Generator) -> Pair:
        large = [pair for pair in pairs if min(pair[0].shape) >= side] or pairs
        a, b = _crop(large[rng.integers(len(large))], side, rng)
        return a, b

    return make


def _made_from(pictures: list[Image], change: Callable[[Image, np.random.Generator], Pair]) -> Maker:
    return lambda side, rng: change(_cut_from(pictures, side, rng), rng)


def _cut_from(pictures: list[Image], side: int, rng: np.random.Generator) -> Image:
    return _crop([pictures[rng.integers(len(pictures))]], side, rng)[0]


def _stacks_from(pictures: list[Image], take: Callable[[Image, int, np.random.Generator], Scene]) -> StackMaker:
    return lambda count, side, rng: take(_cut_from(pictures, side, rng), count, rng)


def _two_depths(x: Image, rng: np.random.Generator) -> Pair:
    """Sharp here and blurred there, and the other way round, each by its own width, often in two exposures."""
    if rng.random() < 0.5:  # many a photograph is not sharp to the pixel
        x = ndimage.gaussian_filter(x, rng.uniform(0, 0.8))
    side = ndimage.gaussian_filter(rng.standard_normal(x.shape), rng.uniform(6, 40)) > 0
    near = ndimage.gaussian_filter(side.astype(np.float32), rng.uniform(0.5, 2.5))
    lit = rng.random() < 0.5
    noise = rng.uniform(0, 0.01)

    def focused(sharp: Image) -> Image:
        blurred = ndimage.gaussian_filter(x, 2 ** rng.uniform(0, 3))
        tone = 2 ** rng.uniform(-0.5, 0.5) if lit else 1
        return _taken((sharp * x + (1 - sharp) * blurred) ** tone, noise, rng)

    return focused(near), focused(1 - near)


def _two_exposures(x: Image, rng: np.random.Generator) -> Pair:
    """Too dark, and too bright with its highlights cut."""
    dark, bright = 2 ** rng.uniform(1, 3, 2)
    noise = rng.uniform(0, 0.01)
    return _taken(x**dark, noise, rng), _taken(1.1 * (1 - (1 - x) ** bright), noise, rng)


def _two_modalities(x: Image, rng: np.random.Generator) -> Pair:
    """Two random tone curves of one scene; the second is flatter and blurred, and has objects of its own."""
    knots = np.linspace(0, 1, 6)
    a, b = (np.interp(x, knots, rng.random(6)) for _ in range(2))
    b = b.mean() + rng.uniform(0.2, 1) * (b - b.mean())
    spots = ndimage.gaussian_filter(rng.standard_normal(x.shape), rng.uniform(3, 10))
    shown = (spots - spots.min()) / max(float(np.ptp(spots)), 1e-6) > rng.uniform(0.4, 0.7)
    hot = ndimage.gaussian_filter(shown.astype(np.float64), rng.uniform(0.5, 3))
    uptake_on_black, warm_objects = hot * (0.5 * b + 0.5), (1 - hot) * b + hot * rng.uniform(0.7, 1)
    b = ndimage.gaussian_filter(uptake_on_black if rng.random() < 0.2 else warm_objects, rng.uniform(0, 2))
    return _taken(a, rng.uniform(0, 0.02), rng), _taken(b, rng.uniform(0, 0.02), rng)


def _taken(scene: np.ndarray, noise: float, rng: np.random.Generator) -> Image:
    """Show a scene as a camera takes it: with noise of a standard deviation, and what is too dark or too bright cut."""
    return np.clip(scene + noise * rng.standard_normal(scene.shape), 0, 1).astype(np.float32)


def _views_of(kind: str, heads: list[BrainPhantom], pictures: list[Image]) -> Maker:
    views, faced = _OF_PHANTOMS[kind], _FACED.get(kind, _SOMETIMES_FACED)
    large = [x for x in pictures if min(x.shape) >= _FRAME]

    def make(side: int, rng: np.random.Generator) -> Pair:
        head = heads[rng.integers(len(heads))]
        if rng.random() < faced:
            head = _with_face(head, rng)
        if large and rng.random() < _TEXTURED:
            head = _textured(head, large, rng)
        a, b = _crop([_in_greys(view, rng) for view in views(_mottled(head, rng), rng)], side, rng)
        return a, b

    return make


def _stacks_of_heads(heads: list[BrainPhantom], pictures: list[Image]) -> StackMaker:
    large = [x for x in pictures if min(x.shape) >= _FRAME]

    def make(count: int, side: int, rng: np.random.Generator) -> Scene:
        head = heads[rng.integers(len(heads))]
        if large and rng.random() < _TEXTURED:
            head = _textured(head, large, rng)
        head = _mottled(head, rng)
        ct = int(rng.integers(count)) if rng.random() < _WITH_CT else -1
        views = [_windowed(head, rng) if k == ct else _magnetic(head, _t1_share(rng), rng) for k in range(count)]
        return Scene(np.stack(_crop([_in_greys(view, rng) for view in views], side, rng)))

    return make


def _framed(head: BrainPhantom) -> BrainPhantom:
    def padded(x: np.ndarray) -> np.ndarray:
        return np.pad(x, (_FRAME - len(x)) // 2)

    return _changed(head, padded, padded(head.labels))


def _changed(head: BrainPhantom, change: Callable[[np.ndarray], np.ndarray], labels: np.ndarray) -> BrainPhantom:
    """Change all modalities alike."""
    t1, t2, ct, pet = (change(x) for x in (head.t1, head.t2, head.ct, head.pet))
    return replace(head, t1=t1, t2=t2, ct=ct, pet=pet, labels=labels)


def _with_face(head: BrainPhantom, rng: np.random.Generator) -> BrainPhantom:
    """Put a face or a neck at one side, over some of the head: air, skin, fat and bone in small pieces, no uptake.

    Much of what MRI shows beside PET is of this kind: without it, a network learns to trust what fills an image.
    """
    axis, angle = np.arange(_FRAME) - _FRAME / 2, rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * axis[:, None] + np.sin(angle) * axis
    around = ndimage.distance_transform_edt(head.labels == 0) < rng.uniform(10, 110)
    place = around & (along > rng.uniform(-0.2, 1) * along[head.labels > 0].max())
    noise = ndimage.gaussian_filter(rng.standard_normal(along.shape), rng.uniform(0.8, 4), truncate=2.5)
    cuts = np.sort(rng.normal(0, noise.std(), _INSIDE - 1))
    pieces = rng.permutation(_INSIDE)[np.digitize(noise, cuts)].astype(np.uint8)

    def faced(x: np.ndarray) -> np.ndarray:
        tones = ndimage.mean(x, head.labels, np.arange(_INSIDE))
        return np.where(place, ndimage.gaussian_filter(tones[pieces], 0.5), x).astype(np.float32)

    return _changed(head, faced, np.where(place, pieces, head.labels))


def _in_greys(view: Image, rng: np.random.Generator) -> Image:
    """Show a view in 32 to 96 greys, as many an archive keeps it, or in all."""
    steps = rng.integers(31, 96) if rng.random() < _FEW_GREYS else 255
    return np.asarray(np.rint(steps * view) / steps, np.float32)


def _textured(head: BrainPhantom, pictures: list[Image], rng: np.random.Generator) -> BrainPhantom:
    """Give MRI and, blurred, the uptake textures of photographs, half of the time of the same one, to a random degree.

    The uptake may exceed 1.
    """
    tissue = _texture(head.labels.shape[0], pictures, rng)
    uptake = tissue if rng.random() < 0.5 else _texture(head.labels.shape[0], pictures, rng)
    uptake = ndimage.gaussian_filter(uptake, rng.uniform(0.5, 2.5))
    tissue, uptake = (1 + share * (x - 1) for share, x in zip(rng.random(2), (tissue, uptake), strict=True))
    t1, t2 = (np.clip(x * tissue, 0, 1).astype(np.float32) for x in (head.t1, head.t2))
    return replace(head, t1=t1, t2=t2, pet=(head.pet * uptake).astype(np.float32))


def _mottled(head: BrainPhantom, rng: np.random.Generator) -> BrainPhantom:
    """Let T1, T2 and, more coarsely, the uptake vary everywhere, as in people; half of the time partly alike."""
    size = len(head.labels)
    tissue, uptake = _mottle(size, (1, 2, 4), rng), 1.5 * _mottle(size, (3, 6, 10), rng)
    if rng.random() < 0.5:
        uptake = uptake + rng.uniform(-0.5, 2) * tissue
    t1, t2 = ((x * (1 + m)).astype(np.float32) for x, m in ((head.t1, tissue), (head.t2, rng.choice([-1, 1]) * tissue)))
    return replace(head, t1=t1, t2=t2, pet=(head.pet * np.clip(1 + uptake, 0, None)).astype(np.float32))


def _mottle(size: int, widths: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return a square of noise blurred to these widths, each of a standard deviation up to 0.15."""
    noise = [ndimage.gaussian_filter(rng.standard_normal((size, size)), width, truncate=2.5) for width in widths]
    return np.asarray(sum(rng.uniform(0, 0.15) / x.std() * x for x in noise))


def _texture(side: int, pictures: list[Image], rng: np.random.Generator) -> Image:
    """Return a square of a photograph whose mean is 1, or less where it is very dark."""
    square = _cut_from(pictures, side, rng)
    return square / max(float(square.mean()), 0.1)


def _magnetic(
    head: BrainPhantom,
    t1_share: float,
    rng: np.random.Generator,
    brightness: tuple[float, float] = (0.5, 1.1),
    steepness: tuple[float, float] = (0.8, 2.0),
) -> Image:
    """MRI: T1 by its share, the rest T2, or random tones; a little blurred, with noise; around the head black, or not.

    `brightness` is what a twentieth of the inside exceeds, before blur and noise, `steepness` the exponent of the
    tones. Skin, fat and bone are dimmer where T2 prevails. Half of the time brightness grows towards the skin, as by
    coils at the surface.
    """
    view = t1_share * head.t1 + (1 - t1_share) * head.t2 if rng.random() < 0.7 else _random_contrast(head, rng)
    view = np.clip(view, 0, 1) ** rng.uniform(*steepness)
    view = view * rng.uniform(*brightness) / max(float(np.quantile(view[head.labels >= _INSIDE], 0.95)), 0.1)
    if t1_share < 0.5:
        view = np.where(head.labels < _INSIDE, rng.uniform(0.2, 1) * view, view)
    if rng.random() < 0.5:
        depth = ndimage.distance_transform_edt(head.labels > 0)
        view = view * (1 + rng.uniform(0, 1) * np.exp(-depth / rng.uniform(4, 15)))
    view = ndimage.gaussian_filter(view, rng.uniform(0.3, 0.8))
    view = view + rng.normal(0, rng.uniform(0, 0.04), view.shape) * (head.labels > 0)
    if rng.random() < 0.7:
        view = view * (head.labels > 0)
    return np.asarray(np.clip(view, 0, 1), np.float32)


def _random_contrast(head: BrainPhantom, rng: np.random.Generator) -> np.ndarray:
    tones = rng.random(len(head.label_names)) * (rng.random(len(head.label_names)) < 0.8)
    tones[0] = 0
    return np.asarray(ndimage.gaussian_filter(tones[head.labels], rng.uniform(0.4, 1.0)))


def _windowed(head: BrainPhantom, rng: np.random.Generator) -> Image:
    """CT in a random window, with grain: soft tissues are much alike, skin and fat around the skull most often black.

    Bone is most often white, the skull up to 5 pixels thicker on either side than it is, as in slanted slices.
    """
    high = rng.uniform(0.35, 0.5) if rng.random() < 0.85 else rng.uniform(0.5, 1)
    soft = rng.uniform(0.25, 0.9)
    fluid = max(0, soft - rng.uniform(0.05, 0.4))
    ct = ndimage.gaussian_filter(head.ct, rng.uniform(0, 1.5))
    around = ndimage.distance_transform_edt(head.labels < _INSIDE) < 20  # not far into a face
    if rng.random() < 0.7:
        ct = np.where(around & (head.labels < _BONE), 0, ct)
    bone = np.where((head.labels >= _BONE) & (head.labels < _INSIDE), head.ct, 0)
    thick = ndimage.maximum_filter(bone, 2 * rng.integers(6) + 1)
    ct = np.maximum(ct, np.where(around, thick, 0))
    view = np.interp(ct, (0.05, 0.2, 0.32, high), (0, fluid, soft, 1))
    grain = ndimage.gaussian_filter(rng.normal(0, rng.uniform(0, 0.1), view.shape), 0.7)
    return np.asarray(np.clip(np.where((view > 0) & (view < 1), view + grain, view), 0, 1), np.float32)


def _positron(head: BrainPhantom, rng: np.random.Generator) -> Image:
    """PET: bright nearly everywhere; the hottest may be darker again, as in scales that end in red."""
    tones = np.roll(np.sort(rng.random(5)) ** 0.35, -rng.integers(3))
    grain = ndimage.gaussian_filter(rng.standard_normal(head.pet.shape), 2.5, truncate=2.5)
    blurred = ndimage.gaussian_filter(head.pet, rng.uniform(0.5, 3))
    blurred = blurred * np.clip(1 + rng.uniform(0, 0.3) / grain.std() * grain, 0, None)
    return _coloured(blurred, tones, rng.uniform(0.8, 1), rng)


def _single_photon(head: BrainPhantom, rng: np.random.Generator) -> Image:
    """SPECT: blurred, and darker."""
    blurred = ndimage.gaussian_filter(head.pet, rng.uniform(3, 7))
    return _coloured(blurred, np.sort(rng.random(5)), rng.uniform(0.4, 0.85), rng)


def _coloured(uptake: Image, tones: np.ndarray, top: float, rng: np.random.Generator) -> Image:
    """Brightness, up to `top`, of an uptake shown in colours of about these tones: it need not grow with the uptake.

    More or less sharpened, and most often repeated 2 x 2: scanners of few pixels are shown at the size of the MRI.
    """
    uptake = np.clip(uptake + rng.uniform(0, 1.5) * (uptake - ndimage.gaussian_filter(uptake, 3.0)), 0, None)
    tones = np.clip(tones + rng.normal(0, 0.15, len(tones)), 0, None)
    tones = np.append(0, top * tones / tones.max())
    saturated = uptake.max() * rng.uniform(0.7, 1)
    shown = np.interp(uptake / saturated, np.linspace(0, 1, len(tones)), tones)
    shown = np.asarray(ndimage.gaussian_filter(shown, 0.5), np.float32)
    return shown[::2, ::2].repeat(2, 0).repeat(2, 1) if rng.random() < _REPEATED else shown


def _t1_share(rng: np.random.Generator) -> float:
    return rng.beta(0.3, 0.3)


def _low_t1_share(rng: np.random.Generator) -> float:
    return rng.beta(0.2, 0.6)


def _both_weightings(head: BrainPhantom, rng: np.random.Generator) -> Pair:
    """T1 and T2 in shares that are each other's rest, if neither has random tones."""
    share = _t1_share(rng)
    return _magnetic(head, share, rng), _magnetic(head, 1 - share, rng)


_OF_PHOTOS = {"ir_vis": _two_modalities, "multi_exposure": _two_exposures, "multi_focus": _two_depths}
_STACKS_OF_PHOTOS = {"focus": focus_stack, "exposure": bracket}
_OF_PHANTOMS: dict[str, Callable[[BrainPhantom, np.random.Generator], Pair]] = {
    "mri_ct": lambda head, rng: (_magnetic(head, _low_t1_share(rng), rng, (0.35, 1.0)), _windowed(head, rng)),
    # MRI that is bright and flat, as T1 is
    "mri_pet": lambda head, rng: (
        _magnetic(head, _t1_share(rng), rng, (0.65, 0.95), (0.4, 0.9)),
        _positron(head, rng),
    ),
    "mri_spect": lambda head, rng: (_magnetic(head, _low_t1_share(rng), rng), _single_photon(head, rng)),
    "mri_t1_t2": _both_weightings,
}
