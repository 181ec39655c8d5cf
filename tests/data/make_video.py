"""Videos of two cameras: ``python tests/data/make_video.py FOLDER [HEIGHT [FRAMES]]``: infrared.mkv, visible.mp4."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from nmfuse.data import street_scene
from nmfuse.io.video import write_video


def infrared_and_visible(folder: Path, height: int = 96, frames: int = 8) -> tuple[Path, Path]:
    """Write someone who walks by: infrared in centi-kelvin (16 bits, 10 frames a second), visible at 20 a second."""
    folder.mkdir(parents=True, exist_ok=True)
    infrared, visible = folder / "infrared.mkv", folder / "visible.mp4"
    walk = np.linspace(0.22, 0.42, 2 * frames)
    scenes = [street_scene(height, height * 4 // 3, person=float(place)) for place in walk]
    write_video(visible, [(k / 20, scene.photograph(seed=k)) for k, scene in enumerate(scenes)], rate=20)
    rng = np.random.default_rng(5)
    with av.open(str(infrared), "w") as file:
        stream = file.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = height, height * 4 // 3, "gray16le"
        for k, scene in enumerate(scenes[::2]):
            noise = rng.normal(0, 4, scene.temperature.shape)
            stored = np.rint(100 * (scene.temperature + 273.15) + noise).astype(np.uint16)
            frame = av.VideoFrame.from_ndarray(stored, format="gray16le")
            frame.pts, frame.time_base = k, Fraction(1, 10)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return infrared, visible


if __name__ == "__main__":
    print(*infrared_and_visible(Path(sys.argv[1]), *map(int, sys.argv[2:])), sep="\n")
