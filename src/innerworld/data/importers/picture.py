"""Encoded pictures (JPEG, PNG) to bytes, through Pillow, and no larger than they may be."""

from __future__ import annotations

import io
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from innerworld.errors import UserError

FORMATS = ("JPEG", "PNG")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
MOST_PIXELS = 100_000_000
PNG = b"\x89PNG\r\n\x1a\n"


def decode(raw: bytes | Path, channels: int = 3, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """A picture as `y x c` bytes. Raises `UserError` for damage, another format and more pixels than `most_pixels`."""
    try:
        data = raw if isinstance(raw, bytes) else raw.read_bytes()
        if data.startswith(PNG):
            _check_png(data)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
                if opened.width * opened.height > most_pixels:
                    raise UserError(f"a picture is {opened.width} x {opened.height} pixels: damaged, or too large")
                value = np.asarray(opened.convert(MODES[channels]))
    except UserError:
        raise
    except Exception as error:  # every decoder has errors of its own
        raise UserError(f"a picture cannot be read: {error}") from error
    return value if value.ndim == 3 else value[..., None]


def _check_png(data: bytes) -> None:
    """Compare the checksum of every chunk, which Pillow does not do for those that hold the pixels."""
    at = len(PNG)
    while data[at + 4 : at + 8] != b"IEND":
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data) or zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise UserError(f"a picture is truncated or corrupt at byte {at}")
        at = end + 4
