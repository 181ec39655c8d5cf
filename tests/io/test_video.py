"""Videos: which frames belong together, what is copied, and what is refused; read back by PyAV itself."""

from __future__ import annotations

import re
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from nmfuse.cli import main
from nmfuse.io.video import paired_frames, video_info, write_video

RATE = 8000  # of the sound


def coded(
    path: Path,
    times: list[float],
    values: list[int],
    codec: str = "ffv1",
    pix_fmt: str = "gray",
    size: tuple = (32, 48),
) -> Path:
    """Write a video without losses, each frame of one value, with its own time stamps, by another program's hand."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        for time, value in zip(times, values, strict=True):
            dtype, name = (np.uint16, "gray16le") if "16" in pix_fmt else (np.uint8, "gray")
            frame = av.VideoFrame.from_ndarray(np.full(size, value, dtype), format=name).reformat(format=pix_fmt)
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def with_sound(path: Path, frames: int) -> Path:
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        audio = file.add_stream("aac", rate=RATE, layout="mono")
        for k in range(frames):
            file.mux(video.encode(av.VideoFrame.from_ndarray(np.full((32, 48), 8 * k, np.uint8), format="gray")))
        tone = np.sin(np.arange(RATE * frames // 25) / 5).astype(np.float32)[None]
        for start in range(0, tone.shape[1], 1024):
            frame = av.AudioFrame.from_ndarray(tone[:, start : start + 1024].copy(), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = RATE, start
            file.mux(audio.encode(frame))
        for stream in (video, audio):
            file.mux(stream.encode(None))
    return path


def test_frames_are_paired_by_their_time_stamps(tmp_path: Path) -> None:
    first = coded(tmp_path / "a.mkv", [k / 25 for k in range(20)], list(range(20)))
    slow = coded(tmp_path / "b.mkv", [k / 10 for k in range(9)], [100 + k for k in range(9)])  # of another rate
    uneven = coded(tmp_path / "c.mkv", [0.0, 0.03, 0.31, 0.52, 0.79], [1, 2, 3, 4, 5])
    for moment, k in zip(paired_frames(first, slow), range(20), strict=True):
        assert moment.seconds == pytest.approx(k / 25, abs=2e-3)
        assert [int(x[0, 0]) for x in moment.frames] == [k, 100 + int(0.5 + 10 * k / 25 - 1e-6)]
    times = np.array([0.0, 0.03, 0.31, 0.52, 0.79])
    for moment in paired_frames(first, uneven):
        assert int(moment.frames[1][0, 0]) == 1 + int(np.abs(times - moment.seconds).argmin())


def test_frames_without_a_partner_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = coded(tmp_path / "a.mkv", [k / 25 for k in range(20)], list(range(20)))
    short = coded(tmp_path / "b.mkv", [k / 25 for k in range(10)], list(range(10)))
    assert [int(moment.frames[0][0, 0]) for moment in paired_frames(first, short)] == list(range(11))
    assert "a.mkv: 9 of its frames have no partner in time, and are left out" in caplog.text
    late = coded(tmp_path / "c.mkv", [9 + k / 25 for k in range(3)], [1, 2, 3])
    with pytest.raises(ValueError, match=r"a\.mkv: none of its 20 frames is of a time that the others show"):
        list(paired_frames(first, late))


def test_sixteen_bits_and_colours_are_read_as_they_are(tmp_path: Path) -> None:
    deep = coded(tmp_path / "a.mkv", [0.0, 0.04], [51241, 52181], pix_fmt="gray16le")
    [one, two] = [moment.frames[0] for moment in paired_frames(deep, deep)]
    assert (one.dtype, int(one[3, 4]), int(two[3, 4])) == (np.uint16, 51241, 52181)
    frames = np.random.default_rng(0).integers(60, 190, (3, 4, 6, 3)).repeat(16, 1).repeat(16, 2).astype(np.uint8)
    write_video(tmp_path / "x.mp4", [(k / 25, frame) for k, frame in enumerate(frames)], rate=25)
    for moment, frame in zip(paired_frames(tmp_path / "x.mp4", tmp_path / "x.mp4"), frames, strict=True):
        assert np.abs(moment.frames[0][8::16, 8::16].astype(int) - frame[8::16, 8::16]).max() <= 6  # by its matrix
    with av.open(str(tmp_path / "x.mp4")) as file:
        context = file.streams.video[0].codec_context
        assert (context.colorspace, context.color_range, context.pix_fmt) == (1, 1, "yuv420p")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_sound_and_times_are_kept(tmp_path: Path, suffix: str) -> None:
    a = coded(tmp_path / "a.mkv", [k / 25 for k in range(30)], list(range(30)))
    b = with_sound(tmp_path / "b.mp4", 30)
    main_ok(["video", str(a), str(b), "-o", str(tmp_path / f"f{suffix}"), "--method", "average"])
    with av.open(str(b)) as source, av.open(str(tmp_path / f"f{suffix}")) as file:
        sounds = [[bytes(p) for p in each.demux(audio=0) if p.size] for each in (source, file)]
        assert sounds[0] == sounds[1]
        assert file.streams.audio[0].codec_context.name == "aac"
    with av.open(str(tmp_path / f"f{suffix}")) as file:
        frames = list(file.decode(video=0))
    start = frames[0].time  # of .mkv later than 0, since that has no times below it, and the sound begins before
    assert (start == 0) == (suffix != ".mkv")
    assert [frame.time - start for frame in frames] == pytest.approx([k / 25 for k in range(30)], abs=2e-3)
    values = [frame.to_ndarray(format="gray").mean() for frame in frames]
    assert np.abs(np.array(values) - [(k + 8 * k) / 2 for k in range(30)]).max() < 4
    assert video_info(tmp_path / f"f{suffix}").sound


def main_ok(arguments: list[str]) -> None:
    from unittest import mock

    with mock.patch("sys.argv", ["nmfuse", *arguments]):
        main_exit(0)


def main_exit(code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["a.mkv", "b.mkv", "-o", "f.avi"],
            "f.avi: is no video that is written here; expected one of .mp4, .mov, .mkv",
        ),
        (["a.mkv", "b.mkv", "-o", "a.mkv", "--overwrite"], "a.mkv: is the source a.mkv"),
        (["a.mkv", "none.mkv", "-o", "f.mp4"], "none.mkv: no such file"),
        (["a.mkv", "text.mp4", "-o", "f.mp4"], "text.mp4: not a readable video"),
        (["a.mkv", "b.mkv", "-o", "f.mp4", "--window", "auto"], "--window: auto changes from frame to frame"),
        (["a.mkv", "b.mkv", "-o", "f.mp4"], "b.mkv: size "),  # of unlike size
    ],
)
def test_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    coded(Path("a.mkv"), [0.0, 0.04], [1, 2])
    coded(Path("b.mkv"), [0.0, 0.04], [1, 2], size=(32, 64))
    Path("text.mp4").write_text("no video")
    monkeypatch.setattr("sys.argv", ["nmfuse", "video", *arguments])
    main_exit(1)
    assert re.search(re.escape(message), capsys.readouterr().err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "b.mkv", "text.mp4"]  # nothing is left


def test_a_video_that_breaks_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = with_sound(tmp_path / "a.mp4", 20)
    for share in (0.1, 0.5):
        (tmp_path / "x.mp4").write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
        with pytest.raises(ValueError, match=r"x\.mp4: not a readable video"):
            list(paired_frames(tmp_path / "x.mp4", whole))
    long = coded(tmp_path / "b.mkv", [k / 25 for k in range(40)], list(range(40)), size=(64, 96))
    (tmp_path / "x.mkv").write_bytes(long.read_bytes()[: long.stat().st_size // 2])
    assert 5 < len(list(paired_frames(tmp_path / "x.mkv", long))) < 35
    assert re.search(r"x\.mkv: ends at 0\.\d+ s, but its header says 1\.6\d s: it may be cut off", caplog.text)


def test_write_video_refuses_frames_of_unlike_size_and_leaves_nothing(tmp_path: Path) -> None:
    frames = [(0.0, np.zeros((32, 48), np.uint8)), (0.1, np.zeros((32, 50), np.uint8))]
    with pytest.raises(ValueError, match=r"a frame is uint8 of shape \(32, 50\); expected uint8 of \(32, 48\)"):
        write_video(tmp_path / "x.mp4", frames)
    with pytest.raises(ValueError, match="there are no frames to write"):
        write_video(tmp_path / "x.mp4", [])
    assert not list(tmp_path.iterdir())
    write_video(tmp_path / "odd.mp4", [(0.0, np.full((33, 47), 99, np.uint8))])
    assert next(paired_frames(tmp_path / "odd.mp4", tmp_path / "odd.mp4")).frames[0].shape[:2] == (33, 47)


def test_without_pyav_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"videos need PyAV, which is not installed; pip install 'nmfuse\[video\]'"
    ):
        write_video(tmp_path / "x.mp4", [])
