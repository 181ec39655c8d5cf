"""The method of Liu et al. 2017: a soft weight map by a Siamese CNN, fused by Laplacian pyramids."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nmfuse import pyramids
from nmfuse.methods.base import Plane, Planes, Rival, check_number
from nmfuse.methods.rules import fuse_level
from nmfuse.methods.scores import scores, weight_map
from nmfuse.nets import Siamese, load

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CnnLiu(Rival):
    """The slight Siamese CNN: a soft weight map a source, and Laplacian pyramids.

    The network compares two images. Of the authors' network, more are weighted by the softmax over the images of their
    mean margin: the logits of "sharper" minus those of "less sharp" against each image, 0 against itself. Where margins
    are differences of one quality per image, as those of our own network are, this is the softmax of the qualities; for
    two images it is the network's own output. Their network is not quite the same for both orders of a pair: each pair
    is compared in the order of the sources.

    Parameters
    ----------
    weights : path, optional
        The authors' ``cnnmodel.mat`` (from their package, for research use only). Without it our own focus weights of
        the same network ("full") are used, and the log says so, once.
    threshold : float
        t of the match; coefficients that match better are weighted, others chosen by energy.

    References
    ----------
    Liu, Chen, Cheng & Peng, "A medical image fusion method based on convolutional neural networks", FUSION 2017.
    """

    weights: str | Path | None = None
    threshold: float = 0.6

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold)

    @torch.inference_mode()
    def fuse_planes(self, x: Planes) -> Plane:
        """Return the fused luminance (H, W) of (S, H, W)."""
        shape = (x.shape[1], x.shape[2])
        W = weight_map(self._scores(x), "soft", shape).double()
        levels = pyramids.max_levels(shape)
        details = [pyramids.laplacian_pyramid(torch.from_numpy(np.array(source)), levels) for source in x]
        weights = [pyramids.gaussian_pyramid(w, levels) for w in W]
        fused = [
            fuse_level(torch.stack(coefficients), torch.stack(shares), self.threshold)
            for coefficients, shares in zip(zip(*details, strict=True), zip(*weights, strict=True), strict=True)
        ]
        return np.asarray(pyramids.collapse_laplacian(fused).numpy())

    def _scores(self, x: Planes) -> Tensor:
        """Return how much each source is to weigh, block by block: (S, hs, ws), of sum one."""
        if self.weights is None:
            _say_whose_weights()
            net = load("full")
        else:
            net = authors_net(Path(self.weights))
        features = torch.cat([net.features(torch.from_numpy(np.array(plane)).float()[None, None]) for plane in x])
        return scores(features, net) if self.weights is None else _authors_scores(features, net)


def _authors_scores(features: Tensor, net: Siamese) -> Tensor:
    """Return the scores (S, hs, ws) of features (S, C, h, w): each pair compared once, in the order of the sources."""
    count = len(features)
    margins = {}
    for s, t in combinations(range(count), 2):
        pair = torch.cat([features[s : s + 1], features[t : t + 1]], dim=1)
        logits = torch.nn.functional.conv2d(pair, net.head.weight)[0]
        margins[s, t] = logits[1] - logits[0]
        margins[t, s] = -margins[s, t]
    totals = [torch.stack([margins[s, t] for t in range(count) if t != s]).sum(0) for s in range(count)]
    return (torch.stack(totals) / count).softmax(0)


@lru_cache(maxsize=1)
def _say_whose_weights() -> None:
    _log.warning("cnn-liu: no weights of the authors were given; our own focus weights take their place")


@lru_cache(maxsize=1)
def authors_net(path: Path) -> Siamese:
    """Return the network with the authors' weights, read from their MATLAB file."""
    from scipy.io import loadmat

    try:
        stored = loadmat(str(path))  # a Path that leads nowhere gives no FileNotFoundError
        net = Siamese("full").eval().requires_grad_(False)
        state = net.state_dict()
        for layer, name, shape in (
            ("conv1", "weights_b1_1", (1, 9, 64)),
            ("conv2", "weights_b1_2", (64, 9, 128)),
            ("conv3", "weights_b1_3", (128, 9, 256)),
        ):
            state[f"{layer}.weight"] = _kernels(stored[name].reshape(shape), 3)
            state[f"{layer}.bias"] = torch.from_numpy(stored[name.replace("weights", "biases")].ravel()).float()
        state["head.weight"] = _kernels(stored["weights_output"], 8)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"weights: {path} is not the authors' cnnmodel.mat ({type(error).__name__}: {error})"
        ) from error
    net.load_state_dict(state)
    return net


def _kernels(stored: np.ndarray, side: int) -> Tensor:
    """Return (in, side * side, out), columns first, as (out, in, side, side)."""
    channels, _, out = stored.shape
    kernels = stored.reshape(channels, side, side, out)  # column, row
    return torch.from_numpy(np.ascontiguousarray(kernels.transpose(3, 0, 2, 1))).float()
