"""What the learned method shows of small signals that one source alone has: on phantoms and on real pairs."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import nmfuse
from nmfuse.data import brain_phantom, pet_rgb
from nmfuse.io import find_sets
from nmfuse.metrics import Transfer, contradiction, transfer
from nmfuse.training.patches import find_images, read_grey

pytestmark = pytest.mark.usefixtures("one_thread")
WEIGHTS = ("learned", "learned-all")
REAL = ("mri_ct", "mri_pet", "mri_spect", "mri_t1_t2", "ir_vis", "multi_exposure", "multi_focus")
SOMEWHAT = 0.03  # margin: other processors round otherwise


def bytes_of(x: np.ndarray) -> np.ndarray:
    return np.rint(255 * x).astype(np.uint8)


@pytest.mark.parametrize("method", WEIGHTS)
@pytest.mark.parametrize(
    "names", [("t2", "ct"), ("t1", "pet"), ("t1", "t2"), ("t1", "t2", "ct"), ("t1", "t2", "ct", "pet")]
)
def test_phantoms(method: str, names: tuple[str, ...]) -> None:
    phantom = brain_phantom(160, 5)
    found = transfer(nmfuse.Fuser(method), [bytes_of(getattr(phantom, name)) for name in names], places=2)
    assert found.lost <= (0.02 if len(names) < 4 else 0.1)
    assert found.wrong == 0
    assert found.mean > {2: 0.75, 3: 0.6, 4: 0.5}[len(names)]


@pytest.mark.parametrize("kind", REAL)
def test_real_pairs(kind: str, shared_dir: Path) -> None:
    one = next(x for x in find_sets(shared_dir / "data" / "pairs") if x.kind == kind)
    sources = [image.pixels for image in one.luminances()]
    found = transfer(nmfuse.Fuser(), sources, places=2, seed=1)
    laplacian = transfer(nmfuse.Fuser("laplacian"), sources, places=2, seed=1)
    assert found.wrong == 0
    assert found.lost <= 0.1
    assert found.mean > laplacian.mean - 0.1


@pytest.mark.parametrize("method", WEIGHTS)
def test_a_stack_of_eight_shows_more_than_a_laplacian_pyramid(method: str, shared_dir: Path) -> None:
    """Each picture is sharp in one strip of a photograph."""
    photo = read_grey(next(iter(find_images(shared_dir / "data" / "photos"))))[:192, :192]
    blurred = np.stack([ndimage.gaussian_filter(photo.astype(float), 1.5 * d) for d in range(8)])
    strips = np.arange(192) * 8 // 192
    stack = [np.rint(blurred[np.abs(strips - k), :, np.arange(192)].T).astype(np.uint8) for k in range(8)]
    found = transfer(nmfuse.Fuser(method), stack, places=1)
    assert found.lost <= 0.1
    assert found.mean > transfer(nmfuse.Fuser("laplacian"), stack, places=1).mean


def test_a_calcification_is_bright_though_mri_shows_it_dark() -> None:
    signals = []
    for seed in range(4):
        phantom = brain_phantom(128, seed)
        signals += contradiction(nmfuse.Fuser(), [bytes_of(phantom.t2), bytes_of(phantom.ct)], seed=seed).signals
    found = Transfer(tuple(signals))
    assert np.mean([one.transfer > 0 for one in found.of(1).signals]) >= 0.9  # CT shows it more strongly


def test_the_transfer_rises_with_the_balance() -> None:
    phantom = brain_phantom(128)
    sources = [bytes_of(phantom.t2), pet_rgb(phantom.pet)]
    fuser = nmfuse.Fuser()
    means = [
        transfer(lambda *x, b=b: fuser.fuse(*x, balance=b), sources, places=2).of(1).mean
        for b in ((1, 0), (1, 0.5), (1, 1), (0.5, 1), (0, 1))
    ]
    assert means[0] == pytest.approx(0, abs=0.02)
    assert means[-1] == pytest.approx(1, abs=0.02)
    assert all(later > earlier - SOMEWHAT for earlier, later in itertools.pairwise(means))


def test_a_volume_of_a_head_does_not_flicker() -> None:
    """From slice to slice it changes no more than whichever source changes most, voxel by voxel."""
    head = brain_phantom(96, 2, depth=9)
    fused = nmfuse.fuse(head.t2, head.ct, spatial=3)
    change, *sources = (np.abs(np.diff(x, axis=0)) for x in (fused, head.t2, head.ct))
    assert change.mean() < 1.05 * np.maximum(*sources).mean()
