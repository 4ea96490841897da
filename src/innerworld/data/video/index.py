"""`FrameIndex`: what one pass over a video's packets tells: when each frame is shown and where decoding must begin."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from innerworld.data.video.container import extent_of, open_video
from innerworld.errors import UserError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

MAX_PIXELS = 7680 * 4320
MAX_FRAMES = 10_000_000
"""What a header may declare: a few kilobytes can claim terabytes."""

REMEMBERED = 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """Frames are counted in the order in which they are shown, packets in the order in which they are decoded."""

    path: Path
    codec: str
    size: tuple[int, int]  # y x, as it is shown
    coded: tuple[int, int]  # y x, before it is turned
    turns: int  # quarter turns counter-clockwise, from the file's own metadata
    time_base: Fraction  # seconds of one tick
    pts: np.ndarray  # n     ticks at which frame i is shown, rising
    durations: np.ndarray  # n     ticks, 0 where the file does not say
    keys: np.ndarray  # n     whether frame i is a keyframe
    starts: np.ndarray  # n     the packet at which decoding must begin to get frame i
    packet_pts: np.ndarray  # p
    packet_dts: np.ndarray  # p
    cut: bool  # the end of the file is missing

    def __len__(self) -> int:
        return len(self.pts)

    @cached_property
    def times(self) -> np.ndarray:
        """`n` seconds at which frames are shown, the first at 0."""
        return (self.pts - self.pts[0]) * self.time_base.numerator / self.time_base.denominator

    @cached_property
    def interval(self) -> float:
        """Seconds from one frame to the next: the median."""
        if len(self.pts) > 1:
            return float(np.median(np.diff(self.pts))) * float(self.time_base)
        return float(self.durations[0] * self.time_base)

    @property
    def fps(self) -> float:
        """Frames per second on average; 0 for a single frame whose duration is not known."""
        if len(self.pts) > 1:
            return float((len(self.pts) - 1) / (int(self.pts[-1] - self.pts[0]) * self.time_base))
        return 1 / self.interval if self.interval else 0.0

    @cached_property
    def plain(self) -> bool:
        """Whether every packet is shown and the end is there."""
        return not self.cut and len(self.pts) == len(self.packet_pts)

    def packet_of(self, pts: int) -> int | None:
        """The number of the packet that is shown at `pts`; None if there is none such."""
        at = int(np.searchsorted(self._sorted[0], pts))
        if at < len(self._sorted[0]) and self._sorted[0][at] == pts:
            return int(self._sorted[1][at])
        return None

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(self.packet_pts, kind="stable")
        return self.packet_pts[order], order


def index_of(path: str | Path) -> FrameIndex:
    """Read all packets and decode one frame; remembered until the file changes.

    Raises `UserError` that names the file: no video, a codec that is not allowed (`CODECS`), damage, times that are
    missing or not unique, and more pixels or frames than `MAX_PIXELS` and `MAX_FRAMES`.
    """
    path = Path(path)
    try:
        state = path.stat()
    except OSError as error:
        raise UserError(f"there is no video {path}: {error.strerror}") from error
    return _index(path.absolute(), state.st_mtime_ns, state.st_size)


@lru_cache(REMEMBERED)
def _index(path: Path, changed: int, size: int) -> FrameIndex:
    container, stream = open_video(path)
    with container:
        _check_header(path, stream)
        codec = stream.codec_context.codec.canonical_name
        packets, whole = _packets(path, container, stream, codec)
        cut = not whole or extent_of(path).cut
        shown = _shown(path, packets, cut)
        coded, turns = _first_frame(path, container, stream)
        time_base = stream.time_base
        if time_base is None:
            raise UserError(f"{path} does not say what its times count")
    if cut:
        log.warning("%s: its end is missing; the %d frames before can be read", path, len(shown))
    pts = np.array([packet.pts for packet in packets], np.int64)
    keys = np.array([packet.key for packet in packets], np.bool_)
    return FrameIndex(
        path=path,
        codec=codec,
        size=(coded[1], coded[0]) if turns % 2 else coded,
        coded=coded,
        turns=turns,
        time_base=time_base,
        pts=pts[shown],
        durations=np.array([packet.duration for packet in packets], np.int64)[shown],
        keys=keys[shown],
        starts=_starts(path, pts, keys, shown),
        packet_pts=pts,
        packet_dts=np.array([packet.dts for packet in packets], np.int64),
        cut=cut,
    )


@dataclass(frozen=True)
class _Packet:
    pts: int
    dts: int
    duration: int
    key: bool
    shown: bool


def _check_header(path: Path, stream: VideoStream) -> None:
    y, x = stream.codec_context.height, stream.codec_context.width
    if y < 1 or x < 1 or y * x > MAX_PIXELS:
        raise UserError(f"{path} says that its frames are {x} x {y} pixels: 1 to {MAX_PIXELS:,} are read")
    if stream.frames > MAX_FRAMES:
        raise UserError(f"{path} says that it has {stream.frames:,} frames: {MAX_FRAMES:,} at most are read")


def _packets(path: Path, container: InputContainer, stream: VideoStream, codec: str) -> tuple[list[_Packet], bool]:
    """All packets of the video in decoding order, and whether the last is not followed by damage."""
    from av.error import FFmpegError

    found: list[_Packet] = []
    size = path.stat().st_size
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue  # the end
            if packet.is_corrupt or (packet.pos is not None and packet.pos + packet.size > size):
                return found, False
            if packet.pts is None:
                raise UserError(f"{path}: frame {len(found)} has no time: remux it (ffmpeg -i IN -c copy OUT.mp4)")
            found.append(_read(packet, codec))
            if len(found) > MAX_FRAMES:
                raise UserError(f"{path} has more than {MAX_FRAMES:,} frames, which are not read")
    except FFmpegError:
        return found, False
    return found, stream.frames <= len(found)


def _read(packet: Packet, codec: str) -> _Packet:
    # VP8 has packets of their own for frames that only serve as a reference; a bit in their first byte says so.
    hidden = codec == "vp8" and not bytes(memoryview(packet)[:1])[0] >> 4 & 1
    dts = packet.pts if packet.dts is None else packet.dts
    assert packet.pts is not None and dts is not None
    return _Packet(packet.pts, dts, packet.duration or 0, packet.is_keyframe, not (hidden or packet.is_discard))


def _shown(path: Path, packets: list[_Packet], cut: bool) -> np.ndarray:
    """The packets that are shown, in that order."""
    # Behind a cut, frames are missing that would be shown between those that are left: stop before the first of them.
    end = packets[-1].dts + max(packets[-1].duration, 1) if cut and packets else None
    shown = [i for i, packet in enumerate(packets) if packet.shown and (end is None or packet.pts < end)]
    if not shown:
        raise UserError(f"{path} has no frame that can be read")
    shown.sort(key=lambda i: packets[i].pts)
    pts = np.array([packets[i].pts for i in shown])
    if len(pts) > 1 and np.diff(pts).min() < 1:
        frame = int(np.diff(pts).argmin())
        raise UserError(f"{path}: frames {frame} and {frame + 1} are shown at the same time: recode it")
    return np.array(shown, np.int64)


def _starts(path: Path, pts: np.ndarray, keys: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """For each frame the last keyframe that is decoded and shown no later than it: `n`.

    A frame may be decoded after a keyframe that is shown later, and needs the one before (an open group of pictures).
    """
    places = np.flatnonzero(keys)  # k   rising in decoding order
    if not len(places) or places[0] > shown.min() or pts[places[0]] > pts[shown].min():
        raise UserError(f"{path} does not begin with a keyframe: recode it")
    # Keyframes are shown in the order in which they are decoded.
    at = np.searchsorted(pts[places], pts[shown], side="right") - 1
    return places[np.minimum(at, np.searchsorted(places, shown, side="right") - 1)]


def _first_frame(path: Path, container: InputContainer, stream: VideoStream) -> tuple[tuple[int, int], int]:
    """The size of the frames `y x` as they are coded, and how they must be turned."""
    from av.error import FFmpegError

    try:
        container.seek(0)
        frame = next(container.decode(stream), None)
    except FFmpegError as error:
        raise UserError(f"{path}: its first frame cannot be decoded") from error
    if frame is None:
        raise UserError(f"{path} has no frame that can be decoded")
    if frame.rotation % 90:
        raise UserError(f"{path} is turned by {frame.rotation} degrees: quarter turns are read")
    if frame.height * frame.width > MAX_PIXELS:
        raise UserError(f"{path} has frames of {frame.width} x {frame.height} pixels: up to {MAX_PIXELS:,} are read")
    return (frame.height, frame.width), frame.rotation // 90 % 4
