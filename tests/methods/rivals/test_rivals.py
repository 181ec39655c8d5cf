"""Every rival method: what its authors published, what it did for two images before, and what it must do for S."""

from __future__ import annotations

import itertools
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from nmfuse.data import brain_phantom
from nmfuse.images.scratch import Scratch
from nmfuse.io import read_image
from nmfuse.methods import METHODS, registry
from nmfuse.methods.base import Rival, Trace
from nmfuse.methods.rivals import fuzzy, rules, sparse
from nmfuse.methods.rivals.asr import Asr, orientation
from nmfuse.methods.rivals.contourlets import decompose, reconstruct
from nmfuse.methods.rivals.nsct_pc import phase_congruency
from nmfuse.methods.rivals.pca import Pca

pytestmark = pytest.mark.usefixtures("one_thread")

ROW = {name: row for name, row in METHODS.items() if row.where.startswith("rivals.")}
QUICK = {"asr": {"step": 4}}  # its default, a patch at every pixel, takes seconds
# Not the image itself: a centroid never reaches the ends of the scale; codes have an error of 0.1; OpenCV rounds.
OWN_ERROR = {"fuzzy": 0.15, "mst-sr": 1e-3, "asr": 2e-3, "mertens": 0.01}
SINGLE = ("mst-sr", "asr", "cnn-liu", "mertens")  # work in float32
AVERAGING = ("average", "maximum", "pca")  # never above the brightest source
MULTI_SCALE = ("wavelet", "mst-sr", "nsct-pc", "cnn-liu", "laplacian", "contrast", "dtcwt", "guided-filter")

# Made by the functions for two images that these classes replaced: "sources" (2, 64, 64), T2 and CT of the phantom, and
# by "name" or "name {options}" every fourth pixel of each fourth row of the result, and the sums of all its rows.
BEFORE = dict(np.load(Path(__file__).with_name("pairs.npz")))


def make(name: str, **options: Any) -> Rival:
    return ROW[name].load()(**{**QUICK.get(name, {}), **options})


@pytest.fixture(scope="module")
def modalities() -> np.ndarray:
    phantom = brain_phantom(96)
    fifth = 0.9 * np.roll(phantom.t1, 7, axis=1)
    return np.stack([phantom.t2, phantom.ct, phantom.pet, phantom.t1, fifth]).astype(np.float64)


@pytest.mark.parametrize("key", [key for key in BEFORE if key != "sources"])
def test_two_images_give_what_they_gave_before(key: str) -> None:
    name, _, options = key.partition(" ")
    method = ROW[name].load()(**json.loads(options or "{}"))
    fused = method.fuse_planes(BEFORE["sources"].astype(np.float64))
    assert (fused.shape, fused.dtype) == ((64, 64), np.float64)
    found = np.concatenate([fused[::4, ::4].ravel(), fused.sum(axis=1)])
    # All had the same bits on the machine that made them. FFT, BLAS, FMA of another may differ in the last of them.
    if name in ("average", "maximum"):
        np.testing.assert_array_equal(found[:256], BEFORE[key][:256])
    tolerance = 1e-5 if name in SINGLE else 1e-12
    if name == "asr":  # where two atoms fit a patch equally well, the last bits decide
        error = np.abs(found[:256] - BEFORE[key][:256])
        assert np.mean(error < tolerance) > 0.8
        assert error.max() < 0.05
        return
    np.testing.assert_allclose(found[:256], BEFORE[key][:256], rtol=0, atol=tolerance)
    np.testing.assert_allclose(found[256:], BEFORE[key][256:], rtol=0, atol=64 * tolerance)


