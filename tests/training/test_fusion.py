"""Fusion training: the smooth metrics against the metrics, pairs, resumption, and one short run."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter, laplace, uniform_filter

from nmfuse import methods
from nmfuse.data import brain_phantom
from nmfuse.images.rounding import round_informed
from nmfuse.io import write_image
from nmfuse.metrics import RANKING, evaluate
from nmfuse.nets.fusion_net import FORMAT, load_fusion, weight_file
from nmfuse.nets.weights_file import read_weights
from nmfuse.training.fusion import _loss, train_fusion
from nmfuse.training.losses import (
    expected_ranks,
    fusion_scores,
    load_standings,
    mutual_information,
    plain_fusions,
)
from nmfuse.training.pairs import _magnetic, pair_set

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def images():
    phantom = brain_phantom(128)
    fused = np.maximum(phantom.t2, phantom.ct) * np.float32(0.9) + np.float32(0.05) * phantom.t1
    return [torch.from_numpy(np.rint(255 * x) / np.float32(255))[None] for x in (phantom.t2, phantom.ct, fused)]


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("EN", 0.001),
        ("MI", 0.001),
        ("VIF", 0.01),
        ("VIF_min", 0.01),
        ("SSIM", 0.01),
        ("SCD", 0.001),
        ("Q_abf", 0.05),
        ("Q_over", 0.08),
    ],
)
def test_smooth_metrics_are_near_the_metrics(name, tolerance, images):
    smooth = float(fusion_scores(*images)[name])
    a, b, fused = (np.rint(255 * x[0].numpy()).astype(np.uint8) for x in images)
    exact = evaluate(fused, [a, b], metrics=[name])[name]
    assert smooth == pytest.approx(exact, rel=tolerance)


def test_information_of_an_image_between_the_grey_levels(images):
    a, b, _ = images
    fused = 0.85 * torch.maximum(a, b) + 0.05 * (a + b)
    smooth = fusion_scores(a, b, fused)
    sources = [np.rint(255 * x[0].numpy()).astype(np.uint8) for x in (a, b)]
    exact = evaluate(np.rint(255 * fused[0].numpy()).astype(np.uint8), sources, metrics=["EN", "MI"])
    assert float(smooth["EN"]) == pytest.approx(exact["EN"], rel=0.02)
    assert 0.85 * exact["MI"] < float(smooth["MI"]) < exact["MI"]  # its pixels are in two bins each


def test_mutual_information_of_coarse_bins():
    x, y = torch.rand(2, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    own, entropy = (float(value) for value in mutual_information(x, x, bins=64))
    assert entropy == pytest.approx(6, abs=0.03)  # 64 equal bins
    assert own > 4.5  # less than the entropy: bins overlap
    assert float(mutual_information(x, y, bins=64)[0]) < 0.2
    assert float(mutual_information(x, 1 - x, bins=64)[0]) == pytest.approx(own, rel=1e-3)


def test_plain_fusions_are_the_plain_methods(images):
    a, b, _ = images
    fused = plain_fusions(a, b)
    for own, method in zip(fused, ("average", "maximum", "laplacian"), strict=True):
        exact = 255 * methods.make(method).fuse_planes(torch.cat([a, b]).double().numpy()).clip(0, 1)
        grey = 255 * own[0].numpy()
        assert np.abs(grey - exact).max() < 0.501, method
        assert np.abs(grey - np.rint(grey)).max() < 1e-3, method


def test_plain_fusions_round_halves_up_and_average_ties():
    dark, bright = (torch.full((1, 64, 64), grey / 255) for grey in (100, 101))
    for fused in plain_fusions(dark, bright):
        torch.testing.assert_close(255 * fused, torch.full_like(fused, 101))
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    board = ((rows + columns) % 2)[None] * 100 / 255
    inverse = 100 / 255 - board  # its details are those of the board, negated
    inside = 255 * plain_fusions(board, inverse)[2, 0, 8:-8, 8:-8]
    torch.testing.assert_close(inside, torch.full_like(inside, 50))


def test_images_fused_together_score_as_each_alone(images):
    a, b = (torch.cat([x, y.flip(1)]) for x, y in (images[:2], images[1::-1]))
    together = plain_fusions(a, b)
    scores = fusion_scores(a, b, together)
    for i, j in itertools.product(range(3), range(2)):
        for name, value in fusion_scores(a[[j]], b[[j]], together[i, [j]]).items():
            torch.testing.assert_close(scores[name][i, j], value[0], rtol=1e-5, atol=1e-6, msg=name)


def test_scores_may_be_asked_for_without_gradients_first():
    x = torch.rand(1, 53, 53, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        fusion_scores(x, x, x)
    x.requires_grad_()
    fusion_scores(x.detach(), x.detach(), x)["VIF"].backward()
    assert x.grad is not None


def test_contrast_and_spatial_frequency_on_their_own_scale(images):
    scores = fusion_scores(*images)
    assert tuple(scores) == RANKING
    a, b, fused = (np.rint(255 * x[0].numpy()).astype(np.uint8) for x in images)
    exact = evaluate(fused, [a, b], metrics=["SD", "SF"])
    for name in ("SD", "SF"):
        assert 255 * float(scores[name]) == pytest.approx(exact[name], rel=0.01)


def test_ranks_say_how_many_others_are_better(images):
    a, b, fused = images
    standings = torch.stack([torch.linspace(0.5, 1.5, 15) if name in ("SD", "SF", "MI", "VIF", "VIF_min")
                             else torch.linspace(-1, 1, 15) for name in RANKING])[None]  # fmt: skip
    average, maximum, laplacian = (fusion_scores(a, b, x) for x in plain_fusions(a, b))
    ranks = expected_ranks(a, b, fused, standings)
    assert ranks.shape == (1, 10)
    for i, (name, value) in enumerate(fusion_scores(a, b, fused).items()):
        reference = (average[name] + maximum[name] + 2 * laplacian[name]) / 4
        others = (
            standings[0, i] * reference if name in ("SD", "SF", "MI", "VIF", "VIF_min") else standings[0, i] + reference
        )
        assert float(ranks[0, i]) == pytest.approx(1 + int((others > value).sum()), abs=0.75)


def test_entropy_and_information_are_ranked_as_of_the_rounded_image(images):
    a, b, _ = images
    between = (0.85 * torch.maximum(a, b) + 0.05 * (a + b)).requires_grad_()
    whole = round_informed(between.detach()[0], [a[0], b[0]])[None]
    standings = load_standings()["mri_ct"][None]
    ranks, exact = (expected_ranks(a, b, f, standings)[0] for f in (between, whole))
    for name in ("EN", "MI"):
        at = RANKING.index(name)
        assert ranks[at].item() == pytest.approx(exact[at].item(), abs=1e-3)
        (slope,) = torch.autograd.grad(ranks[at], between, retain_graph=True)
        assert slope.abs().max() > 0


def test_standings_of_every_kind():
    standings = load_standings()
    assert {"mri_ct", "mri_pet", "mri_spect", "mri_t1_t2", "ir_vis", "multi_focus", "multi_exposure", "any"} == set(
        standings
    )
    for kind, others in standings.items():
        assert others.shape == (10, 15), kind
        assert (others.diff(dim=1) >= 0).all(), kind


def test_scores_are_differentiable_even_of_black(images):
    for a, b in ((images[0], images[1]), (torch.zeros(1, 64, 64), torch.zeros(1, 64, 64))):
        fused = ((a + b) / 2).clone().requires_grad_()
        torch.stack(list(fusion_scores(a, b, fused).values())).sum().backward()
        assert fused.grad.isfinite().all()


@pytest.fixture
def data(tmp_path):
    """Two kinds of pairs, four patients, as a folder with an index."""
    folder = tmp_path / "data"
    rng = np.random.default_rng(0)
    lines = ["kind,n,patient,slice"]
    for kind in ("mri_ct", "ir_vis"):
        (folder / kind).mkdir(parents=True)
        for n in range(1, 7):
            for side in "AB":
                write_image(folder / kind / f"{n:03d}_{side}.png", rng.integers(0, 256, (80, 90)).astype(np.uint8))
            lines.append(f"{kind},{n},{n // 2},{n}" if kind == "mri_ct" else f"{kind},{n},,")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_pairs_are_split_by_patient(data):
    pairs = pair_set(data, None, 0)
    assert set(pairs.training) == set(pairs.held_out) == {"mri_ct", "ir_vis"}
    assert len(pairs.files) == 24
    rng = np.random.default_rng(1)
    seen = [
        {pairs_of["mri_ct"](80, rng)[0].tobytes() for _ in range(300)} for pairs_of in (pairs.training, pairs.held_out)
    ]
    assert not seen[0] & seen[1]
    a, b = pairs.training["mri_ct"](64, rng)
    assert a.shape == b.shape == (64, 64)
    assert a.dtype == np.float32


def test_pairs_smaller_than_the_crop_are_passed_over(data):
    write_image(data / "ir_vis" / "9_A.png", np.zeros((120, 110), np.uint8))
    write_image(data / "ir_vis" / "9_B.png", np.full((120, 110), 200, np.uint8))
    pairs, rng = pair_set(data, None, 0), np.random.default_rng(0)
    for _ in range(5):
        a, b = pairs.training["ir_vis"](96, rng)
        assert a.shape == (96, 96)
        assert not a.any()
        assert b.min() == b.max()
    with pytest.raises(ValueError, match="expected all alike and of at least 112 pixels"):
        pairs.training["ir_vis"](112, rng)


def test_pairs_of_photographs_and_phantoms(data):
    pairs = pair_set(None, data / "mri_ct", 2)
    kinds = {"ir_vis", "mri_ct", "mri_pet", "mri_spect", "mri_t1_t2", "multi_exposure", "multi_focus"}
    assert set(pairs.training) == set(pairs.held_out) == kinds
    rng = np.random.default_rng(0)
    for make in (*pairs.training.values(), *pairs.held_out.values()):
        for x in make(64, rng):
            assert x.shape == (64, 64)
            assert x.dtype == np.float32
            assert 0 <= x.min() <= x.max() <= 1
    a, b, _ = pairs.draw("training", 8, 64, rng)
    for x in (a, b):
        assert x.dtype == np.float32
        assert np.array_equal(x, np.rint(255 * x) / np.float32(255))  # as files have them


@pytest.fixture
def grey_views(tmp_path):
    """Return 60 pairs of a kind made of a photograph that is grey all over."""
    for name in ("1_held_out", "2_learned"):
        write_image(tmp_path / f"{name}.png", np.full((64, 64), 128, np.uint8))
    makers, rng = pair_set(None, tmp_path, 0).training, np.random.default_rng(0)
    return lambda kind: [makers[kind](64, rng) for _ in range(60)]


@pytest.mark.parametrize(("kind", "most"), [("ir_vis", 0.02), ("multi_exposure", 0.01), ("multi_focus", 0.01)])
def test_photographs_are_taken_with_noise(kind, most, grey_views):
    noises = []
    for pair in grey_views(kind):
        a, b = (x[:-1, :-1] + x[1:, 1:] - x[:-1, 1:] - x[1:, :-1] for x in pair)  # four times the variance
        noises.append([np.median(np.abs(x)) / 0.6745 / 2 for x in (a, b)])
        assert abs(np.mean(a * b)) < 0.4 * most**2  # each image has its own
    for noise in np.transpose(noises):
        assert 0.85 * most < max(noise) < 1.1 * most
        assert min(noise) < 0.15 * most


def test_focus_stacks_are_often_in_two_exposures(grey_views):
    brighter = [abs(float(a.mean()) - float(b.mean())) for a, b in grey_views("multi_focus")]
    assert 0.25 < np.mean([x > 0.01 for x in brighter]) < 0.65
    assert 0.25 < np.mean([x < 0.002 for x in brighter]) < 0.65


def test_focus_stacks_are_sharp_in_either_image(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("1_held_out", "2_learned"):
        write_image(tmp_path / f"{name}.png", rng.integers(0, 256, (128, 128), np.uint8))
    make = pair_set(None, tmp_path, 0).training["multi_focus"]
    shares, left = [], []
    for _ in range(40):
        a, b = make(128, rng)
        fine = [uniform_filter(laplace(x) ** 2, 9) for x in (a, b)]
        shares.append(float((fine[0] > fine[1]).mean()))
        coarse = [uniform_filter((gaussian_filter(x, 2) - gaussian_filter(x, 4)) ** 2, 25) for x in (a, b)]
        left.append(np.median(np.minimum(*coarse) / np.maximum(*coarse)))
    assert 0.35 < np.mean(shares) < 0.65
    assert max(shares) > 0.9  # some crops lie within one region
    assert max(left) > 0.4  # blurred by a pixel,
    assert min(left) < 0.02  # and by so many that coarse structures go, too


def test_phantoms_are_shown_as_scanners_show_heads(monkeypatch):
    monkeypatch.setattr("nmfuse.training.pairs._FEW_GREYS", 0)  # they may round the noise of air to black
    pairs = pair_set(None, None, 2).training
    rng = np.random.default_rng(0)
    views = {kind: [pairs[kind](256, rng) for _ in range(60)] for kind in ("mri_ct", "mri_pet", "mri_spect")}
    white = [float((ct == 1).mean()) for _, ct in views["mri_ct"]]
    assert max(white) > 0.06 > 0.05 > min(white)  # windows of soft tissue, where bone is white, and wide ones
    assert 0.6 < np.mean([x > 0.03 for x in white]) < 1
    black = [float((mri == 0).mean()) > 0.45 for mri, _ in views["mri_ct"]]
    assert 0.5 < np.mean(black) < 1  # the air is masked more often than not
    bright = [np.mean([x[x > 0.05].mean() for _, x in views[kind]]) for kind in ("mri_pet", "mri_spect")]
    assert bright[0] > bright[1] + 0.05
    assert all(x.max() <= 0.85 + 0.5 / 255 for _, x in views["mri_spect"])


def test_heads_are_of_four_sizes_in_one_frame(monkeypatch):
    monkeypatch.setattr("nmfuse.training.pairs._SOMETIMES_FACED", 0)
    monkeypatch.setattr("nmfuse.training.pairs.ndimage.maximum_filter", lambda bone, _: bone)  # as thick as it is
    make = pair_set(None, None, 6).training["mri_ct"]
    rng = np.random.default_rng(0)
    lengths = []
    for _ in range(48):
        ct = make(256, rng)[1]
        shown = ct > 0.9 * ct.max()  # bone alone: skin and fat are most often black
        (rows,), (columns,) = (np.nonzero(shown.any(axis)) for axis in (1, 0))
        lengths.append(max(np.ptp(rows), np.ptp(columns)))
    for size in (256, 224, 192, 160):
        bone = 0.866 * size  # from front to back
        assert sum(abs(length - bone) < 2 for length in lengths) >= 4, size


@pytest.fixture
def views_of(monkeypatch):
    """Views of one phantom by kind, in all greys, neither turned nor with a face."""
    monkeypatch.setattr("nmfuse.training.pairs._FEW_GREYS", 0)
    monkeypatch.setattr("nmfuse.training.pairs._SOMETIMES_FACED", 0)
    monkeypatch.setattr("nmfuse.training.pairs._crop", lambda *given: given[0])
    pairs = pair_set(None, None, 2).training
    return lambda kind: [pairs[kind](256, np.random.default_rng(i)) for i in range(48)]


@pytest.fixture
def tissues():
    """Where each tissue of that phantom lies."""
    phantom = brain_phantom(224, 1)  # the one that is not held out
    labels = np.pad(phantom.labels, 16)
    return {name: labels == i for i, name in enumerate(phantom.label_names)}


def test_ct_shows_bone_thick_and_skin_black(views_of, tissues):
    views = [ct for _, ct in views_of("mri_ct")]
    bone = tissues["bone"] | tissues["diploe"]
    for beside in (tissues["csf"], tissues["fat"]):
        beside = beside & (distance_transform_edt(~bone) <= 3)
        thick = [(ct[beside] == ct[bone].max()).mean() > 0.9 for ct in views]
        assert 0.3 < np.mean(thick) < 0.8
    skin = [np.median(ct[tissues["skin"]]) for ct in views]
    assert 0.4 < np.mean([x == 0 for x in skin]) < 0.9
    assert max(skin) > 0.3


def test_ct_has_grain(views_of, tissues):
    step = [np.median(np.abs(np.diff(ct, axis=0)[tissues["white matter"][1:]])) for _, ct in views_of("mri_ct")]
    assert min(step) < 0.004 < 0.02 < max(step)


def test_a_face_in_ct_is_not_all_bone(monkeypatch):
    monkeypatch.setattr("nmfuse.training.pairs._SOMETIMES_FACED", 1)
    make = pair_set(None, None, 2).training["mri_ct"]
    white = [(make(256, np.random.default_rng(i))[1] > 0.95).mean() for i in range(48)]
    assert 0.1 < np.median(white) < 0.26  # 0.32 where its pieces of bone are thickened like a skull


def test_fat_is_dim_where_t2_prevails():
    head = brain_phantom(192, 1)
    fat, inside = (head.labels == head.label_names.index("fat")), head.labels >= head.label_names.index("csf")
    bright = []
    for t1_share in (0.49, 0.51):
        views = [_magnetic(head, t1_share, np.random.default_rng(i)) for i in range(64)]
        bright.append(np.median([np.median(x[fat]) / np.median(x[inside]) for x in views]))
    assert bright[0] < 0.8 * bright[1]


@pytest.mark.parametrize("kind", ["mri_ct", "mri_spect"])
def test_mri_is_mostly_t2_beside_ct_and_spect(kind, views_of, tissues):
    like_t2 = [mri[tissues["csf"]].mean() > mri[tissues["white matter"]].mean() for mri, _ in views_of(kind)]
    assert 0.55 < np.mean(like_t2) < 0.95


def test_t1_is_seen_beside_t2(views_of, tissues):
    head = ~tissues["background"]
    alike = [np.corrcoef(a[head], b[head])[0, 1] for a, b in views_of("mri_t1_t2")]
    assert np.quantile(alike, 0.9) < 0.7


def test_phantoms_have_faces_that_mri_and_ct_show_and_pet_does_not():
    pairs = pair_set(None, None, 6).training
    rng = np.random.default_rng(0)
    apart = {}  # share of the MRI that lies beside what the other image shows
    for kind in ("mri_pet", "mri_spect", "mri_ct"):
        views = [pairs[kind](256, rng) for _ in range(40)]
        shares = [np.mean(distance_transform_edt(other < 0.1)[mri > 0.2] > 10) for mri, other in views]
        apart[kind] = np.mean(shares)
    assert apart["mri_pet"] > 1.2 * apart["mri_spect"] > 0.1 > 0.02 > apart["mri_ct"]


def test_phantoms_vary_everywhere():
    """Real MRI has hardly a flat spot, and PET few; what a rendering has of both lies within tissues."""
    make = pair_set(None, None, 2).training["mri_pet"]
    rng = np.random.default_rng(0)
    for image, most in ((0, 0.04), (1, 0.075)):
        flat = []
        for _ in range(24):
            view = make(256, rng)[image][64:-64, 64:-64]  # within the head
            step = np.hypot(*np.gradient(view))
            flat.append(float((step[view > 0.05] < 0.5 / 255).mean()))
        assert np.mean(flat) < most, image


def test_phantoms_are_often_shown_in_few_greys():
    make = pair_set(None, None, 2).training["mri_ct"]
    rng = np.random.default_rng(0)
    for views in zip(*(make(256, rng) for _ in range(32)), strict=True):  # each image for itself
        greys = [np.unique(view) for view in views]
        few = [len(x) <= 96 for x in greys]
        assert 0.5 < np.mean(few) < 0.95
        assert max(len(x) for x in greys) > 150
        for x in itertools.compress(greys, few):
            assert any(np.allclose(steps * x, np.rint(steps * x), atol=1e-4) for steps in range(31, 96))


@pytest.mark.parametrize("kind", ["mri_pet", "mri_spect"])
def test_uptake_is_often_shown_by_repeated_pixels(kind):
    make = pair_set(None, None, 2).training[kind]
    rng = np.random.default_rng(0)
    views = [make(256, rng)[1] for _ in range(32)]
    repeated = [np.array_equal(x, x[::2, ::2].repeat(2, 0).repeat(2, 1)) for x in views]
    assert 0.5 < np.mean(repeated) < 0.95


def test_the_hottest_is_not_always_the_brightest():
    make = pair_set(None, None, 2).training["mri_pet"]
    hot = np.pad(brain_phantom(224, 1).pet, 16) > 0.85  # the one that is not held out
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(64):
        view = make(256, rng)[1]
        turned = [np.rot90(x, turns) for x in (hot, hot[:, ::-1]) for turns in range(4)]
        shares.append(max(view[x].mean() for x in turned) / view.max())
    assert min(shares) < 0.6 < 0.8 < max(shares)


@pytest.mark.parametrize(("size", "least", "most"), [(256, 0.15, 0.55), (200, 0, 0)])
def test_phantoms_take_on_textures_of_large_photographs(tmp_path, size, least, most):
    stripes = np.rint(127.5 + 100 * np.cos(2 * np.pi * np.arange(size) / 8)).astype(np.uint8)
    write_image(tmp_path / "1_held_out.png", np.full((size, size), 128, np.uint8))
    write_image(tmp_path / "2_learned.png", np.tile(stripes, (size, 1)))
    pairs = pair_set(None, tmp_path, 2)
    rng = np.random.default_rng(0)

    def striped(make, image: int) -> float:
        """Return the share of 40 views where waves of 8 pixels are five times those of about that length."""
        spectra = [np.abs(np.fft.rfft2(make(256, rng)[image])) for _ in range(40)]
        return np.mean([max(s[0, 32] / s[0, 28:31].mean(), s[32, 0] / s[28:31, 0].mean()) > 5 for s in spectra])

    for image in (0, 1):
        assert least <= striped(pairs.training["mri_pet"], image) <= most, image
        assert striped(pairs.held_out["mri_pet"], image) == 0, image
    assert striped(pairs.training["mri_ct"], 1) == 0


def test_real_pairs_go_before_made_ones(data):
    real, both = pair_set(data, None, 0), pair_set(data, data / "mri_ct", 2)
    crops = [pairs.training["ir_vis"](80, np.random.default_rng(3))[0] for pairs in (real, both)]
    assert np.array_equal(*crops)
    a, b, kinds = both.draw("held_out", 5, 64, np.random.default_rng(0))
    assert a.shape == b.shape == (5, 64, 64)
    assert set(kinds) <= set(both.held_out)


def test_bad_data_gets_a_sentence(tmp_path, data):
    with pytest.raises(ValueError, match="nothing to learn from; give at least one"):
        pair_set(None, None, 0)
    with pytest.raises(FileNotFoundError, match=r"data: .* is not a folder"):
        pair_set(tmp_path / "no", None, 0)
    (data / "mri_ct" / "002_B.png").unlink()
    with pytest.raises(ValueError, match=r"002_A\.png: has 0 partners 002_B"):
        pair_set(data, None, 0)


def test_the_rank_of_edges_counts_four_times_but_for_focus(monkeypatch):
    ranks = torch.full((4, 10), 2.0)  # of each pair as it is, and with signals
    ranks[:, RANKING.index("Q_abf")] = torch.tensor([5.0, 7.0, 5.0, 7.0])
    monkeypatch.setattr("nmfuse.training.fusion.expected_ranks", lambda *_: ranks)
    black = np.zeros((2, 64, 64), np.float32)  # where no signal is put
    pairs = SimpleNamespace(stacks={}, draw=lambda *_: (black, black, ["multi_focus", "mri_ct"]))
    loss = _loss(Average(1.01), pairs, {"any": torch.zeros(10, 15)}, 2, 64, 0, 0)
    assert float(loss.detach()) == pytest.approx((9 * 2 + 5 + 9 * 2 + 4 * 7) / 20 + 60 * 0.01)


class Average(torch.nn.Module):
    """Fuses by the mean, and `level` more."""

    def __init__(self, level=0.0):
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(level))

    def forward(self, sources):
        return sources.mean(0) + self.level


def test_what_signals_lack_is_in_the_loss(monkeypatch):
    """An average lacks half of each signal; where the truth is known, its error counts, and no ranks."""
    monkeypatch.setattr("nmfuse.training.signals._CONTRADICTING", 0)
    monkeypatch.setattr("nmfuse.training.fusion._STACKS", 1)
    monkeypatch.setattr("nmfuse.training.fusion._FAINT", 0)
    rng = np.random.default_rng(0)
    images = np.rint(255 * rng.uniform(0.4, 0.6, (2, 1, 128, 128))).astype(np.float32) / 255
    truth = images.mean(0) + np.float32(0.1)
    pairs = SimpleNamespace(stacks={"focus": None}, draw_stack=lambda *_: (images, truth))
    loss = _loss(Average(), pairs, {}, 1, 128, 0, 0)
    assert float(loss.detach()) == pytest.approx(6 * 0.25 + 50 * 0.1, rel=0.02)


def test_a_run_writes_weights_curves_and_recipe(tmp_path, data):
    output = tmp_path / "x.safetensors"
    result = train_fusion(output, data=data, steps=3, batch=2, crop=64, notes="noise")
    assert sorted(path.name for path in tmp_path.glob("x.*")) == ["x.csv", "x.png", "x.safetensors"]
    assert set(result.ranks) == set(RANKING)
    net = load_fusion(output)
    a = torch.rand(1, 1, 40, 40)
    for sources in ([a, 1 - a], [a, 1 - a, a.flip(2)]):
        assert net(sources).shape == a.shape
    _, metadata = read_weights(output, FORMAT)
    recipe = json.loads(metadata["recipe"])
    assert recipe["steps"] == 3
    assert recipe["kinds"] == ["ir_vis", "mri_ct"]
    assert recipe["rank_weights"] == {"ir_vis": {"Q_abf": 4}, "mri_ct": {"Q_abf": 4}}
    assert metadata["notes"] == "noise"
    sizes = {name: int(metadata[name]) for name in ("channels", "hidden", "rank", "rank2")}
    assert (sizes, metadata["context"]) == (net.sizes, "1")
    with pytest.raises(FileExistsError, match="exists already"):
        train_fusion(output, data=data, steps=3)


def test_learning_raises_the_score(tmp_path):
    result = train_fusion(tmp_path / "x.safetensors", phantoms=3, steps=240, batch=2, crop=64, context=False)
    first = train_fusion(tmp_path / "y.safetensors", phantoms=3, steps=1, batch=2, crop=64, context=False)
    assert result.score > first.score + 0.5


def test_a_killed_run_continues_to_the_same_weights(tmp_path, monkeypatch):
    from nmfuse.training import fusion

    monkeypatch.setattr(fusion, "_EVERY", 2)
    options = {"phantoms": 2, "steps": 6, "batch": 1, "crop": 64}
    train_fusion(tmp_path / "whole.safetensors", **options)

    def kill(step, *_):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_fusion(tmp_path / "x.safetensors", checkpoint=tmp_path / "c", progress=kill, **options)
    assert not (tmp_path / "x.safetensors").exists()
    train_fusion(tmp_path / "x.safetensors", checkpoint=tmp_path / "c", **options)
    whole, resumed = (load_fusion(tmp_path / f"{name}.safetensors") for name in ("whole", "x"))
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_training_goes_on_from_given_weights(tmp_path):
    options = {"phantoms": 2, "batch": 1, "crop": 64}
    before = {name: value.clone() for name, value in load_fusion().state_dict().items()}
    known = train_fusion(tmp_path / "x.safetensors", start="default", steps=1, lr=1e-6, **options)
    new = train_fusion(tmp_path / "y.safetensors", steps=1, lr=1e-6, **options)
    assert known.score > new.score + 1
    further = load_fusion(tmp_path / "x.safetensors").state_dict()
    moved = [(further[name] - value).abs().max() for name, value in before.items()]
    assert 0 < max(moved) < 1e-4
    shipped = load_fusion()  # is as it was, and frozen
    assert all(torch.equal(value, before[name]) for name, value in shipped.state_dict().items())
    assert not any(weight.requires_grad for weight in shipped.parameters())
    recipes = [json.loads(read_weights(tmp_path / f"{name}.safetensors", FORMAT)[1]["recipe"]) for name in "xy"]
    assert recipes[0]["start"] == json.loads(read_weights(weight_file("default"), FORMAT)[1]["recipe"])
    assert recipes[1]["start"] is None
    assert recipes[0]["start_sha256"] != recipes[1]["start_sha256"]


def test_a_start_that_does_not_fit_gets_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="start: default has context=True; asked for False"):
        train_fusion(tmp_path / "x.safetensors", phantoms=1, start="default", context=False)
    with pytest.raises(FileNotFoundError, match="no such weight file"):
        train_fusion(tmp_path / "x.safetensors", phantoms=1, start=tmp_path / "none.safetensors")


@pytest.mark.parametrize("option", [{"steps": 0}, {"batch": 0}, {"crop": 32}, {"seed": -1}, {"lr": 0.0}])
def test_bad_options_get_a_sentence(tmp_path, option):
    with pytest.raises(ValueError, match=f"{next(iter(option))}: got"):
        train_fusion(tmp_path / "x.safetensors", phantoms=1, **option)
