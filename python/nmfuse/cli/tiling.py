"""``nmfuse fuse`` of images that are larger than memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nmfuse.cli.progress import progress_bar
from nmfuse.fuser import Fuser
from nmfuse.io import open_image
from nmfuse.io.limits import max_pixels
from nmfuse.scale import fuse_tiles


def are_large(paths: Sequence[Path]) -> bool:
    """Return whether one of the images has more pixels than are read into memory, and can be read in parts."""
    return any(_pixels(path) > max_pixels() for path in paths)


def _pixels(path: Path) -> int:
    log = logging.getLogger("nmfuse.io")
    log.disabled = True  # what it says is said when the image is read
    try:
        image = open_image(path)
    except (ValueError, OSError, ModuleNotFoundError):  # and what is wrong, too
        return 0
    finally:
        log.disabled = False
    return math.prod(image.shape[: image.spatial])


def run_tiles(fuser: Fuser, paths: Sequence[Path], target: Path, **options: Any) -> None:
    """Fuse large images, with a bar for each pass over their tiles."""
    with progress_bar("fuse") as report:
        fuse_tiles(paths, target, method=fuser, report=report, **options)