@pytest.mark.parametrize("name", ROW)
def test_an_image_with_itself_is_itself(name: str, modalities: np.ndarray) -> None:
    image = modalities[0]
    fused = make(name).fuse_planes(np.stack([image, image]))
    np.testing.assert_allclose(fused, image, rtol=0, atol=OWN_ERROR.get(name, 1e-5))


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("name", ROW)
def test_copies_of_one_image_give_what_two_give(name: str, count: int, modalities: np.ndarray) -> None:
    image = np.rint(255 * modalities[0]) / 255  # whole grey levels: fuzzy interpolates between them for two
    method = make(name)
    two, more = (method.fuse_planes(np.stack([image] * n)) for n in (2, count))
    np.testing.assert_allclose(more, two, rtol=0, atol=1e-6 if name in SINGLE else 1e-12)


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("name", ROW)
def test_several_images(name: str, count: int, modalities: np.ndarray) -> None:
    x = modalities[:count]
    given = x.copy()
    fused = make(name).fuse_planes(x)
    np.testing.assert_array_equal(x, given)
    assert (fused.shape, fused.dtype) == (x.shape[1:], np.float64)
    assert np.isfinite(fused).all()
    assert fused.std() > 0.05
    if name in AVERAGING:
        assert (fused <= x.max(axis=0) + 1e-12).all()
        assert (fused >= x.min(axis=0) - 1e-12).all()


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("name", ROW)
def test_the_order_of_the_images_does_not_matter(name: str, count: int, modalities: np.ndarray) -> None:
    method = make(name)
    for x in (modalities[:2], modalities[:count]):
        np.testing.assert_allclose(method.fuse_planes(x[::-1]), method.fuse_planes(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("name", MULTI_SCALE)
def test_images_each_sharp_in_one_part_become_one_that_is_sharp(name: str, count: int) -> None:
    sharp = brain_phantom(96).t1.astype(np.float64)
    part = np.arange(96) * count // 96
    x = np.stack([np.where(part == source, sharp, ndimage.gaussian_filter(sharp, 2.5)) for source in range(count)])

    def error(fused: np.ndarray) -> float:
        return float(np.sqrt(np.mean((fused - sharp) ** 2)))

    assert error(make(name).fuse_planes(x)) < 0.5 * error(x.mean(axis=0))


@pytest.mark.parametrize("name", ROW)
@pytest.mark.parametrize("shape", [(33, 47), (16, 64)])
def test_any_size(name: str, shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).random((3, *shape))
    fused = make(name).fuse_planes(x)
    assert fused.shape == shape
    assert np.isfinite(fused).all()


@pytest.mark.parametrize("name", ROW)
def test_flat_images_give_a_flat_one(name: str) -> None:
    fused = make(name).fuse_planes(np.stack([np.full((32, 32), level) for level in (0.2, 0.4, 0.6)]))
    assert np.ptp(fused) < 1e-6
    assert 0.2 - 1e-6 <= fused.mean() <= 0.6 + 1e-6 or name == "fuzzy"


def test_a_volume_is_fused_plane_by_plane_and_kept_within_the_range(modalities: np.ndarray) -> None:
    method = make("contrast")  # overshoots
    sources = torch.from_numpy(np.stack([modalities[:3], modalities[1:4]], axis=1)).float()  # (3, 2, H, W)
    trace = Trace()
    fused = method.fuse(sources, trace, Scratch())
    assert (fused.shape, fused.dtype) == ((2, 96, 96), torch.float32)
    assert set(trace.seconds) == {"fuse"}
    assert 0 <= float(fused.min()) <= float(fused.max()) <= 1
    for z in range(2):
        torch.testing.assert_close(fused[z], method.fuse(sources[:, z], Trace(), Scratch()), rtol=0, atol=0)


def test_cnn_liu_gives_its_authors_image(shared_dir: Path) -> None:
    folder = shared_dir / "oracles" / "cnn_liu"
    x = np.stack([read_image(folder / name) for name in ("010_CT.tif", "010_MR-T2.tif")]) / 255.0
    fused = make("cnn-liu", weights=folder / "cnnmodel.mat").fuse_planes(x)
    grey_levels = 255 * np.clip(fused, 0, 1)  # these round to theirs; the machine's sums decide which way a half goes
    np.testing.assert_allclose(grey_levels, read_image(folder / "fused.tif"), rtol=0, atol=0.5 + 1e-4)


def test_cnn_liu_weighs_several_images_by_its_authors_network(shared_dir: Path) -> None:
    from nmfuse.methods.rivals.cnn_liu import _authors_scores, authors_net

    net = authors_net(shared_dir / "oracles" / "cnn_liu" / "cnnmodel.mat")
    sharp = brain_phantom(96).t1
    x = torch.from_numpy(np.stack([ndimage.gaussian_filter(sharp, sigma) for sigma in (4, 0, 2)]))[:, None]
    features = net.features(x)
    scores = _authors_scores(features, net)
    torch.testing.assert_close(scores.sum(0), torch.ones_like(scores[0]))
    low, high, medium = scores.mean((1, 2)).tolist()
    assert low < medium < high
    alike = _authors_scores(features[[1, 1, 1]], net).mean((1, 2))  # block by block the net prefers one of two places
    torch.testing.assert_close(alike, torch.full_like(alike, 1 / 3), rtol=0, atol=0.01)


def test_cnn_liu_says_whose_weights_it_has(
    modalities: np.ndarray, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    from nmfuse.methods.rivals import cnn_liu

    cnn_liu._say_whose_weights.cache_clear()
    with caplog.at_level(logging.WARNING, "nmfuse"):
        make("cnn-liu").fuse_planes(modalities[:2])
        make("cnn-liu").fuse_planes(modalities[:2])
    assert caplog.text.count("our own focus weights") == 1
    (tmp_path / "other.mat").write_bytes(b"not MATLAB")
    with pytest.raises(ValueError, match=r"other\.mat is not the authors' cnnmodel\.mat"):
        make("cnn-liu", weights=tmp_path / "other.mat").fuse_planes(modalities[:2])
    with pytest.raises(FileNotFoundError, match=r"none\.mat"):
        make("cnn-liu", weights=tmp_path / "none.mat").fuse_planes(modalities[:2])


def test_asr_gives_its_authors_image(shared_dir: Path) -> None:
    folder = shared_dir / "oracles" / "asr"
    a, b, published = (read_image(folder / f"{x}.tif").pixels for x in ("a01_1", "a01_2", "fused_asr_d256_n0"))
    fused = Asr(mean="source", dictionary=folder).fuse_planes(np.stack([a, b]) / 255.0)
    off = np.abs(np.rint(np.clip(fused, 0, 1) * 255) - published.astype(float))
    assert (off <= 1).mean() >= 0.99


@pytest.mark.parametrize("shape", [(64, 64), (65, 48), (33, 71)])
@pytest.mark.parametrize("directions", [(1, 1, 1, 1), (2, 2, 2), (0, 1, 2)])
def test_contourlets_reconstruct_perfectly(shape: tuple[int, int], directions: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).random(shape)
    bands = decompose(image, directions)
    assert [len(scale) for scale in bands] == [1, *(2**n for n in directions)]
    np.testing.assert_allclose(reconstruct(bands), image, rtol=0, atol=1e-10)


def test_contourlets_tell_directions_apart_and_do_not_move() -> None:
    rows, columns = np.mgrid[:64, :64]
    stripes = np.sin(2 * np.pi * 20 * columns / 64)
    energy = [float((band**2).sum()) for band in decompose(stripes, (1, 1))[-1]]
    assert max(energy) > 1000 * min(energy)
    energy_of_rows = [float((band**2).sum()) for band in decompose(np.sin(2 * np.pi * 20 * rows / 64), (1, 1))[-1]]
    assert np.argmax(energy) != np.argmax(energy_of_rows)
    image = np.random.default_rng(2).random((64, 64))
    for scale, moved in zip(decompose(image), decompose(np.roll(image, (3, 5), (0, 1))), strict=True):
        for band, other in zip(scale, moved, strict=True):
            np.testing.assert_allclose(np.roll(band, (3, 5), (0, 1)), other, atol=1e-12)


def test_phase_congruency_is_of_the_edge_not_of_its_contrast() -> None:
    image = np.zeros((256, 256))
    image[:, 128:] = 1
    full, faint = phase_congruency(image), phase_congruency(0.1 * image)
    assert full[100, 127:129].min() > max(0.5, 4 * full[100, 54:74].max())
    assert faint[100, 127:129].max() == pytest.approx(full[100, 127:129].max(), rel=0.05)


def test_pursuit_finds_sparse_codes() -> None:
    rng = np.random.default_rng(3)
    dictionary = torch.from_numpy(rng.standard_normal((64, 256)))
    dictionary /= dictionary.norm(dim=0)
    codes = np.zeros((40, 256))
    for code in codes:
        code[rng.choice(256, 3, replace=False)] = rng.choice([-1, 1], 3) * rng.uniform(5, 9, 3)
    x = torch.from_numpy(codes) @ dictionary.T
    approximation, magnitude = sparse.orthogonal_matching_pursuit(x, dictionary, 1e-6)
    torch.testing.assert_close(approximation, x, rtol=0, atol=1e-6)
    exact = np.abs(codes).sum(1)
    assert (np.abs(magnitude.numpy() - exact) < 1e-4).mean() > 0.9  # greedy: not always the sparsest


def test_pursuit_is_scikit_learns() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(4)
    dictionary = torch.from_numpy(rng.standard_normal((64, 256)))
    dictionary /= dictionary.norm(dim=0)
    x = torch.from_numpy(rng.standard_normal((30, 64)))
    approximation, magnitude = sparse.orthogonal_matching_pursuit(x, dictionary, 2.0)
    codes = linear_model.orthogonal_mp(dictionary.numpy(), x.numpy().T, tol=4.0)
    np.testing.assert_allclose(approximation.numpy(), (dictionary.numpy() @ codes).T, atol=1e-8)
    np.testing.assert_allclose(magnitude.numpy(), np.abs(codes).sum(0), rtol=1e-8)


def test_shipped_dictionaries() -> None:
    general, oriented = sparse.dictionaries()
    assert (general.shape, oriented.shape) == ((64, 256), (6, 64, 256))
    for atoms in (general, *oriented):
        torch.testing.assert_close(atoms.norm(dim=0), torch.ones(256))
    for k, atoms in enumerate(oriented):  # the atoms of an orientation have it
        assert torch.bincount(orientation(atoms.T), minlength=7).argmax() == k
    assert (Path(sparse.__file__).parent / sparse.DICTIONARIES).stat().st_size <= 200_000


def test_orientation_of_stripes() -> None:
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    ramps = torch.stack([x, y, x + y, torch.zeros(8, 8)]).reshape(4, 64)
    assert orientation(ramps)[-1] == 6
    assert len(set(orientation(ramps).tolist())) >= 3


def test_of_codes_the_largest_is_taken_and_of_equal_ones_the_mean() -> None:
    codes = [torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]]), torch.tensor([[5.0], [6.0]])]
    means = [torch.tensor([[10.0], [20.0]]), torch.tensor([[30.0], [40.0]]), torch.tensor([[50.0], [60.0]])]
    magnitudes = [torch.tensor([1.0, 7.0]), torch.tensor([2.0, 7.0]), torch.tensor([1.0, 3.0])]
    taken = sparse.take_largest(magnitudes, codes, means)
    torch.testing.assert_close(taken, torch.tensor([[33.0], [33.0]]))


