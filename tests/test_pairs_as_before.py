"""Two images over two axes give by the paper's method what they gave before any number could be fused, to the last bit.

``before.npz`` was written by the last version that took two images: pixels of each result, and a digest of all of its
bytes. Bits depend on the kernels that torch and its matrix library choose for a processor: on the kind that wrote the
file every bit is compared, elsewhere the pixels to one grey level.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nmfuse import Fuser
from nmfuse.data import brain_phantom
from nmfuse.kernels import num_threads, set_num_threads

pytestmark = pytest.mark.usefixtures("one_thread")


def processor() -> str:
    """Return vendor, family and model of the processor, and the instruction set that torch uses on it."""
    info = dict(
        line.split("\t: ", 1)
        for line in Path("/proc/cpuinfo").read_text().partition("\n\n")[0].replace("\t\t", "\t").splitlines()
        if "\t: " in line
    )
    names = ("vendor_id", "cpu family", "model")
    return " ".join([*(info.get(name, "?") for name in names), torch.backends.cpu.get_cpu_capability()])


BEFORE = np.load(Path(__file__).with_name("before.npz"))
DIGESTS = dict(line.split("\t") for line in BEFORE["digests"].tolist())
PHANTOM = brain_phantom(64)
T2, CT = (np.rint(255 * x).astype(np.uint8) for x in (PHANTOM.t2, PHANTOM.ct))
TINT = np.stack([CT, CT // 2, CT // 3], axis=-1)
PAPER = {
    "paper": {},
    "soft": {"vote": "soft"},
    "cnn": {"weighting": "cnn"},
    "nmf": {"weighting": "nmf"},
    "half": {"weighting": "half"},
    "kl": {"beta": 1.0},
    "levels": {"levels": 2},
    "off": {"denoise": "off"},
    "one stage": {"rank2": 0},
    "contrast": {"pyramid": "contrast"},
    "full": {"network": "full"},
    "sharpen": {"sharpen": 0.5},
}
CASES: dict[str, Callable[[], np.ndarray]] = {
    **{f"paper, {name}": lambda o=options: Fuser("paper", **o).fuse(T2, CT) for name, options in PAPER.items()},
    "paper, letter": lambda: Fuser("paper-letter").fuse(T2, CT),
    "paper, colour": lambda: Fuser("paper").fuse(T2, TINT),
    "paper, odd": lambda: Fuser("paper").fuse(T2[:61, :50], CT[:61, :50]),
    "paper, float32": lambda: Fuser("paper").fuse(PHANTOM.t2, PHANTOM.ct),
}


@pytest.mark.parametrize("name", CASES)
def test_pairs_keep_their_bits(name: str) -> None:
    threads = num_threads()
    set_num_threads(1)
    try:
        fused = CASES[name]()
    finally:
        set_num_threads(None if threads == num_threads() else threads)
    stored = BEFORE[name]
    assert fused.dtype == stored.dtype
    step = -(-fused.shape[0] // stored.shape[0])
    seen = fused[::step, ::step]
    assert seen.shape == stored.shape
    if processor() == str(BEFORE["cpu"]):
        np.testing.assert_array_equal(seen, stored)
        assert hashlib.sha256(np.ascontiguousarray(fused).tobytes()).hexdigest() == DIGESTS[name]
    else:
        scale = 1 if stored.dtype == np.uint8 else float(stored.max() - stored.min()) / 255
        difference = np.abs(seen.astype(float) - stored) / scale
        assert np.quantile(difference, 0.99) <= 1  # grey level: factorizations end a little elsewhere


def test_the_file_holds_all_cases() -> None:
    assert set(DIGESTS) == set(CASES)
