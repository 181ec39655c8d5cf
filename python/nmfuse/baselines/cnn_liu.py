"""The method of Liu et al. 2017: a soft weight map by a Siamese CNN, fused by Laplacian pyramids."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nmfuse import pyramids
from nmfuse.baselines.rules import Image
from nmfuse.fusion.rules import fuse_level
from nmfuse.fusion.weights import cnn_weight_map
from nmfuse.nets import Siamese, load

_log = logging.getLogger(__name__)


@torch.inference_mode()
def fuse(a: Image, b: Image, weights: str | Path | None = None, threshold: float = 0.6) -> Image:
    """Fuse by the slight Siamese CNN.

    Parameters
    ----------
    a, b : (H, W)
    weights : path, optional
        The authors' ``cnnmodel.mat`` (from their package, for research use only). Without it our own focus weights of
        the same network ("full") are used, and the log says so, once.
    threshold : float
        t of the match; coefficients that match better are weighted, others chosen by energy.

    References
    ----------
    Liu, Chen, Cheng & Peng, "A medical image fusion method based on convolutional neural networks", FUSION 2017.
    """
    x, y = (torch.from_numpy(np.array(image)).float()[None, None] for image in (a, b))
    if weights is None:
        _say_whose_weights()
        S = load("full").score_map(x, y)[0]
    else:
        net = authors_net(Path(weights))
        both = torch.cat([net.features(x), net.features(y)], dim=1)
        S = torch.nn.functional.conv2d(both, net.head.weight).softmax(1)[0, 1]
    W = cnn_weight_map(S.contiguous(), "soft", a.shape).double()
    levels = pyramids.max_levels(a.shape)
    p, q = (pyramids.laplacian_pyramid(torch.from_numpy(np.array(image)), levels) for image in (a, b))
    fused = [
        fuse_level(*coefficients, threshold)
        for coefficients in zip(p, q, pyramids.gaussian_pyramid(W, levels), strict=True)
    ]
    return np.asarray(pyramids.collapse_laplacian(fused).numpy())


@lru_cache(maxsize=1)
def _say_whose_weights() -> None:
    _log.warning("cnn-liu: no weights of the authors were given; our own focus weights take their place")


@lru_cache(maxsize=1)
def authors_net(path: Path) -> Siamese:
    """Return the network with the authors' weights, read from their MATLAB file."""
    from scipy.io import loadmat

    try:
        stored = loadmat(path)
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