def test_fuzzy_table_is_the_rules() -> None:
    table = fuzzy.table()
    np.testing.assert_array_equal(table, table.T)
    assert (np.diff(table, axis=1) > -1.0).all()  # the higher the input, the higher the output, but for ripples
    assert table[255, 0] == pytest.approx(table[255, 255]) == pytest.approx(255 - 21, abs=1.5)
    assert table[128, 0] == pytest.approx(128, abs=1)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_fuzzy_inference_is_that_of_all_rules(count: int) -> None:
    levels = np.random.default_rng(5).uniform(0, 255, (count, 50))
    grey = np.arange(256.0)
    sets = [np.interp(grey, fuzzy.PEAKS, peak) for peak in np.eye(5)]
    expected = []
    for inputs in levels.T:
        degrees = [[np.interp(x, fuzzy.PEAKS, peak) for peak in np.eye(5)] for x in inputs]
        shape = np.zeros(256)
        for rule in itertools.product(range(5), repeat=count):
            fires = min(degree[k] for degree, k in zip(degrees, rule, strict=True))
            shape = np.maximum(shape, np.minimum(fires, sets[max(rule)]))
        expected.append((shape * grey).sum() / shape.sum())
    np.testing.assert_allclose(fuzzy.infer(levels), expected, rtol=1e-12)


