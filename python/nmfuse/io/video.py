"""Videos by PyAV: the frames of several that show one moment, and a video of their fusions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from nmfuse.io.carried import log
from nmfuse.io.limits import refuse_too_large
from nmfuse.io.output import check_file, new_file

SUFFIXES = (".mp4", ".mov", ".mkv", ".avi")
_WRITTEN = (".mp4", ".mov", ".mkv")
_BT709, _LIMITED = 1, 1  # by the names of ITU-T H.273
_DEEP = 8  # bits, beyond which frames are read in 16


@dataclass(frozen=True)
class Moment:
    """The frames of several videos at one moment.

    Attributes
    ----------
    seconds : float
        The time stamp of the frame of the first video.
    frames : list of array, shape (H, W) or (H, W, 3)
        For each video the frame that is nearest in time, upright; uint8, or uint16 if the video has more than 8 bits.
    """

    seconds: float
    frames: list[np.ndarray]


def is_video(path: str | Path) -> bool:
    """Return whether a path has the suffix of a video.

    Examples
    --------
    >>> is_video("thermal.MP4"), is_video("thermal.png")
    (True, False)
    """
    return Path(path).suffix.lower() in SUFFIXES


@dataclass(frozen=True)
class VideoInfo:
    """What the header of a video says.

    Attributes
    ----------
    frames : int
        The approximate number of frames; 0 if the header does not say.
    rate : float
        The mean number of frames a second.
    sound : bool
        Whether the video has sound.
    """

    frames: int
    rate: float
    sound: bool


def video_info(path: str | Path) -> VideoInfo:
    """Return what the header of a video says.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or if it is not a video.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.mp4"
    >>> write_video(path, [(k / 25, np.zeros((32, 48), np.uint8)) for k in range(3)], rate=25)
    >>> video_info(path)
    VideoInfo(frames=3, rate=25.0, sound=False)
    """
    with ExitStack() as stack:
        file = _open(stack, Path(path))
        stream = file.streams.video[0]
        rate = float(stream.average_rate or 25)
        return VideoInfo(int(stream.frames) or round(_seconds(file) * rate), rate, bool(file.streams.audio))


def paired_frames(*paths: str | Path) -> Iterator[Moment]:
    """Yield the frames of several videos at the times of the frames of the first one, one moment after the other.

    Parameters
    ----------
    *paths : path
        Two or more videos that begin at the same time, with any frame rates. Each frame of the first is paired with the
        frame of each other video that is nearest by its time stamp.

    Yields
    ------
    Moment
        One for each frame of the first video. A frame is left out if another video has no frame within the duration of
        one of its frames. The number of such frames is logged at the end, and so is a first video that ends earlier
        than its header says.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a file is not a video, ends in the middle of a frame, or has more pixels than the limit
        (`NMFUSE_MAX_PIXELS`), or if no two frames belong together.
    ModuleNotFoundError
        If PyAV is not installed.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.mkv"
    >>> write_video(path, [(k / 10, np.full((32, 48), 20 * k, np.uint8)) for k in range(5)])
    >>> [round(moment.seconds, 1) for moment in paired_frames(path, path)]
    [0.0, 0.1, 0.2, 0.3, 0.4]
    """
    with ExitStack() as stack:
        files = [_open(stack, Path(path)) for path in paths]
        first, *others = [_frames(Path(path), file) for path, file in zip(paths, files, strict=True)]
        nearest = [_Nearest(frames, _period(file)) for frames, file in zip(others, files[1:], strict=True)]
        paired = alone = 0
        seconds = 0.0
        for seconds, frame in first:
            found = [other.at(seconds) for other in nearest]
            if any(other is None for other in found):
                alone += 1
                continue
            paired += 1
            yield Moment(seconds, [frame, *(other for other in found if other is not None)])
        if not paired:
            raise ValueError(f"{paths[0]}: none of its {alone} frames is of a time that the others show")
        if seconds + 3 * _period(files[0]) < _seconds(files[0]):
            said = _seconds(files[0])
            log.warning("%s: ends at %.2f s, but its header says %.2f s: it may be cut off", paths[0], seconds, said)
        if alone:
            log.warning("%s: %d of its frames have no partner in time, and are left out", paths[0], alone)


class _Nearest:
    """The frames of a video by time: each question is of a later time than the one before."""

    def __init__(self, frames: Iterator[tuple[float, np.ndarray]], period: float) -> None:
        self.frames, self.period = frames, period
        self.now, self.next = next(frames, None), next(frames, None)

    def at(self, seconds: float) -> np.ndarray | None:
        """Return the frame that is nearest; None where none is nearer than one period."""
        while self.next is not None and self.now is not None:
            if abs(self.next[0] - seconds) > abs(self.now[0] - seconds):
                break
            self.now, self.next = self.next, next(self.frames, None)
        if self.now is None or abs(self.now[0] - seconds) > self.period:
            return None
        return self.now[1]


def _pyav() -> Any:
    """Return PyAV."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "videos need PyAV, which is not installed; pip install 'nmfuse[video]'", name="av"
        ) from error
    return av


def _open(stack: ExitStack, path: Path) -> Any:
    av = _pyav()
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        file = stack.enter_context(av.open(str(path)))
    except (av.FFmpegError, ValueError) as error:
        raise ValueError(f"{path}: not a readable video ({error})") from error
    if not file.streams.video:
        raise ValueError(f"{path}: has no pictures, only {', '.join(each.type for each in file.streams) or 'nothing'}")
    stream = file.streams.video[0]
    refuse_too_large(path, stream.width * stream.height)
    stream.thread_type = "AUTO"
    return file


