"""The fusion network: shared features, NMF twice for context, and a gate for each source at each pyramid level."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nmfuse import pyramids
from nmfuse.images.part import ALIGNED, Look, Place
from nmfuse.images.scratch import Scratch
from nmfuse.kernels import nmf
from nmfuse.nets import fusion_kernel
from nmfuse.nets.siamese import PATCH
from nmfuse.nets.two_stage import others, two_stage
from nmfuse.nets.weights_file import fit_weights, load_once, read_weights, shipped

FORMAT = "nmfuse.fusion.7"
LEVELS = 6  # of the pyramid, with its top
_NOTES = 4  # maps that a level hands down to the next finer one, of each source
_SHIPPED = {"default": "fusion", "all": "fusion_all"}
_SILENT = 1e-6
_LEAST_GATE = 0.4  # of details that do not match: more than a third of what one source alone shows is always shown
_FAINT = 1e-10  # energy of coefficients that no screen shows
# Pixels of a pair: height and width of what is looked at together where no gradient is asked for; even. A cache holds
# the first. More sources, or images of a batch, get fewer rows, and then columns.
_TILE = {"cpu": (128, 256), "cuda": (1024, 1024)}
_LEAST_ROWS = 8
_LARGE = 1 << 24  # pixels, of all sources, above which images are fused by so many at a time
_LEAST_SLAB = 128  # rows
_REACH = 4  # pixels: of three convolutions and a head's; even
_KEPT = 1 << 19  # pixels, of all sources, of which features are kept
_FEW = 1 << 12  # pixels, of each source, of which features are factorized

_MOST = 1 << 20  # pixels, of each source, of which features are factorized; larger levels are reduced further
MARGIN = 320  # pixels around a part of an image on which its fusion depends; a multiple of 2^(LEVELS - 1)

Clock = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Known:
    """What is known of whole images, by which any part of them is fused.

    Attributes
    ----------
    scene : Tensor (S N, 4 C)
    parts : Tensor (N, C, r2), optional
        Of stage 2; None without the NMF.
    level : Tensor (S, N, 1, 1, 1), optional
        How strongly each source shows the parts where all sources are bright.
    """

    scene: Tensor
    parts: Tensor | None
    level: Tensor | None


@dataclass(frozen=True)
class _Seen:
    """What is known of images before they are fused."""

    images: Sequence[Tensor | Sequence[Tensor]]  # by level, the images themselves first, (S, N, 1, h, w) each
    contexts: Sequence[Tensor]  # from level 1 on
    features: Tensor | None  # of level 1, (S N, C, h, w)
    scene: Tensor  # (S N, ...)

    def part(self, n: int, first: int, last: int) -> _Seen:
        """Return what is known of some rows of one image of each source, from a multiple of 32 on."""

        def cut(x: Tensor, level: int) -> Tensor:
            return x[..., n : n + 1, :, first >> level : -(-last >> level), :]

        images = [
            cut(level, k) if isinstance(level, Tensor) else [cut(x, k) for x in level]
            for k, level in enumerate(self.images)
        ]
        contexts = [cut(x, k) for k, x in enumerate(self.contexts, 1)]
        scene = self.scene.reshape(len(self.images[0]), -1, self.scene.shape[-1])[:, n]
        return _Seen(images, contexts, None, scene)


@dataclass(frozen=True)
class _Level:
    """A level of the pyramids of S sources: its number, 0 the finest, and what is known of it before it is fused."""

    number: int
    shape: tuple[int, int]
    wanted: Place
    images: Tensor | Sequence[Tensor]  # (S, N, 1, h, w)
    coarse: Tensor | None  # the images of the next coarser level; None at the top
    context: Tensor  # (S, N, 1, h, w), that of level 1 at level 0
    features: Tensor | None  # (S N, C, h, w)
    gates: Tensor | None  # (S, N, 1, h, w), where they are to be kept


class FusionNet(nn.Module):
    """Fuses S images in a Laplacian pyramid, each coefficient of which is multiplied by a gate.

    Each level of the Gaussian pyramids of the images has a branch of convolutions, with the same weights for all
    images. Stage 1 of the NMF factorizes the features that level 1 has for all images together, and stage 2 the maps
    that are fused according to the share of each component (`nmfuse.nets.two_stage`). How strongly an image shows the
    parts that are found, compared with the others, is its *context*, one map. The mean and the root mean square of the
    features, of an image and of the others, tell what kind of images they are: the *scene*.

    The gates are computed from the coarsest level to the finest. The head of a level gets the features, the context and
    the notes of an image, and the means of those of the others. Its hidden channels get a bias and a gain from the
    scene (Perez et al., FiLM, AAAI 2018). It gives the image a weight, an excess, and notes for the next finer level.
    The gate of image s is ``w_s + (1 - M) x_s q``. The weights w are the softmax of log2(S) times the logits of the
    heads. The excess x, from -1 to 1, counts to the extent that the coefficients L do not match, where their match over
    3 x 3 is ``M = ((sum_s L_s)^2 - sum_s L_s^2) / ((S - 1) sum_s L_s^2)``, and all excesses together count as much as
    those of two images: ``q = 2 / S``. So the details of two images may be shown in full where they differ, copies of
    one image give that image, and exchanging images exchanges their gates. For details that do not match (M = 0), which
    only one image shows, no gate is below 0.4 sqrt(q), so that none of them is lost.

    Of three and more images, each level below the top computes a second gate and takes the greater one. Its share is
    that of image s in the energy ``E = L^2`` over 3 x 3, ``q_s = 2 E_s / sum_t E_t``, at least 2 / S and at most 1; and
    its match is that with the image that s matches best, ``M_s = max_t 2 L_s L_t / (E_s + E_t)``, at least 0. So what
    one image alone shows is shown as it would be of two images, whatever their number, and what several show is not
    added up. Of two images both gates are the same.

    Where images contradict each other, the gate of the fainter one is multiplied by ``1 - O (1 - E_s / E_max)``, with
    the opposition ``O = -2 L_s L_others / sum_t E_t``, at least 0, so that the stronger one keeps its sign. No pixel
    becomes brighter than twice what any image has within 3 x 3, so black stays black.

    Parameters
    ----------
    channels : int
        The number of channels of the branches.
    hidden : int
        The number of hidden channels of the heads.
    rank, rank2 : int
        The ranks of the two stages of NMF.
    context : bool
        Whether the NMF takes part; if not, its maps are 1/2.

    Examples
    --------
    >>> sources = torch.rand(3, 1, 1, 40, 33)
    >>> FusionNet()(sources).shape
    torch.Size([1, 1, 40, 33])
    """

    def __init__(
        self, channels: int = 16, hidden: int = 24, rank: int = 8, rank2: int = 3, *, context: bool = True
    ) -> None:
        super().__init__()
        self.sizes = {"channels": channels, "hidden": hidden, "rank": rank, "rank2": rank2}
        self.rank, self.rank2, self.context = rank, rank2, context
        self.factorize: Callable[..., tuple[Tensor, Tensor]] = _nmf
        self.branches = nn.ModuleList(_branch(channels) for _ in range(LEVELS))
        detail = [_Head(channels, hidden, _NOTES, _NOTES if level else 0, excess=0.5) for level in range(LEVELS - 1)]
        self.heads = nn.ModuleList([*detail, _Head(channels, hidden, 0, _NOTES, excess=0.0)])  # the last is the top's
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # three times faster on a CPU
        self._packed = [fusion_kernel.Packed() for _ in range(LEVELS)]

    def forward(self, sources: Tensor | Sequence[Tensor]) -> Tensor:
        """Return the fused images (N, 1, H, W) of S times as many in [0, 1], H and W at least 16; not clipped.

        Without gradients, the levels are worked on in tiles: above the images, memory holds about two and a half more
        for each source (`explain` says where else they may lie).
        """
        return self.explain(sources)[0]

    def explain(
        self,
        sources: Tensor | Sequence[Tensor],
        clock: Clock = lambda _: nullcontext(),
        *,
        record: dict[str, Any] | None = None,
        volume: bool = False,
        scratch: Scratch | None = None,
        known: Known | None = None,
        inner: Place | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the fused images, and the contexts (S, N, 1, h, w) of level 1.

        Each step runs ``with clock(its name)``. Where `record` is given, it receives "gates", (S, N, 1, h, w) for every
        level, and, where the NMF takes part, "parts" (S, N, r2, h, w): how strongly each image shows each part of
        stage 2. With `volume` the N images of a source are slices of one volume: they share scene, parts and levels of
        context, so that neighbours are fused alike. What belongs to single sources lies where `scratch` has them.

        Where the images are parts of larger ones, `known` is what `survey` knows of those, and `inner` the rows and
        columns that are wanted; only there the result means something, and it is that of the larger images where these
        go on for `MARGIN` pixels around it, or end. Parts begin at multiples of 32 pixels of the larger images.
        """
        if len(sources) < 2 or any(
            x.shape != sources[0].shape or x.ndim != 4 or x.shape[1] != 1 or min(x.shape[2:]) < PATCH for x in sources
        ):
            got = ", ".join(str(tuple(x.shape)) for x in sources)
            raise ValueError(f"sources: shapes {got}; expected two or more of (N, 1, H, W), {PATCH} x {PATCH} at least")
        a, count = sources[0], len(sources)
        scratch = scratch or Scratch()
        if fusion_kernel.can_run(a):
            sources = [x.detach() if x.stride(-1) == 1 else x.detach().contiguous() for x in sources]
        with clock("pyramids"):  # of level 0 there is no stack
            gaussian = _pyramid(sources, LEVELS - 1, scratch)
        features, scene, context = self._survey(gaussian, clock, record, scratch, volume=volume, known=known)
        with clock("pyramids"):
            contexts = [context, *_pyramid(context, len(gaussian) - 1, scratch)]
        seen = _Seen([sources, *gaussian], contexts, features, scene)
        is_large = count * a.numel() > _LARGE and record is None and inner is None
        if is_large and fusion_kernel.can_run(a):
            return self._in_slabs(seen, clock, scratch), context
        everything = (slice(0, a.shape[2]), slice(0, a.shape[3]))
        return self._descend(seen, inner or everything, clock, scratch, record), context

    def _in_slabs(self, seen: _Seen, clock: Clock, scratch: Scratch) -> Tensor:
        """Fuse large images by some rows at a time, so that what the levels hand down stays small."""
        sources = seen.images[0]
        images, _, height, width = sources[0].shape
        step = max(_LEAST_SLAB, _LARGE // (len(sources) * width) // ALIGNED * ALIGNED)
        whole = sources[0].new_empty(images, 1, height, width)
        for n in range(images):
            for start in range(0, height, step):
                stop = min(start + step, height)
                first, last = max(0, start - MARGIN), min(stop + MARGIN, height)
                inner = (slice(start - first, stop - first), slice(0, width))
                fused = self._descend(seen.part(n, first, last), inner, clock, scratch.beside())
                whole[n, :, start:stop] = fused[0, :, inner[0]]
                scratch.release()
        return whole

    def _descend(
        self, seen: _Seen, inner: Place, clock: Clock, scratch: Scratch, record: dict[str, Any] | None = None
    ) -> Tensor:
        """Return the fused images, of which the rows and columns `inner` mean something: from the top down."""
        a, count = seen.images[0][0], len(seen.images[0])
        shapes = [(level[0].shape[-2], level[0].shape[-1]) for level in seen.images]
        wanted = _wanted(inner, shapes)
        kept: list[Tensor] = []
        fuse_level = self._level_by_kernel if fusion_kernel.can_run(a) else self._level_in_tiles
        fused = notes = None
        for level in reversed(range(LEVELS)):
            coarse = seen.images[level + 1] if level < LEVELS - 1 else None
            assert coarse is None or isinstance(coarse, Tensor)
            there = _Level(
                level,
                shape=shapes[level],
                wanted=wanted[level],
                images=seen.images[level],
                coarse=coarse,
                context=seen.contexts[max(level - 1, 0)],
                features=seen.features if level == 1 else None,
                gates=None if record is None else a.new_empty(count, len(a), 1, *shapes[level]),
            )
            if there.gates is not None:
                kept.insert(0, there.gates)
            fused, notes = fuse_level(there, fused, notes, seen.scene, clock, scratch)
        if record is not None:
            record["gates"] = kept
        assert fused is not None
        return fused

    def _level_in_tiles(
        self, there: _Level, below: Tensor | None, notes: Tensor | None, scene: Tensor, clock: Clock, scratch: Scratch
    ) -> tuple[Tensor, Tensor]:
        """Fuse a level upon the fused coarser one and its notes, and return both of this level."""
        level, shape = there.number, there.shape
        (a, *_), count = there.images, len(there.images)
        whole = a.new_empty(len(a), 1, *shape)
        handed = scratch.empty((count, len(a), _NOTES if level else 0, *shape), like=a)
        for seen, own, place in _tiles(shape, a.device, count * len(a), there.wanted):
            with clock("pyramids"):
                image = torch.stack([_cut(x, seen) for x in there.images])
                parts = _cut(there.context, seen) if level else _expand(there.context, seen, shape)
                shown = image
                if there.coarse is not None and notes is not None:
                    shown = image - _expand(there.coarse, seen, shape)
                    parts = torch.cat([parts, _expand(notes, seen, shape)], dim=2)
            with clock("gates"):
                maps = self._look(image, level) if there.features is None else _cut(there.features, seen)
                logits = self.heads[level](maps, parts.flatten(0, 1), scene, count)  # (S, N, 2 + notes, h, w)
                gate = _gates(logits, shown, is_top=there.coarse is None)
                _cut(handed, place).copy_(_cut(logits[:, :, 2:], own))
            with clock("pyramids"):
                tile = (gate * shown).sum(0)
                if below is not None:
                    tile = tile + _expand(below, seen, shape)
                if level == 0:
                    tile = torch.minimum(tile, 2 * _greatest_near(image.amax(0)))
                _cut(whole, place).copy_(_cut(tile, own))
            if there.gates is not None:
                _cut(there.gates, place).copy_(_cut(gate, own))
            scratch.release()
        return whole, handed

    def _level_by_kernel(
        self, there: _Level, below: Tensor | None, notes: Tensor | None, scene: Tensor, clock: Clock, scratch: Scratch
    ) -> tuple[Tensor, Tensor]:
        """Do the same by our own kernel; the notes are (N, S, notes, h, w)."""
        (a, *_), count = there.images, len(there.images)
        written = _NOTES if there.number else 0
        whole = a.new_empty(len(a), 1, *there.shape)
        handed = scratch.empty((len(a), count, written, *there.shape), like=a)
        with clock("gates"):
            head = self._head(there.number)
            # (N, S, 2, K); one image at a time, since the bits of a matrix product can depend on its size
            known = torch.cat([head.conditions(x, count) for x in scene.reshape(count, len(a), -1).unbind(1)])
            _, weights = self._weights(there.number)
            sizes = {name: self.sizes[name] for name in ("channels", "hidden")}
            sizes.update(read=0 if there.coarse is None else _NOTES, written=written)
            for n in range(len(a)):
                images = there.images
                fusion_kernel.fuse_level(
                    [images[:, n, 0]] if isinstance(images, Tensor) else [x[n, 0] for x in images],
                    coarse=None if there.coarse is None else there.coarse[:, n, 0],
                    contexts=there.context[:, n, 0],
                    notes=None if notes is None else notes[n],
                    below=None if below is None else below[n, 0],
                    features=there.features if len(a) == 1 else None,
                    weights=weights,
                    scene=known[n],
                    sizes=sizes,
                    fused=whole[n, 0],
                    handed=handed[n] if written else None,
                    gates=None if there.gates is None else there.gates[:, n, 0],
                    wanted=there.wanted,
                    scratch=scratch,
                )
        return whole, handed

    def _survey(
        self,
        gaussian: list[Tensor],
        clock: Clock,
        record: dict[str, Any] | None,
        scratch: Scratch,
        *,
        volume: bool,
        known: Known | None,
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Return the features of level 1 where they are few enough to be kept, the scene, and the contexts.

        The parts are those of level 1, or of the first level that is small enough, always by the branch of level 1.
        """
        image = gaussian[0]
        sources = len(image)
        parts = None if known is None else known.parts
        if known is None and self.context:
            small = next((level for level in gaussian if level[0, 0].numel() <= _FEW), gaussian[-1])
            with clock("features"):
                features = self._look(_reduced_to(small, _MOST), 1)
            with clock("nmf"):
                parts = self._parts(features, sources, volume)
        energy = scratch.empty(tuple(image.shape), like=image).fill_(0.5)
        strengths = None
        if record is not None and parts is not None:
            strengths = record["parts"] = image.new_empty(*image.shape[:2], parts.shape[2], *image.shape[3:])
        look = self._look_by_kernel if fusion_kernel.can_run(image) else self._look_in_tiles
        kept, tally = look(image, parts, energy, strengths, clock, scratch)
        if known is None:
            known = tally.known(sources, parts, image[0, 0].numel(), volume=volume)
        if known.level is not None:
            energy = _contexts(energy, known.level, scratch)
        return kept, known.scene, energy

    def _look_in_tiles(
        self,
        image: Tensor,
        parts: Tensor | None,
        energy: Tensor,
        strengths: Tensor | None,
        clock: Clock,
        scratch: Scratch,
    ) -> tuple[Tensor | None, _Tally]:
        """Return the features of level 1, if they are few, and the sums over all pixels.

        With parts, how strongly each pixel shows them is written: to `strengths`, and their energy to `energy`.
        """
        tally, (sources, images) = _Tally(), image.shape[:2]
        with clock("features"):
            kept = self._look(image, 1) if image.numel() <= _KEPT else None
        for seen, inner, there in _tiles((image.shape[-2], image.shape[-1]), image.device, sources * images):
            with clock("features"):
                maps = _cut(self._look(_cut(image, seen), 1) if kept is None else _cut(kept, seen), inner)
                tally.add_features(maps)
            if parts is not None:
                with clock("nmf"):
                    V = maps.reshape(sources, -1, maps.shape[1], maps[0, 0].numel())
                    tile, strength = _cut(energy, there), parts.mT @ V
                    tile.copy_(strength.square().sum(2).reshape(tile.shape))
                    if strengths is not None:
                        tile = _cut(strengths, there)
                        tile.copy_(strength.reshape(tile.shape))
                    tally.add_bright(V, _cut(image, there))
            scratch.release()
        return kept, tally

    def _look_by_kernel(
        self,
        image: Tensor,
        parts: Tensor | None,
        energy: Tensor,
        strengths: Tensor | None,
        clock: Clock,
        scratch: Scratch,
    ) -> tuple[Tensor | None, _Tally]:
        """Do the same by our own kernel."""
        (sources, images), channels = image.shape[:2], self.sizes["channels"]
        kept = None
        if images == 1 and image.numel() <= _KEPT:
            kept = image.new_empty(sources, channels, *image.shape[3:])
        sums = torch.zeros(images, sources, 2 * channels + 2, dtype=torch.float64)
        weights, _ = self._weights(1)
        with clock("features"):
            for n in range(images):
                of_one = None if strengths is None else torch.empty_like(strengths[:, n])
                fusion_kernel.survey(
                    image[:, n, 0],
                    weights=weights,
                    parts=None if parts is None else parts[n % len(parts)],  # a volume has one set
                    sums=sums[n],
                    features=kept,
                    energy=energy[:, n, 0],
                    strengths=of_one,
                    scratch=scratch,
                )
                if strengths is not None and of_one is not None:
                    strengths[:, n] = of_one
        tally = _Tally()
        sums = sums.transpose(0, 1).to(image.dtype)  # (S, N, ...)
        tally.sums = sums[..., : 2 * channels].flatten(0, 1)
        tally.shared = torch.cat([sums[..., -2], sums[:1, :, -1]])
        return kept, tally

    def survey(self, look: Look, shape: tuple[int, int]) -> Known:
        """Return what is known of images (H, W) that are larger than memory, as `explain` knows it of smaller ones.

        All parts are looked at twice: to reduce them to the small images whose features are factorized, and to sum
        their features at level 1.
        """
        number, small_shape = 1, _halved(shape)
        while math.prod(small_shape) > _FEW and number < LEVELS - 1:
            number, small_shape = number + 1, _halved(small_shape)
        small = torch.empty(0)
        for part in look(2 * ALIGNED):  # of which the five halvings see 62
            image = torch.stack(part.planes)[:, None, None]
            for _ in range(number):
                image = pyramids.reduce(image)
            small = small if small.numel() else image.new_empty(*image.shape[:3], *small_shape)
            _cut(small, _coarser(part.there, number)).copy_(_cut(image, _coarser(part.inner, number)))
        sources = len(small)
        parts = None
        if self.context:
            parts = self._parts(self._look(_reduced_to(small, _MOST), 1), sources, volume=False)
        tally = _Tally()
        for part in look(ALIGNED):
            image = pyramids.reduce(torch.stack(part.planes)[:, None, None])
            place = _coarser(part.inner, 1)
            for seen, inner, there in _tiles((image.shape[-2], image.shape[-1]), image.device, sources, place):
                maps = _cut(self._look(_cut(image, seen), 1), inner)
                tally.add_features(maps.double())
                if parts is not None:
                    tally.add_bright(maps.reshape(sources, 1, maps.shape[1], -1).double(), _cut(image, there).double())
        known = tally.known(sources, parts, math.prod(_halved(shape)), volume=False)
        level = None if known.level is None else known.level.to(small.dtype)
        return Known(known.scene.to(small.dtype), parts, level)

    def _look(self, images: Tensor, level: int) -> Tensor:
        """Return the features (S N, C, h, w) of (S, N, 1, h, w), by the branch of a level."""
        images = images.flatten(0, 1)
        if fusion_kernel.can_run(images):
            return fusion_kernel.features(images, self._weights(level)[0], self.sizes["channels"])
        features: Tensor = self.branches[level](images.contiguous(memory_format=torch.channels_last))
        return features

    def _weights(self, level: int) -> tuple[Tensor, Tensor]:
        """Return the weights of a level's branch, and of its branch and head, as the kernel has them, (1, K) each."""
        branch, head = self.branches[level], self._head(level)
        assert isinstance(branch, nn.Sequential)
        layers = [layer for layer in branch if isinstance(layer, nn.Conv2d)] + [head.out]
        *of_branch, weight, bias = [x for one in layers for x in (one.weight, one.bias) if x is not None]
        packed = self._packed[level]([*of_branch, head.own.weight, head.other.weight, weight, bias])
        return packed[:, : sum(x.numel() for x in of_branch)], packed

    def _head(self, level: int) -> _Head:
        head = self.heads[level]
        assert isinstance(head, _Head)
        return head

    def _parts(self, features: Tensor, sources: int, volume: bool) -> Tensor:
        """Return the parts (N, C, r2) of stage 2, found in the features (S N, C, h, w) of all sources."""
        images, (channels, h, w) = features.shape[0] // sources, features.shape[1:]
        V = features.reshape(sources, images, channels, h * w)
        if volume:
            V = V.transpose(1, 2).reshape(sources, 1, channels, images * h * w)
        V = V / V.mean((-2, -1), keepdim=True).clamp_min(_SILENT)  # no source outweighs the others
        # One start for each: a batch gives what its images give.
        each = [self._parts_of(one) for one in torch.split(V, 1, dim=1)]
        return each[0] if len(each) == 1 else torch.cat(each)

    def _parts_of(self, V: Tensor) -> Tensor:
        """Return the parts (1, C, r2) of balanced features (S, 1, C, P)."""

        def factorize(V: Tensor, rank: int) -> tuple[Tensor, Tensor]:
            return self.factorize(V, rank, iterations=20)

        def length(A: Tensor) -> Tensor:
            return A.square().sum(-2, keepdim=True).add(_SILENT**2).sqrt()

        return two_stage(V, self.rank, self.rank2, factorize, length=length, silent=0.0).A2


def _nmf(V: Tensor, rank: int, *, iterations: int) -> tuple[Tensor, Tensor]:
    """Factorize by a fixed number of iterations, recorded where a gradient is asked for (`nmfuse.ops.nmf`)."""
    W, H, _ = nmf(V, rank, max_iter=iterations, check_every=iterations, tol=0)
    return W, H


class _Tally:
    """Sums over the pixels of level 1, which say what the images are."""

    def __init__(self) -> None:
        self.sums: Tensor | float = 0.0  # (S N, 2 C), of the features and their squares
        self.shared: Tensor | float = 0.0  # (S + 1, N), of all sources' features, and alone, where all are bright

    def add_features(self, maps: Tensor) -> None:
        """Add features (S N, C, h, w)."""
        self.sums = self.sums + torch.cat([maps.sum((2, 3)), maps.square().sum((2, 3))], dim=1)

    def add_bright(self, V: Tensor, image: Tensor) -> None:
        """Add features (S, N, C, h w), as far as all the images (S, N, 1, h, w) are bright."""
        bright = image.clamp_min(0).prod(0).flatten(1)
        self.shared = self.shared + torch.stack([*(V.mean(2) * bright).sum(2), bright.sum(1)])

    def known(self, sources: int, parts: Tensor | None, pixels: int, *, volume: bool) -> Known:
        """Return what is known of images of so many pixels each."""
        assert isinstance(self.sums, Tensor)
        mean, square = (self.sums / pixels).chunk(2, dim=1)  # of each of the features
        images = len(mean) // sources
        if volume:
            mean, square = (_pooled(x.reshape(sources, images, -1)).flatten(0, 1) for x in (mean, square))
        own = torch.cat([mean, (square + _FAINT).sqrt()], dim=1).reshape(sources, images, -1)
        scene = torch.cat([own, others(own)], dim=2).flatten(0, 1)
        level = None
        if parts is not None:
            assert isinstance(self.shared, Tensor)
            shared = _pooled(self.shared) if volume else self.shared
            level = ((shared[:-1] + _SILENT) / (shared[-1] + _SILENT)).square().reshape(sources, images, 1, 1, 1)
        return Known(scene, parts, level)


def _halved(shape: tuple[int, int]) -> tuple[int, int]:
    return -(-shape[0] // 2), -(-shape[1] // 2)


def _coarser(place: Place, number: int) -> Place:
    """Return where rows and columns, from a multiple of 32 on, are at a level."""
    rows, columns = (slice(span.start >> number, -(-span.stop >> number)) for span in place)
    return rows, columns


def _reduced_to(image: Tensor, most: int) -> Tensor:
    """Return images (S, N, 1, h, w) reduced until each has at most so many pixels."""
    while image[0, 0].numel() > most:
        image = pyramids.reduce(image)
    return image


def _pyramid(sources: Tensor | Sequence[Tensor], levels: int, scratch: Scratch) -> list[Tensor]:
    """Return levels 1 to `levels` of the Gaussian pyramids of S times (N, 1, h, w), each (S, N, 1, h, w)."""
    if not fusion_kernel.can_run(sources[0]):
        if isinstance(sources, Tensor):
            return pyramids.gaussian_pyramid(pyramids.reduce(sources), levels)
        return pyramids.gaussian_pyramid(torch.stack([pyramids.reduce(x) for x in sources]), levels)
    result: list[Tensor] = []
    for _ in range(levels):
        finer = result[-1] if result else sources
        result.append(scratch.empty((len(sources), *finer[0].shape[:2], *(-(-n // 2) for n in finer[0].shape[2:]))))
        if isinstance(finer, Tensor) and not scratch.on_disk:
            fusion_kernel.halve(finer, result[-1])
            continue
        for x, there in zip(finer, result[-1], strict=True):
            fusion_kernel.halve(x, there)
            scratch.release()
    return result


def _pooled(x: Tensor) -> Tensor:
    """Return (S, N, ...) with the mean over N in the place of each."""
    return x.mean(1, keepdim=True).expand_as(x)


def _contexts(energy: Tensor, level: Tensor, scratch: Scratch) -> Tensor:
    """Return contexts of energies of parts (S, N, 1, h, w): a source's, levelled, beside the mean of the others'."""
    if not scratch.on_disk:
        levelled = energy / level + _SILENT  # no source outweighs the others where they overlap
        return levelled / (levelled + others(levelled))
    result = scratch.empty(tuple(energy.shape))
    rows = max(1, _KEPT // energy[..., :1, :].numel())
    for start in range(0, energy.shape[-2], rows):
        piece = energy[..., start : start + rows, :] / level + _SILENT
        result[..., start : start + rows, :] = piece / (piece + others(piece))
        scratch.release()
    return result


def _tiles(
    shape: tuple[int, int], device: torch.device, images: int, within: Place | None = None
) -> Iterator[tuple[Place, Place, Place]]:
    """Yield what to look at for each tile, which part of that is the tile's, and where the tile is.

    The tiles cover the image, or the rows and columns `within`. With gradients, which keep everything anyway, they are
    one.
    """
    rows, columns = _TILE[device.type]
    sides = (max(_LEAST_ROWS, 2 * rows // images // 2 * 2), min(columns, max(64, 16 * columns // images // 2 * 2)))
    if torch.is_grad_enabled():
        sides = shape
    spans = within or (slice(0, shape[0]), slice(0, shape[1]))
    starts = [range(span.start, span.stop, side) for span, side in zip(spans, sides, strict=True)]
    for corner in itertools.product(*starts):
        found = [
            _span(at, min(at + side, span.stop), n)
            for at, side, span, n in zip(corner, sides, spans, shape, strict=True)
        ]
        seen, inner, there = zip(*found, strict=True)
        yield seen, inner, there


def _span(start: int, stop: int, length: int) -> tuple[slice, slice, slice]:
    low = max(0, start - _REACH)
    return slice(low, min(stop + _REACH, length)), slice(start - low, stop - low), slice(start, stop)


def _wanted(inner: Place, shapes: Sequence[tuple[int, int]]) -> list[Place]:
    """Return which rows and columns of each level are looked at for those of level 0, from even ones on."""
    found = [inner]
    for shape in shapes[1:]:
        spans = []
        for span, length in zip(found[-1], shape, strict=True):
            start, stop = (span.start - _REACH) // 2 - 1, (span.stop + _REACH - 1) // 2 + 2
            spans.append(slice(max(0, start // 2 * 2), min(stop, length)))
        found.append((spans[0], spans[1]))
    return found


def _cut(x: Tensor, place: Place) -> Tensor:
    return x[..., place[0], place[1]]


def _expand(x: Tensor, place: Place, shape: tuple[int, int]) -> Tensor:
    """Return a part, from an even row and column on, of what `pyramids.expand` makes of x (..., h, w)."""
    near, size, part = [], [], []
    for span, length, small in zip(place, shape, x.shape[-2:], strict=True):
        low, high = max(0, span.start // 2 - 1), min(small, (span.stop - 1) // 2 + 2)
        near.append(slice(low, high))
        size.append(min(2 * high, length) - 2 * low)
        part.append(slice(span.start - 2 * low, span.stop - 2 * low))
    return _cut(pyramids.expand(_cut(x, (near[0], near[1])), (size[0], size[1])), (part[0], part[1]))


def _weights(logits: Tensor) -> Tensor:
    """Return weights of S sources, of sum one: what leads S - 1 others leads them as it would a single one."""
    return (logits if len(logits) == 2 else logits * math.log2(len(logits))).softmax(0)


def _gates(logits: Tensor, shown: Tensor, *, is_top: bool) -> Tensor:
    """Return the gates (S, N, 1, h, w) of coefficients, from the heads' logits of weight and excess.

    Of details that do not match no gate is below the least. Where a source's coefficients oppose the sum of the others'
    and are fainter than the strongest source's, its gate is lowered, so that the stronger one's sign is kept.
    """
    count = len(shown)
    weight, excess = _weights(logits[:, :, :1]), torch.tanh(logits[:, :, 1:2])
    energy, products = _energies(shown)
    cross = _sums_of_pairs(products, count)
    total = energy.sum(0).clamp_min(_FAINT)
    mismatch = 1 - (cross.sum(0) / ((count - 1) * energy.sum(0)).clamp_min(_FAINT)).clamp(0, 1)
    if is_top:
        return weight + mismatch * excess * (2 / count)

    def gated(mismatch: Tensor, share: Tensor) -> Tensor:
        gate = weight + mismatch * (excess * share)
        return gate + mismatch * (_LEAST_GATE * share.sqrt() - gate).clamp_min(0)

    gate = gated(mismatch, energy.new_tensor(2 / count))
    if count > 2:
        own = 1 - _best_matches(energy, products)
        gate = torch.maximum(gate, gated(own, (2 * energy / total).clamp(2 / count, 1)))
    opposition = (-2 * cross / total).clamp(0, 1)
    return gate * (1 - opposition * (1 - energy / energy.amax(0).clamp_min(_FAINT)))


def _pairs(count: int) -> list[tuple[int, int]]:
    return list(itertools.combinations(range(count), 2))


def _energies(sources: Tensor) -> tuple[Tensor, Tensor]:
    """Return the energies of S sources, and the products of their `_pairs`, averaged over 3 x 3."""
    first, second = ([pair[k] for pair in _pairs(len(sources))] for k in (0, 1))
    both = torch.cat([sources * sources, sources[first] * sources[second]])
    means = functional.avg_pool2d(both.flatten(0, 1), 3, 1, 1).reshape(both.shape)
    return means[: len(sources)], means[len(sources) :]


def _sums_of_pairs(products: Tensor, count: int) -> Tensor:
    """Return the product of each of S sources with the sum of the others."""
    sums = [torch.zeros_like(products[0]) for _ in range(count)]
    for product, pair in zip(products, _pairs(count), strict=True):
        for s in pair:
            sums[s] = sums[s] + product
    return torch.stack(sums)


def _best_matches(energy: Tensor, products: Tensor) -> Tensor:
    """Return the match of each source with the one that it matches best, 0 to 1."""
    best = [torch.zeros_like(energy[0]) for _ in energy]
    for product, (s, t) in zip(products, _pairs(len(energy)), strict=True):
        match = 2 * product / (energy[s] + energy[t]).clamp_min(_FAINT)
        best[s], best[t] = torch.maximum(best[s], match), torch.maximum(best[t], match)
    return torch.stack(best).clamp_max(1)


def _greatest_near(x: Tensor) -> Tensor:
    """Return the greatest value of 3 x 3 around each pixel."""
    x = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    x = torch.maximum(torch.maximum(x[..., :-2], x[..., 2:]), x[..., 1:-1])
    return torch.maximum(torch.maximum(x[..., :-2, :], x[..., 2:, :]), x[..., 1:-1, :])


def _convolution(seen: int, channels: int) -> nn.Conv2d:
    return nn.Conv2d(seen, channels, 3, padding=1, padding_mode="replicate")


def _branch(channels: int) -> nn.Sequential:
    layers = [(_convolution(seen, channels), nn.ReLU(inplace=True)) for seen in (1, channels, channels)]
    return nn.Sequential(*itertools.chain(*layers))


class _Head(nn.Module):
    """An image's weight, excess and notes from what is known of it, the same of the other images, and the scene.

    What is known are its features, its context and the notes `read` from the coarser level; `written` go to the finer.
    """

    def __init__(self, channels: int, hidden: int, read: int, written: int, *, excess: float) -> None:
        super().__init__()
        self.own = nn.Conv2d(channels + 1 + read, hidden, 1)
        self.other = nn.Conv2d(channels + 1 + read, hidden, 1, bias=False)
        last = nn.Linear(hidden, 2 * hidden)  # to each hidden channel a bias and a gain
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.scene = nn.Sequential(nn.Linear(4 * channels, hidden), nn.ReLU(inplace=True), last)
        self.out = _convolution(hidden, 2 + written)
        assert self.out.bias is not None
        with torch.no_grad():
            self.out.weight[:2] = 0
            self.out.bias[:2] = torch.tensor([0.0, math.atanh(excess)])

    def forward(self, features: Tensor, context: Tensor, scene: Tensor, sources: int) -> Tensor:
        """Return the logits of the weight and the excess, and the notes, (S, N, 2 + written, h, w)."""
        # Padded for the last convolution, and side by side, channels last.
        seen = [functional.pad(x, (1, 1, 1, 1), mode="replicate").permute(0, 2, 3, 1) for x in (features, context)]
        biases, gains = self.conditions(scene, sources).unbind(2)  # (N, S, hidden)
        return self._of_pair(seen, biases, gains) if sources == 2 else self._of_many(seen, biases, gains)

    def conditions(self, scene: Tensor, sources: int) -> Tensor:
        """Return the biases and gains (N, S, 2, hidden) that the scene (S N, ...) gives to the hidden channels."""
        assert self.own.bias is not None
        given: Tensor = self.scene(scene).reshape(sources, -1, 2, len(self.own.bias)).transpose(0, 1)
        return given + torch.stack([self.own.bias, torch.ones_like(self.own.bias)])

    def _of_many(self, seen: list[Tensor], biases: Tensor, gains: Tensor) -> Tensor:
        n, sources = biases.shape[:2]
        own = torch.cat(seen, dim=3)
        own = own.reshape(sources, n, *own.shape[1:])
        x = torch.cat([own, others(own)], dim=4).flatten(0, 1).permute(0, 3, 1, 2)
        kernel = torch.cat([self.own.weight, self.other.weight], dim=1)
        biases, gains = (y.transpose(0, 1).flatten(0, 1)[:, :, None, None] for y in (biases, gains))
        x = functional.relu_(functional.conv2d(x, kernel) + biases) * gains
        logits = functional.conv2d(x, self.out.weight, self.out.bias)
        return logits.reshape(sources, n, *logits.shape[1:])

    def _of_pair(self, seen: list[Tensor], biases: Tensor, gains: Tensor) -> Tensor:
        """Do the same for two sources, a third faster: each one's "others" is the other, so one pass serves both."""
        n = len(biases)
        both = torch.cat([x[image] for image in (slice(n), slice(n, None)) for x in seen], dim=3).permute(0, 3, 1, 2)
        own, other, out = self.own.weight, self.other.weight, self.out.weight
        # Each image's hidden channels from the same channels of both: one pass over what is seen serves both.
        kernels = torch.cat([torch.cat([own, other], dim=1), torch.cat([other, own], dim=1)])
        biases, gains = biases.flatten(1), gains.flatten(1)
        none = torch.zeros_like(out)
        outs = torch.cat([torch.cat([out, none], dim=1), torch.cat([none, out], dim=1)])
        if n == 1:
            x, outs = functional.relu_(functional.conv2d(both, kernels, biases[0])), outs * gains[0, :, None, None]
        else:
            x = functional.relu_(functional.conv2d(both, kernels) + biases[:, :, None, None]) * gains[:, :, None, None]
        assert self.out.bias is not None
        logits = functional.conv2d(x, outs, self.out.bias.repeat(2))  # (N, 4 + 2 written, h, w)
        return logits.reshape(n, 2, len(out), *logits.shape[2:]).transpose(0, 1)


def load_fusion(name: str | Path = "default", device: str | torch.device = "cpu") -> FusionNet:
    """Return a trained fusion network in evaluation mode, its weights frozen; the same object for the same file.

    Parameters
    ----------
    name : str or path
        "default" or "all" for the weights that come with nmfuse, or a file that ``nmfuse train fusion`` wrote.
        "default" was trained on free material alone; "all" also on medical and infrared pairs that carry no licence.
    device : str or torch.device
        Where its weights lie: the device of the images it is to see.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a weight file of this net.

    Examples
    --------
    >>> sum(weight.numel() for weight in load_fusion().parameters()) < 60_000
    True
    """
    return load_once(weight_file(name), _read, "'default', 'all' or a file that `nmfuse train fusion` wrote", device)


def weight_file(name: str | Path) -> Path:
    """Return the path of the file that `load_fusion` reads for this name."""
    return shipped(_SHIPPED[str(name)]) if name in _SHIPPED else Path(name)


def _read(path: Path) -> FusionNet:
    tensors, metadata = read_weights(path, FORMAT)
    try:
        sizes = {name: int(metadata[name]) for name in ("channels", "hidden", "rank", "rank2")}
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: its metadata lacks the sizes of the network ({error}); train it anew") from error
    net = FusionNet(**sizes, context=metadata.get("context") == "1")
    return fit_weights(net, tensors, path, "the fusion network", "nmfuse train fusion")
