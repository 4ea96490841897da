"""`backend`: what decodes video here, chosen once, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec

from innerworld.data.video.decoders import AvDecoder, Decoder, TorchDecoder
from innerworld.data.video.index import FrameIndex
from innerworld.errors import UserError

DECODERS: dict[str, Callable[[FrameIndex], Decoder]] = {"torchcodec": TorchDecoder, "av": AvDecoder}


@dataclass(frozen=True)
class Backend:
    """Which of `DECODERS`, its version, and why this one."""

    name: str
    version: str
    why: str


@lru_cache(1)
def backend() -> Backend:
    """TorchCodec where it works, else PyAV. Raises `UserError` if neither is here.

    TorchCodec needs PyAV beside it, which reads the index of a file.
    """
    if find_spec("av") is None:
        raise UserError('no video can be read here: pip install "innerworld[data]"')
    if find_spec("torchcodec") is None:
        why = 'TorchCodec is not installed: pip install "innerworld[fast]"'
        return Backend("av", version("av"), why)
    try:
        import torchcodec.decoders  # noqa: F401  # pyright: ignore[reportMissingImports]  (an extra)
    except (ImportError, OSError, RuntimeError) as error:
        # It is built for one release of torch, and looks for FFmpeg's libraries, which it does not bring.
        return Backend("av", version("av"), f"TorchCodec {version('torchcodec')} does not load: {_why(error)}")
    return Backend("torchcodec", version("torchcodec"), "it loads, with FFmpeg's libraries")


def _why(error: Exception) -> str:
    text = str(error)
    if "FFmpeg" in text:
        return "it fits another release of torch, or FFmpeg's libraries are missing (apt-get install ffmpeg)"
    return text.partition("\n")[0]