def _seconds(file: Any) -> float:
    """Return how long a video is, by its header; 0 where that does not say."""
    stream = file.streams.video[0]
    return float((stream.duration or 0) * (stream.time_base or 0)) or (file.duration or 0) / 1e6


def _period(file: Any) -> float:
    """Return the seconds from one frame to the next, with a tenth more for time stamps that are rounded."""
    rate = file.streams.video[0].average_rate
    return 1.1 / float(rate) if rate else 0.1


def _frames(path: Path, file: Any) -> Iterator[tuple[float, np.ndarray]]:
    """Yield frames with their time, upright."""
    av = _pyav()
    try:
        for frame in file.decode(video=0):
            if frame.time is None:
                raise ValueError(f"{path}: has frames without a time stamp, which cannot be paired")
            components = frame.format.components
            colour, deep = len(components) > 2, max(each.bits for each in components) > _DEEP
            name = ("rgb48le" if deep else "rgb24") if colour else ("gray16le" if deep else "gray")
            pixels = frame.to_ndarray(format=name)
            yield float(frame.time), np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
    except av.FFmpegError as error:
        raise ValueError(f"{path}: breaks off, or cannot be decoded ({error})") from error


def write_video(
    path: str | Path,
    frames: Iterable[tuple[float, np.ndarray]],
    *,
    rate: float | None = None,
    audio: str | Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write a video in H.264; the file is written completely or not at all.

    Parameters
    ----------
    path : str or path
        The file, with the suffix .mp4, .mov or .mkv, in a folder that exists.
    frames : iterable of (float, array)
        The frames, each with its time in seconds, which has to increase. The arrays are uint8 and of one shape, (H, W)
        or (H, W, 3).
    rate : float, optional
        The number of frames a second that is written to the header; the times of the frames are not changed.
    audio : path, optional
        A video whose sound is copied unchanged.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError, FileNotFoundError, PermissionError
        See `nmfuse.io.check_file`.
    ValueError
        For another suffix, no frames, frames of another dtype, or frames of different shapes.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.mp4"
    >>> write_video(path, [(k / 25, np.zeros((32, 48, 3), np.uint8)) for k in range(3)], rate=25)
    >>> video_info(path).frames
    3
    """
    av = _pyav()
    path = Path(path)
    check_video(path, overwrite=overwrite)
    with ExitStack() as stack:
        temporary = stack.enter_context(new_file(path, overwrite=overwrite))
        file = stack.enter_context(av.open(str(temporary), "w"))
        sound = _Sound(stack, file, None if audio is None else Path(audio))
        stream: Any = None
        for seconds, pixels in frames:
            if stream is None:
                stream = _stream(file, pixels, rate)
            if pixels.dtype != np.uint8 or pixels.shape[:2] != (stream.height, stream.width):
                raise ValueError(
                    f"{path}: a frame is {pixels.dtype} of shape {pixels.shape}; expected uint8 of "
                    f"{(stream.height, stream.width)} like the first"
                )
            frame = av.VideoFrame.from_ndarray(pixels, format="gray" if pixels.ndim == 2 else "rgb24")
            frame = frame.reformat(format=stream.pix_fmt, dst_colorspace=_BT709)
            frame.colorspace, frame.color_range = _BT709, _LIMITED
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(seconds / frame.time_base)
            file.mux(stream.encode(frame))
            sound.copy_until(seconds)
        if stream is None:
            raise ValueError(f"{path}: there are no frames to write")
        file.mux(stream.encode(None))
        sound.copy_until(float("inf"))
        file.close()


def check_video(path: str | Path, *, overwrite: bool, sources: Iterable[str | Path] = ()) -> None:
    """Raise an error, before any work is done, if no video can be written to a path; see `nmfuse.io.check_file`."""
    if Path(path).suffix.lower() not in _WRITTEN:
        raise ValueError(f"{path}: is no video that is written here; expected one of {', '.join(_WRITTEN)}")
    check_file(path, overwrite=overwrite, sources=sources)


def _stream(file: Any, pixels: np.ndarray, rate: float | None) -> Any:
    stream = file.add_stream("libx264", rate=Fraction(rate or 25).limit_denominator(1001), options={"crf": "16"})
    stream.height, stream.width = pixels.shape[:2]
    odd = stream.height % 2 or stream.width % 2
    stream.pix_fmt = "yuv444p" if odd else "yuv420p"  # the latter has colours for blocks of two by two alone
    context = stream.codec_context
    context.time_base = Fraction(1, 90000)
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED
    return stream


class _Sound:
    """The sound of another video, copied packet by packet."""

    def __init__(self, stack: ExitStack, file: Any, path: Path | None) -> None:
        self.file = file
        self.packets: Iterator[Any] = iter(())
        if path is None:
            return
        source = _open(stack, path)
        if source.streams.audio:
            self.stream = file.add_stream_from_template(source.streams.audio[0])
            self.packets = source.demux(source.streams.audio[0])

    def copy_until(self, seconds: float) -> None:
        """Copy what is heard up to a time, and the packet that reaches beyond it."""
        for packet in self.packets:
            if packet.dts is None:
                continue
            time = packet.dts * packet.time_base
            packet.stream = self.stream
            self.file.mux(packet)
            if time > seconds:
                return
