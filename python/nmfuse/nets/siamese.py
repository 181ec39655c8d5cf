"""The slight Siamese CNN: which of two images is sharper, for every 16 x 16 block."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from nmfuse.nets.weights_file import fit_weights, load_once, read_weights, shipped

PATCH = 16  # pixels: the side of the blocks that the scores belong to
STRIDE = 2  # pixels between blocks: the maps have half the image's resolution
FORMAT = "nmfuse.siamese.1"  # the metadata tag of a weight file
_WINDOW = PATCH // STRIDE  # the head's kernel: one patch at half resolution

# Channels of conv1, conv2, conv3. "lite" has fewer, and a depthwise-separable conv3.
_CHANNELS = {"full": (64, 128, 256), "lite": (16, 32, 64)}


class Siamese(nn.Module):
    """The slight Siamese CNN: two branches of shared weights, compared by one fully connected layer.

    Each branch: conv 3x3, ReLU, conv 3x3, ReLU, max-pool 2, conv 3x3, ReLU. The fully connected layer of the two
    concatenated 16 x 16 patches runs as one 8 x 8 convolution, so that an image of any size gives a map of scores.

    Parameters
    ----------
    variant : {"full", "lite"}
        "full" is the published net: 64, 128 and 256 channels. "lite" has 16, 32 and 64, its third convolution is
        depthwise-separable, and it costs more than 20 times fewer multiply-adds (see `multiply_adds`).

    Notes
    -----
    Weights start by Xavier's uniform rule from torch's global generator, biases at zero. `load` gives trained ones.

    References
    ----------
    Liu, Chen, Cheng, Peng, "A medical image fusion method based on convolutional neural networks", FUSION 2017.

    Examples
    --------
    >>> import torch
    >>> net = Siamese("lite")
    >>> a, b = torch.rand(1, 1, 40, 33), torch.rand(1, 1, 40, 33)
    >>> net(a, b).shape, net.score_map(a, b).shape, net.features(a).shape
    (torch.Size([1, 2, 13, 10]), torch.Size([1, 13, 10]), torch.Size([1, 64, 20, 17]))
    """

    def __init__(self, variant: str = "full") -> None:
        super().__init__()
        c1, c2, c3 = _channels(variant)
        self.variant = variant
        self.conv1 = nn.Conv2d(1, c1, 3, padding=1)
        self.conv2 = nn.Conv2d(c1, c2, 3, padding=1)
        self.conv3: nn.Module = nn.Conv2d(c2, c3, 3, padding=1)
        if variant == "lite":
            self.conv3 = nn.Sequential(nn.Conv2d(c2, c2, 3, padding=1, groups=c2), nn.Conv2d(c2, c3, 1))
        self.head = nn.Conv2d(2 * c3, 2, _WINDOW, bias=False)  # a bias would cancel, see response
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a quarter faster on a CPU

    def features(self, x: Tensor) -> Tensor:
        """Return the ReLU maps of conv3, what the two-stage NMF factorizes.

        Parameters
        ----------
        x : Tensor (N, 1, H, W)
            Grey images in [0, 1], in the dtype of the weights, with H and W of at least 16.

        Returns
        -------
        Tensor (N, C, ceil(H/2), ceil(W/2))
            The non-negative maps, stored channels-last; C is 256 ("full") or 64 ("lite").

        Raises
        ------
        ValueError
            If the shape differs from that.
        """
        if x.ndim != 4 or x.shape[1] != 1 or min(x.shape[2:]) < PATCH:
            raise ValueError(f"x: has shape {tuple(x.shape)}; expected (N, 1, H, W) with H and W >= {PATCH}")
        x = functional.relu_(self.conv2(functional.relu_(self.conv1(x))))
        # After a ReLU, ceil_mode is the zero row or column that an odd size needs at the bottom or right.
        return functional.relu_(self.conv3(functional.max_pool2d(x, 2, ceil_mode=True)))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the logits of the two classes, for training: the mean over both orders of the pair.

        Parameters
        ----------
        a, b : Tensor (N, 1, H, W)
            See `features`.

        Returns
        -------
        Tensor (N, 2, ceil(H/2) - 7, ceil(W/2) - 7)
            Class 0: b is sharper, class 1: a is sharper. Element (j, i) belongs to the block of rows 2j to 2j + 15 and
            columns 2i to 2i + 15. Their mean is zero: a softmax takes no notice of it.

        Raises
        ------
        ValueError
            For shapes that differ or are not as above.
        """
        if a.shape != b.shape:
            raise ValueError(f"b: has shape {tuple(b.shape)}; expected that of a, {tuple(a.shape)}")
        margin = self._margin(a, b)
        return torch.stack([-margin, margin], dim=1) / 2

    def score_map(self, a: Tensor, b: Tensor) -> Tensor:
        """Return S, the probability that a is the sharper image: the weight of image a.

        It is class 1 of the softmax of `forward`, and ``score_map(b, a)`` is exactly ``1 - score_map(a, b)``.

        Parameters
        ----------
        a, b : Tensor (N, 1, H, W)
            See `features`.

        Returns
        -------
        Tensor (N, ceil(H/2) - 7, ceil(W/2) - 7)
            The probabilities, in [0, 1]; 0.5 where the network finds no difference.

        Raises
        ------
        ValueError
            For shapes that differ or are not as above.
        """
        if a.shape != b.shape:
            raise ValueError(f"b: has shape {tuple(b.shape)}; expected that of a, {tuple(a.shape)}")
        margin = self._margin(a, b)
        upper = torch.sigmoid(margin.abs())  # in [0.5, 1], where 1 - s is exact
        return torch.where(margin < 0, 1 - upper, upper)

    def response(self, features: Tensor) -> Tensor:
        """Return the responses (N, h - 7, w - 7) of the head to an image with these `features` (N, C, h, w).

        The difference of two images' responses is logit 1 minus logit 0, averaged over the orders (a, b) and, classes
        swapped, (b, a): the head is linear, so this is one kernel on each image, half the difference of what the head
        does to the first and to the second image of a pair. Swapping the images changes the sign and nothing else.
        """
        first, second = (self.head.weight[1] - self.head.weight[0]).chunk(2)  # (C, 8, 8) each
        kernel = (first - second)[None] / 2
        return functional.conv2d(features, kernel)[:, 0]

    def _margin(self, a: Tensor, b: Tensor) -> Tensor:
        """Return logit 1 minus logit 0 of images (N, 1, H, W): (N, h, w)."""
        return self.response(self.features(a)) - self.response(self.features(b))


