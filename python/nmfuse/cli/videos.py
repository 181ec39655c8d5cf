"""``nmfuse video``: videos of one scene in, one video out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nmfuse.cli.progress import progress_bar
from nmfuse.fuser import Fuser
from nmfuse.images import Image
from nmfuse.io.video import check_video, paired_frames, video_info, write_video


def run_video(fuser: Fuser, paths: list[Path], output: Path, *, overwrite: bool, window: Any, **options: Any) -> None:
    """Refuse what cannot be written, fuse the frames of one moment after the other, and copy the first sound."""
    check_video(output, overwrite=overwrite, sources=paths)
    for each in window if isinstance(window, list) else [window]:
        if each in ("auto", "minmax"):
            raise ValueError(f"--window: {each} changes from frame to frame; give black and white, such as 0,4095")
    infos = [video_info(path) for path in paths]
    total = infos[0].frames
    sound = next((path for path, info in zip(paths, infos, strict=True) if info.sound), None)
    with progress_bar("fuse") as report:

        def fused() -> Iterator[tuple[float, np.ndarray]]:
            for done, moment in enumerate(paired_frames(*paths), start=1):
                frames = (Image(frame, name=path.name) for frame, path in zip(moment.frames, paths, strict=True))
                yield moment.seconds, fuser.fuse(frames, window=window, output="uint8", **options).pixels
                report(done, max(done, total), f"{moment.seconds:.1f} s")

        write_video(output, fused(), rate=infos[0].rate, audio=sound, overwrite=overwrite)
    print(output)