def test_pca_of_anticorrelated_images_has_no_negative_weight() -> None:
    a = np.linspace(0.2, 0.8, 400).reshape(20, 20)
    np.testing.assert_allclose(Pca().fuse_planes(np.stack([a, 1 - 0.5 * a])), a)
    b, c = 0.5 * a + 0.1, 1 - 0.2 * a
    np.testing.assert_allclose(Pca().fuse_planes(np.stack([a, b, c])), (a + 0.5 * b) / 1.5)


def test_majority_decides() -> None:
    a, b = np.ones((9, 9)), np.zeros((9, 9))
    active = np.ones((9, 9))
    active[4, 4] = 0  # one pixel disagrees
    half = 0.5 * np.ones((9, 9))
    assert (rules.choose(np.stack([a, b]), np.stack([active, half]), 3) == 1).all()
    assert rules.choose(np.stack([a, b]), np.stack([active, half]))[4, 4] == 0
    for sources in ((a, b, b), (b, a, b), (b, b, a)):  # a source that is there twice has no less of the votes
        activity = np.stack([active if source is a else half for source in sources])
        assert (rules.choose(np.stack(sources), activity, 3) == 1).all()
        assert rules.choose(np.stack(sources), activity)[4, 4] == 0
    assert (rules.choose(np.stack([a, 3 * a, 8 * a]), np.stack([active, active, half])) == 2)[0].all()  # ties


