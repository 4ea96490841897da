"""What is written can be read: exactly, in colour, and after a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerworld.data.video import Video, VideoWriter
from innerworld.errors import UserError

pytest.importorskip("av")


def _scene(t: int, y: int, x: int) -> np.ndarray:
    """Colours that move: `t y x c`."""
    at = np.stack(np.meshgrid(np.arange(t), np.arange(y), np.arange(x), indexing="ij"), -1).astype(float)
    waves = [np.sin(at @ np.array(way) / 15.0) for way in ((1, 1, 0.5), (0.5, -1, 1), (1, 0.3, -1))]
    return ((np.stack(waves, -1) + 1) * 127).astype(np.uint8)


@pytest.mark.parametrize(
    ("codec", "size", "worst"),
    [("h264", (64, 64), 4.0), ("h264", (65, 97), 4.0), ("h264", (120, 160), 4.0), ("av1", (96, 96), 5.0)],
)
def test_frames_come_back_within_the_error_of_the_codec(
    tmp_path: Path, codec: str, size: tuple[int, int], worst: float
) -> None:
    scene = _scene(20, *size)
    with VideoWriter(tmp_path / "film.mp4", 29.97, codec) as writer:
        for frame in scene:
            writer.add(frame)
    video = Video(tmp_path / "film.mp4", "av")
    assert len(video) == 20 and not video.index.cut
    assert video.fps == pytest.approx(29.97, rel=1e-4)
    assert video.index.pts[0] == 0  # LeRobot's reader takes times as they are
    assert np.abs(video.frames().astype(int) - scene).mean() < worst


@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_is_exact(tmp_path: Path, decoder: str, channels: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 47, 33, channels), np.uint8)
    with VideoWriter(tmp_path / "film.mp4", 10, "lossless") as writer:
        for frame in noise:
            writer.add(frame)
    assert np.array_equal(Video(tmp_path / "film.mp4", decoder).frames(), np.broadcast_to(noise, (20, 47, 33, 3)))


def test_keyframes_are_where_asked(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "film.mp4", 30, gop=5) as writer:
        for frame in _scene(20, 64, 64):
            writer.add(frame)
    assert np.flatnonzero(Video(tmp_path / "film.mp4", "av").index.keys).tolist() == [0, 5, 10, 15]


KILLED = """
import sys, time
sys.path.insert(0, sys.argv[2])
from conftest import burn
from innerworld.data.video import VideoWriter
writer = VideoWriter(sys.argv[1], 30, gop=4)
for i in range(200):
    writer.add(burn(i))
    print(i, flush=True)
time.sleep(60)
"""


def test_a_killed_writer_leaves_a_film(
    tmp_path: Path, numbers: Callable[[np.ndarray], list[int]], begin: Callable[..., Any]
) -> None:
    path = tmp_path / "film.mp4"
    child = begin(KILLED, path, Path(__file__).parent)
    while int(child.output.readline()) < 150:
        continue
    child.kill()
    child.end()
    video = Video(path, "av")
    assert numbers(video.frames()) == list(range(len(video)))
    assert len(video) > 120


def test_wrong_settings_and_frames_are_refused(tmp_path: Path) -> None:
    for wrong in ({"fps": 0}, {"fps": 30, "gop": 0}, {"fps": 30, "codec": "h265"}):
        with pytest.raises(UserError):
            VideoWriter(tmp_path / "film.mp4", **wrong)
    with pytest.raises(UserError, match="AV1 wants even sizes"), VideoWriter(tmp_path / "a.mp4", 30, "av1") as writer:
        writer.add(np.zeros((63, 64, 3), np.uint8))
    with pytest.raises(UserError, match="at least one frame"), VideoWriter(tmp_path / "b.mp4", 30):
        pass
    with pytest.raises(UserError, match="the first had"), VideoWriter(tmp_path / "c.mp4", 30) as writer:
        writer.add(np.zeros((64, 64, 3), np.uint8))
        writer.add(np.zeros((64, 65, 3), np.uint8))
    with pytest.raises(UserError, match="cannot write"), VideoWriter(tmp_path / "none" / "d.mp4", 30) as writer:
        writer.add(np.zeros((64, 64, 3), np.uint8))