def multiply_adds(variant: str, height: int = PATCH, width: int = PATCH) -> int:
    """Return the multiply-adds of `Siamese.forward` on one pair of images, biases and pooling left out.

    Examples
    --------
    >>> multiply_adds("full") / multiply_adds("lite") > 10
    True
    """
    c1, c2, c3 = _channels(variant)
    conv3 = 9 * c2 + c2 * c3 if variant == "lite" else 9 * c2 * c3
    h, w = -(-height // STRIDE), -(-width // STRIDE)
    branch = height * width * (9 * c1 + 9 * c1 * c2) + h * w * conv3
    head = (h - _WINDOW + 1) * (w - _WINDOW + 1) * _WINDOW**2 * 2 * c3 * 2
    return 2 * branch + head


def load(name: str | Path = "lite", device: str | torch.device = "cpu") -> Siamese:
    """Return a trained net in evaluation mode, its weights frozen; the same object for the same file.

    Parameters
    ----------
    name : str or path
        "lite" or "full" for the weights that come with nmfuse, or a file that ``nmfuse train focus`` wrote.
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
    >>> load("lite").variant
    'lite'
    """
    path = shipped(str(name)) if name in _CHANNELS else Path(name)
    return load_once(path, _read, "'lite', 'full' or a file that `nmfuse train focus` wrote", device)


def _read(path: Path) -> Siamese:
    tensors, metadata = read_weights(path, FORMAT)
    variant = metadata.get("variant")
    if variant not in _CHANNELS:
        raise ValueError(f"{path}: its variant is {variant!r}; expected 'full' or 'lite', train it anew")
    return fit_weights(Siamese(variant), tensors, path, f"the {variant} net", "nmfuse train focus")


def _channels(variant: str) -> tuple[int, int, int]:
    if variant not in _CHANNELS:
        raise ValueError(f"variant: got {variant!r}; expected 'full' or 'lite'")
    return _CHANNELS[variant]