BAD_OPTIONS = [
    ("wavelet", "wavelet", "db0", "expected one of pywt.wavelist"),
    ("wavelet", "levels", 0, "expected an int of at least 1"),
    ("mst-sr", "levels", -1, "expected an int of at least 0"),
    ("mst-sr", "step", 0, "expected an int of at least 1"),
    ("mst-sr", "error", -0.1, "expected at least 0"),
    ("nsct-pc", "directions", 3, "expected a number of 0, 1 or 2 for each scale"),
    ("asr", "mean", "median", "expected one of average, source"),
    ("asr", "step", 1.5, "expected an int of at least 1"),
    ("asr", "noise", -1, "expected at least 0"),
    ("cnn-liu", "threshold", "high", "expected a finite number"),
    ("laplacian", "levels", True, "expected an int of at least 1"),
    ("contrast", "levels", 0, "expected an int of at least 1"),
    ("dtcwt", "levels", 0, "expected an int of at least 1"),
    ("guided-filter", "radius_base", -1, "expected an int of at least 0"),
    ("guided-filter", "epsilon_detail", 0.0, "expected a number above 0"),
    ("mertens", "exposure", float("nan"), "expected a finite number"),
]


@pytest.mark.parametrize(("name", "option", "value", "expected"), BAD_OPTIONS)
def test_bad_options_are_named(name: str, option: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=f"{option}: got {value!r}; {expected}"):
        make(name, **{option: value})


def test_bad_directions_are_named() -> None:
    with pytest.raises(ValueError, match="directions: got 3; expected 0, 1 or 2, the logarithm"):
        make("nsct-pc", directions=(3,))
    with pytest.raises(ValueError, match="directions: got 3; expected 0, 1 or 2, the logarithm"):
        decompose(np.zeros((32, 32)), (1, 3))
    assert make("nsct-pc", directions=[1, 2]) == make("nsct-pc", directions=(1, 2))


def test_methods_are_rows_of_their_own_name_and_class() -> None:
    assert len(ROW) >= 14
    for name, row in ROW.items():
        assert row.name == name
        assert issubclass(row.load(), Rival)
        assert not row.missing
        assert row.title
        assert row.source


def test_missing_packages_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda _: None)
    assert {row.name: row.missing for row in ROW.values() if row.missing} == {
        "wavelet": ("pywt",),
        "dtcwt": ("dtcwt",),
        "mertens": ("cv2",),
    }
    with pytest.raises(ModuleNotFoundError, match=r"method 'dtcwt' needs dtcwt; pip install 'nmfuse\[compare\]'"):
        registry.make("dtcwt")


def test_rows_load_nothing() -> None:
    heavy = "{'torch', 'scipy', 'pywt', 'cv2', 'dtcwt'}"
    code = f"import sys, nmfuse.methods.rivals, nmfuse.methods.registry; print(*{heavy} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
