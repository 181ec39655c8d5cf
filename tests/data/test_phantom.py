"""The digital brain phantom: its anatomy, its physics and its arguments."""

import numpy as np
import pytest

from nmfuse.data import BrainPhantom, brain_phantom, pet_rgb

MODALITIES = ("t1", "t2", "ct", "pet")


@pytest.fixture(scope="module")
def clean() -> BrainPhantom:
    return brain_phantom(160, noise=False)


def tissue_means(phantom: BrainPhantom, modality: str) -> dict[str, float]:
    image = getattr(phantom, modality)
    labels = [label for label in range(len(phantom.label_names)) if np.any(phantom.labels == label)]
    return {phantom.label_names[label]: float(image[phantom.labels == label].mean()) for label in labels}


@pytest.mark.parametrize(
    ("modality", "dark_to_bright"),
    [
        ("t1", ("background", "bone", "csf", "grey matter", "white matter", "fat")),
        ("t2", ("background", "bone", "white matter", "grey matter", "oedema", "ventricle")),
        ("ct", ("background", "fat", "csf", "white matter", "grey matter", "diploe", "bone")),
        ("pet", ("bone", "ventricle", "white matter", "grey matter")),
    ],
)
def test_tissues_keep_the_order_of_the_modality(
    clean: BrainPhantom, modality: str, dark_to_bright: tuple[str, ...]
) -> None:
    means = tissue_means(clean, modality)
    values = [means[name] for name in dark_to_bright]
    assert values == sorted(values)
    assert len(set(values)) == len(values)


def test_each_modality_shows_what_another_lacks(clean: BrainPhantom) -> None:
    ct, t2 = tissue_means(clean, "ct"), tissue_means(clean, "t2")
    assert ct["calcification"] > 2 * ct["white matter"]
    assert t2["calcification"] < t2["white matter"]
    assert t2["oedema"] - t2["white matter"] > 5 * abs(ct["oedema"] - ct["white matter"])


def test_every_tissue_is_there_without_leaks(clean: BrainPhantom) -> None:
    names = clean.label_names
    assert set(np.unique(clean.labels)) == set(range(len(names)))
    edge = np.concatenate([clean.labels[[0, -1]].ravel(), clean.labels[:, [0, -1]].ravel()])
    assert not edge.any()
    outside = clean.labels == names.index("background")
    brain = clean.labels >= names.index("csf")
    from scipy.ndimage import binary_dilation

    assert not np.any(binary_dilation(outside) & brain)  # bone and skin lie between
    # 2 mm² pixels: a brain slice of 140 to 200 cm², more white than grey matter by no more than three times
    area = brain.sum() * (220 / 160) ** 2 / 100
    assert 140 < area < 200
    white, grey = (np.sum(clean.labels == names.index(f"{c} matter")) for c in ("white", "grey"))
    assert 1 / 2 < white / grey < 3


@pytest.mark.parametrize("size", [64, 65, 128])
def test_size_dtype_and_range(size: int) -> None:
    phantom = brain_phantom(size, seed=3)
    for modality in MODALITIES:
        image = getattr(phantom, modality)
        assert image.shape == (size, size)
        assert image.dtype == np.float32
        assert 0 <= image.min() < 0.05
        assert 0.6 < image.max() <= 1
    assert phantom.labels.dtype == np.uint8
    assert phantom.labels.shape == (size, size)


def test_a_seed_is_the_same_head_at_every_size() -> None:
    small, large = (brain_phantom(size, seed=5, noise=False) for size in (64, 128))
    halved = large.t1.reshape(64, 2, 64, 2).mean(axis=(1, 3))
    assert np.abs(halved - small.t1).mean() < 0.02
    assert np.corrcoef(halved.ravel(), small.t1.ravel())[0, 1] > 0.99


def test_seeds_repeat_and_differ() -> None:
    first, again, other = brain_phantom(64, 1), brain_phantom(64, 1), brain_phantom(64, 2)
    for modality in (*MODALITIES, "labels"):
        assert np.array_equal(getattr(first, modality), getattr(again, modality))
        assert not np.array_equal(getattr(first, modality), getattr(other, modality))


