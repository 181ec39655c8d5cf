"""Focus training: the Siamese CNN learns to tell a clear 16 x 16 patch from a blurred one."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nmfuse.io import new_file
from nmfuse.kernels.checks import check_count
from nmfuse.nets.siamese import FORMAT, Siamese
from nmfuse.nets.weights_file import write_weights
from nmfuse.training.loops import CurvePoint, Sgd, output_files, run_training, training_device, write_curves
from nmfuse.training.patches import augment, find_images, hash_files, pool_of_pairs

STEPS = {"full": 1000, "lite": 6000}  # of the shipped files
PAIRS_PER_LEVEL = 200  # drawn from each photograph for each blur level
_EVERY = 50  # steps between points of the curves and between checkpoints
_CURVE_PAIRS = 2000  # held-out pairs behind a point of the curves; the final accuracy takes all


@dataclass(frozen=True)
class FocusResult:
    """The result of `train_focus`.

    Attributes
    ----------
    accuracy : float
        The share of the held-out pairs whose clear patch was recognized, 0 to 1.
    pairs : int
        The number of held-out pairs.
    curve : list of CurvePoint
        The loss, learning rate and accuracy during the training.
    """

    accuracy: float
    pairs: int
    curve: list[CurvePoint]


def train_focus(
    images: str | Path | Sequence[Path],
    output: str | Path,
    *,
    variant: str = "lite",
    steps: int | None = None,
    batch: int = 128,
    lr: float = 0.02,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    seed: int = 0,
    validation_fraction: float = 0.2,
    checkpoint: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int, float], None] | None = None,
    device: str = "cpu",
    notes: str = "",
) -> FocusResult:
    """Train a `Siamese` net on photographs and write its weight file and its curves (CSV and PNG beside it).

    Each photograph is blurred one to five times by a Gaussian (sigma 2, support 7 x 7); for each level, 200 pairs
    (clear, blurred) of 16 x 16 patches are drawn where the clear one has a variance above 25 (0..255 scale). A batch
    holds ``batch / 2`` pairs, each in both orders with the labels 1 and 0; the loss is the softmax cross-entropy. The
    photographs held out for the accuracy are never trained on.

    Two departures from the published recipe: the learning rate is far higher (1e-4 there, for some 150,000 steps
    on 2 million examples) because our runs are short; and the pairs vary in contrast, gamma and polarity
    (`nmfuse.training.patches.augment`), because scanners do.

    Parameters
    ----------
    images : path or list of paths
        A folder of sharp photographs, which is searched with its subfolders, or a list of files.
    output : path
        The weight file, ending in .safetensors.
    variant : {"lite", "full"}
        The size of the network; see `nmfuse.nets.Siamese`.
    steps : int, optional
        The number of batches; by default 1000 for "full" and 6000 for "lite", which made the files that come with
        nmfuse.
    batch : int
        The number of examples in a step, which must be even.
    lr, momentum, weight_decay : float
        The parameters of the gradient descent; the learning rate falls to a tenth after 60 % and to a hundredth after
        90 % of the steps.
    seed : int
        The seed of the split, the patches and the starting weights.
    validation_fraction : float
        The share of the photographs that is held out, above 0 and below 1.
    checkpoint : path, optional
        A file that is saved every 50 steps. A run that finds it continues from there, and gives the same bits as an
        uninterrupted run on the same machine with as many threads.
    overwrite : bool
        Whether existing output files may be replaced.
    progress : callable, optional
        A function that is called after each step, with the number of steps done, the total, and the loss.
    device : str
        The device on which torch trains.
    notes : str
        A text for the metadata of the file, such as the licence of the photographs.

    Returns
    -------
    FocusResult

    Raises
    ------
    FileNotFoundError, FileExistsError
        If the images or the output folder are missing; if an output file exists.
    ValueError
        For an option out of range, an image that cannot be used, photographs without texture, or a loss that becomes
        NaN or inf.

    References
    ----------
    Liu, Chen, Cheng, Peng, "A medical image fusion method based on convolutional neural networks", FUSION 2017.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in "abc":
    ...     noise = np.random.default_rng(ord(name)).integers(0, 256, (40, 40))
    ...     Image.fromarray(noise.astype(np.uint8)).save(folder / f"{name}.png")
    >>> output = Path(tempfile.mkdtemp()) / "lite.safetensors"
    >>> result = train_focus(folder, output, steps=20, batch=16)
    >>> result.accuracy > 0.9
    True
    """
    sgd = Sgd(_check(variant, steps, batch, seed, validation_fraction), lr, momentum, weight_decay)
    where = training_device(device)
    checkpoint = None if checkpoint is None else Path(checkpoint)
    files = output_files(Path(output), checkpoint, overwrite=overwrite)
    paths = find_images(Path(images) if isinstance(images, (str, Path)) else images)
    if files[2].resolve() in {path.resolve() for path in paths}:
        raise ValueError(f"output: its picture of the curves, {files[2]}, is one of the images; write elsewhere")
    training, held_out = _split(paths, validation_fraction, seed)
    training_pairs = _pool(training, seed)
    held_out_pairs = _pool(held_out, seed)

    recipe = {
        "variant": variant,
        "batch": batch,
        **asdict(sgd),
        "seed": seed,
        "validation_fraction": validation_fraction,
        "pairs_per_level": PAIRS_PER_LEVEL,
        "data_sha256": hash_files(paths),
    }
    with torch.random.fork_rng(devices=[]):  # leaves the caller's random numbers alone
        torch.default_generator.manual_seed(seed)
        net = Siamese(variant).to(where)
    some = held_out_pairs[:: max(1, len(held_out_pairs) // _CURVE_PAIRS)]
    curve = run_training(
        net,
        functools.partial(_loss, net, training_pairs, batch // 2, seed),
        functools.partial(accuracy, net, some),
        sgd,
        every=_EVERY,
        recipe=recipe,
        checkpoint=checkpoint,
        progress=progress,
    )
    result = FocusResult(accuracy(net, held_out_pairs), len(held_out_pairs), curve)

    metadata = {
        "variant": variant,
        "recipe": json.dumps(recipe),
        "data_sha256": hash_files(paths),
        "images": str(len(paths)),
        "held_out_images": str(len(held_out)),
        "held_out_pairs": str(result.pairs),
        "held_out_accuracy": f"{result.accuracy:.5f}",
        "notes": notes,
    }
    write_curves(curve, files[1], files[2], f"Focus training, {variant}", "held-out patch accuracy")
    with new_file(files[0], overwrite=True) as temporary:
        write_weights(temporary, net.state_dict(), FORMAT, metadata)
    return result


def accuracy(net: Siamese, pairs: NDArray[np.uint8]) -> float:
    """Return the share of pairs (n, 2, 16, 16), clear patch first, whose first patch gets a score above 0.5."""
    device = net.head.weight.device
    right = 0
    with torch.inference_mode():
        for first in range(0, len(pairs), 512):
            x = torch.from_numpy(pairs[first : first + 512]).to(device).float() / 255
            right += int((net.score_map(x[:, :1], x[:, 1:]) > 0.5).sum())
    return right / len(pairs)


def _loss(net: Siamese, pairs: NDArray[np.uint8], count: int, seed: int, step: int) -> Tensor:
    """Return the mean cross-entropy of `count` random pairs."""
    rng = np.random.default_rng([seed, step])
    chosen = pairs[rng.integers(len(pairs), size=count)]
    x = torch.from_numpy(augment(chosen, rng)).to(net.head.weight.device)
    logits = net(x[:, :1], x[:, 1:]).flatten(1)  # (count, 2)
    # The net averages over both orders: (blurred, clear) with label 0 has the same loss as (clear, blurred) with 1.
    return functional.cross_entropy(logits, torch.ones(count, dtype=torch.long, device=x.device))


def _check(variant: str, steps: int | None, batch: int, seed: int, validation_fraction: float) -> int:
    if variant not in STEPS:
        raise ValueError(f"variant: got {variant!r}; expected 'full' or 'lite'")
    steps = STEPS[variant] if steps is None else steps
    for name, value, least in (("steps", steps, 1), ("batch", batch, 2), ("seed", seed, 0)):
        check_count(name, value, least)
    if batch % 2:
        raise ValueError(f"batch: got {batch}; expected an even number, each pair counts in both orders")
    if not 0 < validation_fraction < 1:
        raise ValueError(f"validation_fraction: got {validation_fraction}; expected more than 0 and less than 1")
    return steps


def _split(paths: list[Path], fraction: float, seed: int) -> tuple[list[Path], list[Path]]:
    """Split photographs into those to train on and those held out, at least one of each."""
    order = np.random.default_rng(seed).permutation(len(paths))
    count = min(max(1, round(fraction * len(paths))), len(paths) - 1)
    return [paths[i] for i in sorted(order[count:])], [paths[i] for i in sorted(order[:count])]


def _pool(paths: list[Path], seed: int) -> NDArray[np.uint8]:
    pairs = pool_of_pairs(paths, PAIRS_PER_LEVEL, seed)
    if not len(pairs):
        raise ValueError(f"images: {paths[0]} and others have no 16 x 16 patch with texture; give sharp photographs")
    return pairs
