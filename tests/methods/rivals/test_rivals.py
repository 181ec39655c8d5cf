"""Every rival method: what its authors published, and what it must do by its definition."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from nmfuse.baselines import METHODS, cnn_liu, fuse, fuzzy, pca, rules, sparse
from nmfuse.baselines.asr import orientation
from nmfuse.baselines.contourlets import decompose, reconstruct
from nmfuse.baselines.nsct_pc import phase_congruency
from nmfuse.data import brain_phantom
from nmfuse.io import read_image

pytestmark = pytest.mark.usefixtures("one_thread")

RIVALS = [name for name, method in METHODS.items() if method.where != "Fuser"]
# Not the image itself: a centroid never reaches the ends of the scale; codes have an error of 0.1; OpenCV rounds.
OWN_ERROR = {"fuzzy": 0.15, "mst-sr": 1e-3, "asr": 2e-3, "mertens": 0.01}


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    phantom = brain_phantom(96)
    return phantom.t2.astype(np.float32), phantom.ct.astype(np.float32)


@pytest.mark.parametrize("name", RIVALS)
def test_an_image_with_itself_is_itself(name: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_allclose(fuse(pair[0], pair[0], name), pair[0], rtol=0, atol=OWN_ERROR.get(name, 1e-5))


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_the_images_does_not_matter(name: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    np.testing.assert_allclose(fuse(a, b, name), fuse(b, a, name), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", [(33, 47), (16, 64)])
def test_any_size_and_dtype_in_the_same_out(name: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, shape).astype(np.uint8) for _ in "ab")
    fused = fuse(a, b, name)
    assert (fused.shape, fused.dtype) == (shape, np.uint8)
    wide = fuse(a.astype(np.uint16) * 257, b.astype(np.uint16) * 257, name)
    assert wide.dtype == np.uint16
    assert np.abs(wide / 257 - fused).max() <= 1.01


@pytest.mark.parametrize("name", ["wavelet", "cnn-liu", "learned"])
def test_colour_keeps_its_chroma(name: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    mri = np.rint(255 * pair[0]).astype(np.uint8)
    pet = np.stack([mri, mri // 2, 255 - mri], axis=-1)
    fused = fuse(mri, pet, name)
    assert fused.shape == pet.shape
    assert np.abs(fused[..., 0].astype(int) - fused[..., 2]).max() > 50


def test_cnn_liu_gives_its_authors_image(shared_dir: Path) -> None:
    folder = shared_dir / "oracles" / "cnn_liu"
    ct, mri = (read_image(folder / name) for name in ("010_CT.tif", "010_MR-T2.tif"))
    fused = METHODS["cnn-liu"].function()(ct / 255.0, mri / 255.0, weights=folder / "cnnmodel.mat")
    grey_levels = 255 * np.clip(fused, 0, 1)  # these round to theirs; the machine's sums decide which way a half goes
    np.testing.assert_allclose(grey_levels, read_image(folder / "fused.tif"), rtol=0, atol=0.5 + 1e-4)


def test_cnn_liu_says_whose_weights_it_has(
    pair: tuple[np.ndarray, np.ndarray], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    cnn_liu._say_whose_weights.cache_clear()
    with caplog.at_level(logging.WARNING, "nmfuse"):
        fuse(*pair, "cnn-liu")
        fuse(*pair, "cnn-liu")
    assert caplog.text.count("our own focus weights") == 1
    (tmp_path / "other.mat").write_bytes(b"not MATLAB")
    with pytest.raises(ValueError, match=r"other\.mat is not the authors' cnnmodel\.mat"):
        fuse(*pair, "cnn-liu", weights=tmp_path / "other.mat")


def test_asr_gives_its_authors_image(shared_dir: Path) -> None:
    folder = shared_dir / "oracles" / "asr"
    a, b, published = (read_image(folder / f"{x}.tif") for x in ("a01_1", "a01_2", "fused_asr_d256_n0"))
    fused = METHODS["asr"].function()(a / 255.0, b / 255.0, mean="source", dictionary=folder)
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


def test_fuzzy_table_is_the_rules() -> None:
    table = fuzzy.table()
    np.testing.assert_array_equal(table, table.T)
    assert (np.diff(table, axis=1) > -1.0).all()  # the higher the input, the higher the output, but for ripples
    assert table[255, 0] == pytest.approx(table[255, 255]) == pytest.approx(255 - 21, abs=1.5)
    assert table[128, 0] == pytest.approx(128, abs=1)


def test_pca_of_anticorrelated_images_has_no_negative_weight() -> None:
    a = np.linspace(0.2, 0.8, 400).reshape(20, 20)
    fused = pca.fuse(a, 1 - 0.5 * a)
    np.testing.assert_allclose(fused, a)


def test_majority_decides() -> None:
    a, b = np.ones((9, 9)), np.zeros((9, 9))
    active = np.ones((9, 9))
    active[4, 4] = 0  # one pixel disagrees
    assert (rules.choose(a, b, active, 0.5 * np.ones((9, 9)), 3) == 1).all()
    assert rules.choose(a, b, active, 0.5 * np.ones((9, 9)))[4, 4] == 0


def test_bad_input_is_named() -> None:
    image = np.zeros((32, 32), np.uint8)
    with pytest.raises(ValueError, match="method: got 'dwt'; expected one of learned, "):
        fuse(image, image, "dwt")
    with pytest.raises(ValueError, match="depth: is no parameter of 'wavelet'; expected wavelet, levels"):
        fuse(image, image, "wavelet", depth=3)
    with pytest.raises(ValueError, match="mean: got 'median'"):
        fuse(image, image, "asr", mean="median")
    with pytest.raises(ValueError, match="b: size 31 x 32, but a is 32 x 32"):
        fuse(image, image[:-1], "pca")
    with pytest.raises(ValueError, match="directions: got 3"):
        fuse(image, image, "nsct-pc", directions=(3,))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import nmfuse.baselines.registry as registry

    monkeypatch.setattr(registry, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r"method 'wavelet' needs pywt; pip install 'nmfuse\[compare\]'"):
        fuse(np.zeros((32, 32), np.uint8), np.zeros((32, 32), np.uint8), "wavelet")
