"""Every frame carries its number: what is asked for is what must come."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from innerworld.data.video import Video
from innerworld.errors import UserError

Make = Callable[..., Path]
Numbers = Callable[[np.ndarray], list[int]]

KINDS = {
    "h264 g=2 with B-frames": {"gop": 2, "options": {"bf": "1", "x264-params": "scenecut=0"}},
    "h264 g=16 with B-frames": {"gop": 16, "options": {"bf": "3", "x264-params": "scenecut=0:b-pyramid=2"}},
    "h264 g=250 with B-frames": {"gop": 250, "options": {"bf": "3"}},
    "h264 open groups": {"gop": 8, "options": {"x264-params": "open-gop=1:bframes=3:scenecut=0:keyint=8:min-keyint=8"}},
    "h264 fragmented": {"gop": 8, "container": {"movflags": "frag_keyframe+empty_moov"}},
    "h264 29.97 fps": {"rate": Fraction(30000, 1001)},
    "h264 10 bit": {"encoder": "libx264", "pix_fmt": "yuv420p10le"},
    "h264 444": {"pix_fmt": "yuv444p"},
    "h264 odd size": {"size": (63, 129), "pix_fmt": "yuv444p"},
    "h264 with sound": {"sound": True, "container": {"movflags": "frag_keyframe+empty_moov"}},
    "h264 with sound in mkv": {"sound": True, "name": "film.mkv"},
    "h264 starts late": {"shift": 7},
    "h264 starts late in mkv": {"shift": 7, "name": "film.mkv"},
    "hevc": {"encoder": "libx265", "options": {"x265-params": "log-level=none:keyint=8"}},
    "av1": {"encoder": "libsvtav1", "gop": 8, "options": {"preset": "10"}},
    "vp9": {"encoder": "libvpx-vp9", "name": "film.webm", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "vp8 with hidden frames": {
        "encoder": "libvpx",
        "name": "film.webm",
        "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "crf": "10", "b": "1M"},
    },
    "mjpeg": {"encoder": "mjpeg", "pix_fmt": "yuvj420p"},
    "mpeg4": {"encoder": "mpeg4", "options": {"bf": "2", "q": "3"}},
    "mpeg4 in avi": {"encoder": "mpeg4", "name": "film.avi"},
    "ffv1": {"encoder": "ffv1", "pix_fmt": "yuv420p", "name": "film.mkv"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_those_asked_for(make_film: Make, numbers: Numbers, decoder: str, kind: str) -> None:
    os.environ["SVT_LOG"] = "1"
    how = dict(KINDS[kind])
    video = Video(make_film(frames=40, **how), decoder)
    assert len(video) == 40 and not video.index.cut
    assert numbers(video.frames()) == list(range(40))
    rng = np.random.default_rng(0)
    for _ in range(6):
        asked = rng.integers(0, 40, 5)
        assert numbers(video.frames(asked)) == asked.tolist()
    for number in (39, 0, 38, 17, 16, 15, 16):
        assert numbers(video.frames([number])) == [number]
    assert numbers(video.frames(slice(3, 30, 5))) == list(range(3, 30, 5))


def test_both_backends_see_the_same(make_film: Make, decoder: str) -> None:
    path = make_film(gop=8)
    assert np.abs(Video(path, decoder).frames().astype(int) - Video(path, "av").frames()).max() <= 2


def test_variable_rate_by_time(make_film: Make, numbers: Numbers, decoder: str) -> None:
    times = np.cumsum([0, *np.random.default_rng(0).integers(1, 6, 39)])
    video = Video(make_film(frames=40, times=times.tolist(), rate=100), decoder)
    assert np.allclose(video.times, times / 100)
    assert numbers(video.at(video.times[::-1])) == list(range(40))[::-1]
    between = (video.times[10] + video.times[11]) / 2
    assert numbers(video.at([between - 1e-4, between + 1e-4], tolerance=1)) == [10, 11]


def test_time_is_counted_from_the_first_frame_and_half_a_frame_is_near(make_film: Make, numbers: Numbers) -> None:
    video = Video(make_film(frames=10, shift=5), "av")
    assert numbers(video.at(np.arange(10) / 30 + 0.4 / 30)) == list(range(10))
    assert video.fps == pytest.approx(30)
    for wrong in (-0.6 / 30, 9.6 / 30, np.nan):
        with pytest.raises(UserError, match=r"film\.mp4 has no frame within"):
            video.at([0.0, wrong])


def test_a_missing_frame_is_not_replaced_by_another(make_film: Make) -> None:
    video = Video(make_film(frames=9, times=[0, 1, 2, 3, 7, 8, 9, 10, 11]), "av")
    with pytest.raises(UserError, match="no frame within"):
        video.at([5 / 30])


@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "2"}])
def test_what_an_edit_list_hides_is_not_counted(
    make_film: Make, numbers: Numbers, decoder: str, options: dict[str, str]
) -> None:
    path = make_film(frames=30, gop=8, shift=-5, options=options, container={"avoid_negative_ts": "disabled"})
    video = Video(path, decoder)
    assert numbers(video.frames()) == list(range(5, 30))
    assert numbers(video.frames([20, 3, 0, 24])) == [25, 8, 5, 29]


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_film_is_turned_back(make_film: Make, numbers: Numbers, decoder: str, turn: int) -> None:
    video = Video(make_film(frames=6, turn=turn), decoder)
    frames = video.frames()
    assert frames.shape[1:3] == video.size == ((64, 128) if turn == 180 else (128, 64))
    straight = np.stack([np.rot90(frame, -turn // 90) for frame in frames])
    assert numbers(straight) == list(range(6))


def test_a_fragmented_film_is_readable_up_to_any_cut(make_film: Make, numbers: Numbers, tmp_path: Path) -> None:
    whole = make_film(gop=8, options={"bf": "2"}, container={"movflags": "frag_keyframe+empty_moov"}).read_bytes()
    first = whole.index(b"moof")
    counts = []
    for at in np.linspace(first + 200, len(whole) - 1, 25).astype(int):
        path = tmp_path / f"cut{at}.mp4"
        path.write_bytes(whole[:at])
        try:
            video = Video(path, "av")
        except UserError as error:
            assert "no frame that can be read" in str(error) or "cannot be" in str(error)
            counts.append(0)
            continue
        assert video.index.cut or len(video) % 8 == 0
        assert numbers(video.frames()) == list(range(len(video)))
        counts.append(len(video))
    assert counts == sorted(counts) and counts[-1] >= 32 and counts[0] <= 8


def test_a_cut_copy_of_a_plain_film(make_film: Make, numbers: Numbers, tmp_path: Path, decoder: str) -> None:
    plain = make_film().read_bytes()
    (tmp_path / "cut.mp4").write_bytes(plain[: len(plain) * 2 // 3])
    with pytest.raises(UserError, match=r"cut\.mp4 cannot be opened as a video: its end is missing"):
        Video(tmp_path / "cut.mp4")
    front = make_film(name="front.mp4", container={"movflags": "faststart"}, options={"bf": "2"}).read_bytes()
    (tmp_path / "front.mp4").write_bytes(front[: len(front) * 3 // 4])
    video = Video(tmp_path / "front.mp4", decoder)
    assert video.index.cut and 5 < len(video) < 40
    assert numbers(video.frames()) == list(range(len(video)))


def test_a_cut_mkv_is_readable(make_film: Make, numbers: Numbers, tmp_path: Path) -> None:
    whole = make_film(name="film.mkv", options={"bf": "2"}).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 3 // 5])
    video = Video(tmp_path / "cut.mkv", "av")
    assert video.index.cut and 3 < len(video) < 40
    assert numbers(video.frames()) == list(range(len(video)))


def test_damage_in_the_middle_is_an_error_that_names_the_frame(make_film: Make, tmp_path: Path) -> None:
    data = bytearray(make_film(frames=40, gop=8).read_bytes())
    start = data.index(b"mdat") + len(data) // 3
    data[start : start + 200] = b"\xff" * 200
    path = tmp_path / "bad.mp4"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"bad\.mp4.*frame \d+"):
        Video(path, "av").frames()


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + b"x" * 500, b"#EXTM3U\nfile:///etc/hostname\n" * 9])
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("av")
    (tmp_path / "film.mp4").write_bytes(content)
    with pytest.raises(UserError, match=r"film\.mp4 cannot be opened as a video"):
        Video(tmp_path / "film.mp4")
    with pytest.raises(UserError, match="there is no video"):
        Video(tmp_path / "none.mp4")


def test_a_codec_off_the_list_is_refused(make_film: Make) -> None:
    with pytest.raises(UserError, match=r"film\.avi is coded as huffyuv, which is not read"):
        Video(make_film(name="film.avi", encoder="huffyuv", pix_fmt="rgb24"))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "film.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=16000)
        sample = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sample.sample_rate = 16000
        out.mux(stream.encode(sample))
        out.mux(stream.encode(None))
    with pytest.raises(UserError, match="has no video in it"):
        Video(tmp_path / "film.mp4")


def test_a_header_may_not_ask_for_too_much(make_film: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("innerworld.data.video.index.MAX_PIXELS", 64 * 127)
    with pytest.raises(UserError, match="128 x 64 pixels"):
        Video(make_film(name="large.mp4"))
    monkeypatch.setattr("innerworld.data.video.index.MAX_PIXELS", 64 * 128)
    monkeypatch.setattr("innerworld.data.video.index.MAX_FRAMES", 39)
    with pytest.raises(UserError, match="40 frames"):
        Video(make_film(name="long.mp4"))


def test_wrong_numbers_are_refused(make_film: Make) -> None:
    video = Video(make_film(frames=5), "av")
    assert video.frames([]).shape == (0, 64, 128, 3)
    for wrong in ([5], [-1], [0.5], [[1]]):
        with pytest.raises(UserError, match="frame"):
            video.frames(wrong)
    with pytest.raises(UserError, match="unknown video backend 'avv'"):
        Video(video.path, "avv")


def test_a_file_that_changed_is_read_anew(make_film: Make, numbers: Numbers, tmp_path: Path) -> None:
    path = make_film(frames=10)
    assert len(Video(path, "av").frames()) == 10
    shutil.copy(make_film(name="other.mp4", frames=12), path)
    assert numbers(Video(path, "av").frames([11])) == [11]


def test_few_decoders_stay_open(make_film: Make, numbers: Numbers, monkeypatch: pytest.MonkeyPatch) -> None:
    from innerworld.data.video import video as module

    monkeypatch.setattr(module, "OPEN_DECODERS", 2)
    videos = [Video(make_film(name=f"{i}.mp4", frames=6), "av") for i in range(4)]
    for _ in range(2):
        for video in videos:
            assert numbers(video.frames([5, 1])) == [5, 1]
    assert len(module._decoders._open) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_reads_on_its_own(make_film: Make, numbers: Numbers) -> None:
    import multiprocessing

    video = Video(make_film(frames=40, gop=4), "av")
    video.frames([7])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert numbers(pool.apply(video.frames, ([30, 5],))) == [30, 5]
    child = os.fork()
    if not child:
        os._exit(0 if numbers(video.frames([30, 8])) == [30, 8] else 1)
    assert numbers(video.frames([8, 9, 20])) == [8, 9, 20]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
