"""A `Movie` as one animated WebP, and as stills for paper and for readers who want no motion.

WebP rather than GIF: GIF has 256 colours a frame, so it would dither, and dithering looks like an error of the model;
on noisy predictions it is three times as large, too. Every browser since 2020 plays WebP. It is lossless unless that
takes too much room, which the page then says.
"""

from __future__ import annotations

from html import escape

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from innerworld.report.content import Image, Movie
from innerworld.report.image import address, coloured, enlarge, png, webp

FRAME_MS = 167  # six frames a second
LAST_MS = 1500  # the end stays, so that one can compare it
WIDEST = 600  # pixels that the panels may take together
LARGEST = 384  # pixels that the longer side of a panel may take
GAP = 8  # pixels around the panels
MOST_BYTES = 150_000  # of a lossless file; eight movies then fit into a page of 3 MB
STILLS = 6  # at most
FILM, INK, FAINT = (20, 23, 28), (214, 219, 226), (66, 72, 82)  # it looks the same on a light and on a dark page


def draw(movie: Movie) -> tuple[str, bool]:
    """The movie below the titles of its panels as HTML, and whether every pixel is exact."""
    frames = compose(movie)
    titles = "".join(f"<span>{escape(title)}</span>" for title, _ in movie.panels)
    steps = len(frames) - 1
    alt = f"Moving picture, steps 0 to {steps}, side by side: {', '.join(title for title, _ in movie.panels)}."
    y, x = frames[0].shape[:2]
    file, exact = encode(frames)
    moving = (
        f'<div class="moving" style="max-width:{x}px">'
        f'<div class="titles" style="--panels:{len(movie.panels)}" aria-hidden="true">{titles}</div>'
        f'<img src="{address(file, "webp")}" width="{x}" height="{y}" alt="{escape(alt)}"></div>'
    )
    return moving, exact


def compose(movie: Movie) -> list[Image]:
    """Each frame as it will be seen, `y x 3`: the panels enlarged side by side, the step and a bar of time below."""
    t, y, x = movie.panels[0][1].shape[:3]
    n = len(movie.panels)
    factor = max(1, min(WIDEST // (n * x), LARGEST // max(y, x)))
    width = n * (factor * x + GAP) + GAP
    text = max(13, width // 26)
    height = factor * y + 2 * GAP + text + GAP
    font = ImageFont.load_default(text)
    frames = []
    for step in range(t):
        frame = np.full((height, width, 3), FILM, np.uint8)
        for i, (_, panel) in enumerate(movie.panels):
            left = GAP + i * (factor * x + GAP)
            frame[GAP : GAP + factor * y, left : left + factor * x] = coloured(enlarge(panel[step], factor))
        frames.append(_count(frame, step, t, font, text))
    return frames


def encode(frames: list[Image]) -> tuple[bytes, bool]:
    """Frames `y x 3` → an animated WebP at six a second, the last one held; and whether every pixel is exact."""
    times_ms = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
    exact = webp(frames, times_ms, lossless=True)
    if len(exact) <= MOST_BYTES:
        return exact, True
    return webp(frames, times_ms, lossless=False), False


def stills(movie: Movie) -> str:
    """At most six moments, a row for each panel, as SVG with the steps named."""
    t, y, x = movie.panels[0][1].shape[:3]
    steps = np.unique(np.linspace(0, t - 1, min(t, STILLS)).round().astype(int)).tolist()
    gap, text = 0.04 * x, 0.19 * x
    row, column, head = y + gap + 1.6 * text, x + gap, 1.4 * text
    width, height = len(steps) * column - gap, head + len(movie.panels) * row
    sheet = [f'<svg class="stills" viewBox="0 0 {width:.2f} {height:.2f}" role="img" font-size="{text:.2f}"']
    sheet.append(f' aria-label="Stills at steps {", ".join(map(str, steps))}">')
    for j, step in enumerate(steps):
        label = f"step {step}" if j == 0 else str(step)
        sheet.append(f'<text x="{j * column + x / 2:.2f}" y="{text:.2f}" text-anchor="middle">{label}</text>')
    for i, (title, panel) in enumerate(movie.panels):
        top = head + i * row
        for j, step in enumerate(steps):
            source = address(png(panel[step]), "png")
            place = f'x="{j * column:.2f}" y="{top:.2f}" width="{x}" height="{y}"'
            sheet.append(f'<image {place} href="{source}"/>')
        sheet.append(f'<text x="0" y="{top + y + 1.15 * text:.2f}">{escape(title)}</text>')
    return "".join(sheet) + "</svg>"


def _count(frame: Image, step: int, t: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: int) -> Image:
    """The number of the step and a bar that fills, drawn below the panels."""
    picture = Pillow.fromarray(frame)
    pen = ImageDraw.Draw(picture)
    height, width = frame.shape[:2]
    middle = height - GAP - text / 2
    pen.text((GAP, middle), f"step {step}", fill=INK, font=font, anchor="lm")
    left = GAP + pen.textlength(f"step {'0' * len(str(t - 1))}", font=font) + 2 * GAP
    right = width - GAP - 1
    if right <= left:
        return np.asarray(picture)  # no room for a bar beside the number
    pen.rectangle((left, middle - 2, right, middle + 1), fill=FAINT)
    if step:
        pen.rectangle((left, middle - 2, left + (right - left) * step / (t - 1), middle + 1), fill=INK)
    return np.asarray(picture)