def test_noise_leaves_the_head_alone_and_has_its_level(clean: BrainPhantom) -> None:
    noisy = brain_phantom(160)
    assert np.array_equal(noisy.labels, clean.labels)
    air = clean.labels == 0
    # Rician noise without signal is Rayleigh noise: mean sigma sqrt(pi / 2)
    for modality in ("t1", "t2"):
        background = getattr(noisy, modality)[air & (getattr(clean, modality) == 0)]
        assert background.mean() == pytest.approx(0.02 * np.sqrt(np.pi / 2), rel=0.03)
    assert not np.any(noisy.ct[clean.ct == 0])
    inside = (clean.labels >= 5) & (clean.labels < 14)
    assert np.std((noisy.ct - clean.ct)[inside]) == pytest.approx(0.008, rel=0.05)
    assert 0.01 < np.std((noisy.pet - clean.pet)[inside]) < 0.05


def test_the_bias_field_is_smooth_and_not_in_the_truth(clean: BrainPhantom) -> None:
    noisy = brain_phantom(160)
    white = clean.t1 == np.float32(0.73)  # pure white matter
    assert white.sum() > 1000
    ratio = noisy.t1[white] / clean.t1[white]
    noise_alone = 0.02 / 0.73
    assert noise_alone * 1.2 < ratio.std() < noise_alone * 5
    assert 0.8 < ratio.mean() < 1.2


def test_the_lesion_is_optional() -> None:
    healthy = brain_phantom(64, lesion=False)
    assert "tumour" in healthy.label_names
    assert not np.any(healthy.labels == healthy.label_names.index("tumour"))


def test_a_volume_holds_its_slice_and_changes_smoothly_around_it() -> None:
    volume, alone = brain_phantom(96, 3, depth=7), brain_phantom(96, 3)
    clean = brain_phantom(96, 3, depth=7, noise=False)
    for name in ("t1", "t2", "ct", "pet", "labels"):
        assert getattr(volume, name).shape == (7, 96, 96)
        np.testing.assert_array_equal(getattr(volume, name)[3], getattr(alone, name))
    np.testing.assert_array_equal(volume.labels, clean.labels)
    changes = np.abs(np.diff(clean.t1, axis=0)).mean((1, 2))
    far = np.abs(clean.t1[0] - clean.t1[-1]).mean()
    assert 0 < changes.max() < 0.7 * far  # neighbours are more alike than the ends
    inside = (volume.labels > 0).sum((1, 2))
    assert inside.argmax() == 3
    assert inside[0] < inside[3]
    noise = volume.t1 - clean.t1
    assert np.corrcoef(noise[2][40:60, 40:60].ravel(), noise[3][40:60, 40:60].ravel())[0, 1] < 0.8
    tumour = volume.labels == volume.label_names.index("tumour")
    assert tumour[3].sum() > 0


def test_pet_rgb_rises_from_black_to_white() -> None:
    ramp = pet_rgb(np.linspace(-0.5, 1.5, 201))
    assert ramp.shape == (201, 3)
    assert ramp.dtype == np.uint8
    assert ramp[0].tolist() == [0, 0, 0]
    assert ramp[-1].tolist() == [255, 255, 255]
    luminance = ramp @ np.array([0.299, 0.587, 0.114])
    assert np.all(np.diff(luminance[50:151]) > 0)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"size": 63}, ValueError, "size: got 63, expected at least 64"),
        ({"seed": -1}, ValueError, "seed: got -1, expected at least 0"),
        ({"size": 64.0}, TypeError, "size: got 64.0, expected an integer of at least 64"),
        ({"size": 64, "depth": 0}, ValueError, "depth: got 0, expected at least 1"),
        ({"size": 64, "depth": 40}, ValueError, "depth: got 40, which is 138 mm; expected at most 26 slices"),
        ({"seed": None}, TypeError, "seed: got None, expected an integer of at least 0"),
    ],
)
def test_bad_arguments(arguments: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        brain_phantom(**arguments)
