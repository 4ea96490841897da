"""Films whose every frame carries its own number, as black and white bars that compression cannot blur."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

BITS = 8


def burn(number: int, y: int = 64, x: int = 128) -> np.ndarray:
    """A frame `y x c` that says its number: one bar for each bit."""
    bars = np.array([(number >> bit & 1) * 190 + 30 for bit in range(BITS)], np.uint8)
    row = bars[np.arange(x) * BITS // x]
    return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (y, x, 3)))


def number_in(frame: np.ndarray) -> int:
    middles = (2 * np.arange(BITS) + 1) * frame.shape[1] // (2 * BITS)
    return int(sum(1 << bit for bit, at in enumerate(middles) if frame[:, at - 2 : at + 3].mean() > 125))


def film(
    path: Path,
    frames: int = 40,
    encoder: str = "libx264",
    rate: Fraction | int = 30,
    size: tuple[int, int] = (64, 128),
    pix_fmt: str = "yuv420p",
    gop: int = 16,
    times: Iterable[int] | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    shift: int = 0,
    turn: int = 0,
    sound: bool = False,
) -> Path:
    """Write one. `times` are in units of 1/rate; `shift` is added to all times only after encoding."""
    import av

    with av.open(str(path), "w", options=container or {}) as out:
        stream = out.add_stream(encoder, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], pix_fmt
        stream.time_base = 1 / Fraction(rate)
        stream.codec_context.gop_size = gop
        if turn:
            stream.set_display_rotation(turn)
        noise = out.add_stream("aac", rate=16000) if sound else None
        for i, at in zip(range(frames), times or range(frames), strict=False):
            picture = av.VideoFrame.from_ndarray(burn(i, *size), format="rgb24")
            picture.pts, picture.time_base = at, 1 / Fraction(rate)
            _mux(out, stream.encode(picture), shift, rate)
            if noise is not None:
                sample = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                sample.sample_rate, sample.pts = 16000, 1024 * i
                out.mux(noise.encode(sample))
        _mux(out, stream.encode(None), shift, rate)
    return path


def _mux(out, packets, shift: int, rate: Fraction | int) -> None:
    for packet in packets:
        ticks = int(shift / Fraction(rate) / packet.time_base)
        packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
        out.mux(packet)


@pytest.fixture
def make_film(tmp_path: Path) -> Callable[..., Path]:
    pytest.importorskip("av")
    return lambda name="film.mp4", **how: film(tmp_path / name, **how)


@pytest.fixture
def numbers() -> Callable[[np.ndarray], list[int]]:
    """What the frames `t y x c` say that they are."""
    return lambda frames: [number_in(frame) for frame in frames]


@pytest.fixture
def burned() -> Callable[..., np.ndarray]:
    return burn


@pytest.fixture(params=["av", "torchcodec"])
def decoder(request: pytest.FixtureRequest) -> str:
    """Each way to decode that works here."""
    if request.param == "torchcodec":
        from innerworld.data.video import backend

        if backend().name != "torchcodec":
            pytest.skip(backend().why)
    return request.param
