"""Small pairs on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nmfuse.data import brain_phantom
from nmfuse.io import write_image


@pytest.fixture(scope="session")
def pairs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds: two grey pairs, and one whose second image is in colour."""
    folder = tmp_path_factory.mktemp("pairs")
    for kind, count in (("mri_ct", 2), ("mri_pet", 1)):
        (folder / kind).mkdir()
        for i in range(count):
            phantom = brain_phantom(64, seed=i)
            mri, ct = (np.rint(255 * x).astype(np.uint8) for x in (phantom.t2, phantom.ct))
            other = ct if kind == "mri_ct" else np.stack([ct, mri // 2, mri // 4], axis=-1)
            write_image(folder / kind / f"{i:02d}_A.png", mri)
            write_image(folder / kind / f"{i:02d}_B.png", other)
    return folder
