"""A picture as text for a terminal: two pixels to a letter, the upper half block in the colours of both."""

from __future__ import annotations

import numpy as np
from PIL import Image as Pillow
from rich.text import Text

from innerworld.report.content import Image
from innerworld.report.image import coloured


def half_blocks(image: Image, columns: int = 64) -> Text:
    """`y x c` → lines of at most `columns` letters, as many pixels wide and half as many lines high."""
    y, x = image.shape[:2]
    width = min(columns, x)
    height = max(2, round(y * width / x / 2) * 2)
    picture = Pillow.fromarray(coloured(image[..., :3])).resize((width, height), Pillow.Resampling.BOX)
    pixels = np.asarray(picture)
    lines = Text(no_wrap=True)
    for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
        for top, bottom in zip(upper, lower, strict=True):
            lines.append("▀", f"rgb({_rgb(top)}) on rgb({_rgb(bottom)})")
        lines.append("\n")
    return lines


def _rgb(colour: list[int]) -> str:
    return ",".join(map(str, colour))
