"""Arrays of pixels as files, and files as text: enlarged without smoothing, encoded, as `data:` addresses."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence

import numpy as np
from PIL import Image as Pillow

from innerworld.report.content import Image


def enlarge(image: Image, factor: int) -> Image:
    """Each pixel as a square of `factor` by `factor`: `... y x c`."""
    return np.repeat(np.repeat(image, factor, axis=-3), factor, axis=-2)


def coloured(image: Image) -> Image:
    """Three channels, whether there were one or three."""
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def png(image: Image) -> bytes:
    """`y x c` → a PNG file."""
    file = io.BytesIO()
    Pillow.fromarray(coloured(image)).save(file, "PNG", optimize=True)
    return file.getvalue()


def webp(frames: Sequence[Image], times_ms: Sequence[int], lossless: bool) -> bytes:
    """Frames `y x 3` and how long each stays → an animated WebP file that plays for ever."""
    first, *rest = (Pillow.fromarray(frame) for frame in frames)
    file = io.BytesIO()
    first.save(
        file,
        "WEBP",
        save_all=True,
        append_images=rest,
        duration=list(times_ms) if rest else times_ms[0],
        loop=0,
        lossless=lossless,
        quality=30 if lossless else 90,  # lossless: how hard to search for a small file; else that of the picture
        method=2,
    )
    return file.getvalue()


def address(file: bytes, kind: str) -> str:
    """`data:image/<kind>;base64,...`"""
    return f"data:image/{kind};base64,{b64encode(file).decode('ascii')}"
