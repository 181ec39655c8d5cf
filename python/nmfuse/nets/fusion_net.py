"""The fusion network: Siamese features, NMF twice for context, and a gate for each source at each pyramid level."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nmfuse import pyramids
from nmfuse.nets.layers import nmf_layer
from nmfuse.nets.weights_file import fit_weights, load_once, read_weights, shipped

FORMAT = "nmfuse.fusion.5"
LEVELS = 6  # of the pyramid, with its top
_NOTES = 4  # maps that a level hands down to the next finer one, of each image
_SHIPPED = {"default": "fusion", "all": "fusion_all"}
_SILENT = 1e-6
_FAINT = 1e-10  # energy of coefficients that no screen shows
# Pixels: height and width of what is looked at together where no gradient is asked for; even. A cache holds the first.
_TILE = {"cpu": (128, 256), "cuda": (1024, 1024)}
_REACH = 4  # pixels: of three convolutions and a head's; even
_KEPT = 1 << 18  # pixels of which features are kept
_FEW = 1 << 12  # pixels of which features are factorized

Clock = Callable[[str], AbstractContextManager[None]]
Place = tuple[slice, slice]  # rows and columns


class FusionNet(nn.Module):
    """Fuses two images through a Laplacian pyramid whose every coefficient is gated by what both images show there.

    Each level of both images' Gaussian pyramids has a branch that looks at it, with the same weights for both images.
    From the features of level 1, stage 1 of NMF factorizes both images' maps together, stage 2 the maps fused by each
    component's share; how strongly an image shows the parts found is its context, one map. The mean and the root mean
    square of the features of both images tell what kind of pair it is: the scene. From the top down, the head of a
    level sees an image's own features, the other's, the contexts and the notes of the coarser level, by hidden channels
    to which the scene gives a bias and a gain (Perez et al., FiLM, AAAI 2018), and gives that image a weight, an excess
    and notes for the next finer level. The gate of image A is ``w_A + (1 - M) x_A``: weights sum to one, and the
    excess, -1 to 1, counts as far as the coefficients do not match (``M``, as in the pyramid rule). So both images'
    details may be shown in full where they differ, an image fused with itself is itself, and exchanging the images
    exchanges the gates. No pixel becomes brighter than twice what either image shows within 3 x 3: black stays black.

    Parameters
    ----------
    channels : int
        Of the branches.
    hidden : int
        Of the heads.
    rank, rank2 : int
        Of the two stages of NMF.
    context : bool
        False leaves the NMF out: its maps are 1/2.
    specific : bool
        True gives the second image first layers of its own: then the order of the images matters, in use as in
        training.

    Examples
    --------
    >>> a, b = torch.rand(2, 1, 1, 40, 33)
    >>> FusionNet()(a, b).shape
    torch.Size([1, 1, 40, 33])
    """

    def __init__(
        self,
        channels: int = 16,
        hidden: int = 24,
        rank: int = 8,
        rank2: int = 3,
        *,
        context: bool = True,
        specific: bool = False,
    ) -> None:
        super().__init__()
        self.rank, self.rank2, self.context = rank, rank2, context
        self.branches = nn.ModuleList(_branch(channels) for _ in range(LEVELS))
        self.firsts_b = nn.ModuleList(_convolution(1, channels) for _ in range(LEVELS)) if specific else None
        detail = [_Head(channels, hidden, _NOTES, _NOTES if level else 0, excess=0.5) for level in range(LEVELS - 1)]
        self.heads = nn.ModuleList([*detail, _Head(channels, hidden, 0, _NOTES, excess=0.0)])  # the last is the top's
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # three times faster on a CPU

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the fused images: (N, 1, H, W) in [0, 1] twice, H and W at least 16, to the same; not clipped.

        Without gradients, the levels are worked on in tiles: above the images, memory holds about five more.
        """
        return self.explain(a, b)[0]

    def explain(
        self, a: Tensor, b: Tensor, clock: Clock = lambda _: nullcontext(), *, record: dict[str, Any] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the fused images, and the contexts (2, N, 1, h, w) of level 1, a's first.

        Each step runs ``with clock(its name)``. Where `record` is given, it receives "gates", likewise (2, N, 1, h, w)
        for every level, and, where the NMF takes part, "parts" (2, N, r2, h, w): how strongly each image shows each
        part of stage 2.
        """
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 1 or min(a.shape[2:]) < 16:
            raise ValueError(
                f"a, b: shapes {tuple(a.shape)}, {tuple(b.shape)}; expected (N, 1, H, W), 16 x 16 at least"
            )
        shapes = [(a.shape[2], a.shape[3])]
        with clock("pyramids"):  # of level 0 there is no stack
            first = torch.stack([pyramids.reduce(a), pyramids.reduce(b)])
            gaussian = pyramids.gaussian_pyramid(first, LEVELS - 1)
            shapes += [(level.shape[3], level.shape[4]) for level in gaussian]
        features, scene, context = self._survey(gaussian, clock, record)
        with clock("pyramids"):
            contexts = pyramids.gaussian_pyramid(context, len(gaussian))
        kept: list[Tensor] = []
        fused = notes = None
        for level in reversed(range(LEVELS)):
            whole, gate_of = a.new_empty(len(a), 1, *shapes[level]), None
            handed = a.new_empty(2, len(a), _NOTES if level else 0, *shapes[level])
            if record is not None:
                gate_of = a.new_empty(2, len(a), 1, *shapes[level])
                kept.insert(0, gate_of)
            for seen, inner, there in _tiles(shapes[level], a.device):
                with clock("pyramids"):
                    image = _cut(gaussian[level - 1], seen) if level else torch.stack([_cut(a, seen), _cut(b, seen)])
                    parts = _cut(contexts[level - 1], seen) if level else _expand(context, seen, shapes[0])
                    shown = image
                    if notes is not None:
                        shown = image - _expand(gaussian[level], seen, shapes[level])
                        parts = torch.cat([parts, _expand(notes, seen, shapes[level])], dim=2)
                with clock("gates"):
                    maps = _cut(features, seen) if level == 1 and features is not None else self._look(image, level)
                    logits = self.heads[level](maps, parts.flatten(0, 1), scene)  # (2, N, 2 + notes, h, w)
                    gate = logits[:, :, :1].softmax(0) + _mismatch(shown) * torch.tanh(logits[:, :, 1:2])
                    _cut(handed, there).copy_(_cut(logits[:, :, 2:], inner))
                with clock("pyramids"):
                    tile = (gate * shown).sum(0)
                    if fused is not None:
                        tile = tile + _expand(fused, seen, shapes[level])
                    if level == 0:
                        tile = torch.minimum(tile, 2 * _greatest_near(image.amax(0)))
                    _cut(whole, there).copy_(_cut(tile, inner))
                if gate_of is not None:
                    _cut(gate_of, there).copy_(_cut(gate, inner))
            fused, notes = whole, handed
        if record is not None:
            record["gates"] = kept
        assert fused is not None
        return fused, context

    def _survey(
        self, gaussian: list[Tensor], clock: Clock, record: dict[str, Any] | None
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Return the features of level 1 where they are few enough to be kept, the scene, and the contexts.

        The parts are those of level 1, or of the first level that is small enough, always by the branch of level 1.
        """
        image = gaussian[0]
        small = next((level for level in gaussian if level[0, 0].numel() <= _FEW), gaussian[-1])
        with clock("features"):
            kept = self._look(image, 1) if image[0, 0].numel() <= _KEPT else None
            features = kept if small is image else self._look(small, 1)
        with clock("nmf"):
            parts = self._parts(features) if self.context and features is not None else None
        energy = image.new_full(image.shape, 0.5)
        if record is not None and parts is not None:
            record["parts"] = image.new_empty(*image.shape[:2], parts.shape[2], *image.shape[3:])
        sums: Tensor | float = 0.0
        shared: Tensor | float = 0.0  # of both images' features, and alone, where both images are bright
        for seen, inner, there in _tiles((image.shape[-2], image.shape[-1]), image.device):
            with clock("features"):
                maps = _cut(self._look(_cut(image, seen), 1) if kept is None else _cut(kept, seen), inner)
                sums = sums + torch.cat([maps.sum((2, 3)), maps.square().sum((2, 3))], dim=1)
            if parts is not None:
                with clock("nmf"):
                    V = maps.reshape(2, -1, maps.shape[1], maps[0, 0].numel())
                    tile, strength = _cut(energy, there), parts.mT @ V
                    tile.copy_(strength.square().sum(2).reshape(tile.shape))
                    if record is not None:
                        tile = _cut(record["parts"], there)
                        tile.copy_(strength.reshape(tile.shape))
                    bright = _cut(image, there).clamp_min(0).prod(0).flatten(1)
                    shared = shared + torch.stack([*(V.mean(2) * bright).sum(2), bright.sum(1)])
        assert isinstance(sums, Tensor)
        mean, square = (sums / image[0, 0].numel()).chunk(2, dim=1)  # of each of the features
        own = torch.cat([mean, (square + _FAINT).sqrt()], dim=1)
        scene = torch.cat([own, own.roll(len(own) // 2, 0)], dim=1)
        if parts is not None:
            assert isinstance(shared, Tensor)
            level = ((shared[:2] + _SILENT) / (shared[2] + _SILENT)).square().reshape(*energy.shape[:2], 1, 1, 1)
            energy = energy / level + _SILENT  # neither image outweighs the other where they overlap
            energy = energy / energy.sum(0)
        return kept, scene, energy

    def _look(self, pair: Tensor, level: int) -> Tensor:
        """Return the features (2N, C, h, w) of (2, N, 1, h, w), by the branch of a level."""
        branch = self.branches[level]
        assert isinstance(branch, nn.Sequential)
        if self.firsts_b is not None:
            seen = torch.cat([branch[0](pair[0]), self.firsts_b[level](pair[1])])
            features: Tensor = branch[1:](seen.contiguous(memory_format=torch.channels_last))
        else:
            features = branch(pair.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        return features

    def _parts(self, features: Tensor) -> Tensor:
        """Return the parts (N, C, r2) of stage 2, found in the features (2N, C, h, w) of both images."""
        n, (channels, h, w) = features.shape[0] // 2, features.shape[1:]
        V = features.reshape(2, n, channels, h * w)
        V = V / V.mean((-2, -1), keepdim=True).clamp_min(_SILENT)  # neither image outweighs the other
        both = torch.cat([V[0], V[1]], dim=1)
        A, B = nmf_layer(both, min(self.rank, h * w), iterations=20)
        A_a, A_b = A[:, :channels], A[:, channels:]
        norm_a, norm_b = (x.square().sum(1, keepdim=True).add(_SILENT**2).sqrt() for x in (A_a, A_b))
        share = norm_a / (norm_a + norm_b)
        fused = (share * A_a + (1 - share) * A_b) @ B
        return nmf_layer(fused, min(self.rank2, channels, h * w), iterations=20)[0]


def _tiles(shape: tuple[int, int], device: torch.device) -> Iterator[tuple[Place, Place, Place]]:
    """Yield what to look at for each tile, which part of that is the tile's, and where the tile is.

    With gradients, which keep everything anyway, the image is one tile.
    """
    sides = shape if torch.is_grad_enabled() else _TILE[device.type]
    starts = [range(0, length, side) for length, side in zip(shape, sides, strict=True)]
    for corner in itertools.product(*starts):
        spans = [_span(*axis) for axis in zip(corner, sides, shape, strict=True)]
        seen, inner, there = zip(*spans, strict=True)
        yield seen, inner, there


def _span(start: int, side: int, length: int) -> tuple[slice, slice, slice]:
    low, stop = max(0, start - _REACH), min(start + side, length)
    return slice(low, min(stop + _REACH, length)), slice(start - low, stop - low), slice(start, stop)


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


def _mismatch(pair: Tensor) -> Tensor:
    """Return 1 - M of the coefficients (2, N, 1, h, w), M = 2 sum AB / sum (A^2 + B^2) over 3 x 3, cut at 0."""
    a, b = pair[0], pair[1]
    cross, energy = functional.avg_pool2d(torch.cat([a * b, a * a + b * b], dim=1), 3, 1, 1).chunk(2, dim=1)
    return 1 - (2 * cross / energy.clamp_min(_FAINT)).clamp(0, 1)


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
    """An image's weight, excess and notes from what is known of it, the same of the other image, and the scene.

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

    def forward(self, features: Tensor, context: Tensor, scene: Tensor) -> Tensor:
        """Return the logits of the weight and the excess, and the notes, (2, N, 2 + written, h, w), of both images."""
        n = len(features) // 2
        # Padded for the last convolution, and side by side, channels last.
        seen = [functional.pad(x, (1, 1, 1, 1), mode="replicate").permute(0, 2, 3, 1) for x in (features, context)]
        both = torch.cat([x[image] for image in (slice(n), slice(n, None)) for x in seen], dim=3).permute(0, 3, 1, 2)
        assert self.own.bias is not None
        own, other, out = self.own.weight, self.other.weight, self.out.weight
        # Each image's hidden channels from the same channels of both: one pass over what is seen serves both.
        kernels = torch.cat([torch.cat([own, other], dim=1), torch.cat([other, own], dim=1)])
        biases, gains = self.scene(scene).reshape(2, n, 2, -1).transpose(0, 1).unbind(2)  # (N, 2, hidden)
        biases, gains = (self.own.bias + biases).flatten(1), 1 + gains.flatten(1)
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
    net = FusionNet(context=metadata.get("context") == "1", specific=metadata.get("specific") == "1")
    return fit_weights(net, tensors, path, "the fusion network", "nmfuse train fusion")
