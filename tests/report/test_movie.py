"""Movies: what comes out of the file is what went in, frame for frame and pixel for pixel."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image as Pillow

from innerworld.errors import UserError
from innerworld.report.content import Movie
from innerworld.report.movie import FRAME_MS, GAP, LAST_MS, MOST_BYTES, compose, draw, encode, stills


def test_the_file_holds_every_frame_exactly() -> None:
    left, right = frames(7, 8, 10, 3), frames(7, 8, 10, 1)
    html, exact = draw(Movie("m", [("real", left), ("imagined", right)]))
    file = re.search(r"data:image/webp;base64,([^\"]+)", html)
    assert exact and file
    with Pillow.open(io.BytesIO(base64.b64decode(file[1]))) as movie:
        assert movie.format == "WEBP" and movie.n_frames == 7 and movie.info["loop"] == 0  # type: ignore[attr-defined]
        for t in range(7):
            movie.seek(t)
            shown = np.asarray(movie.convert("RGB"))
            movie.load()
            assert movie.info["duration"] == (LAST_MS if t == 6 else FRAME_MS)
            # 30 times enlarged: the middle of each square is the pixel
            y, x = GAP + 30 * np.arange(8) + 15, GAP + 30 * np.arange(10) + 15
            np.testing.assert_array_equal(shown[np.ix_(y, x)], left[t])
            np.testing.assert_array_equal(shown[np.ix_(y, x + 300 + GAP)], np.repeat(right[t], 3, axis=-1))
    assert f'width="{shown.shape[1]}" height="{shown.shape[0]}"' in html


@pytest.mark.parametrize(
    ("side", "panels", "factor"), [(64, 1, 6), (64, 2, 4), (64, 3, 3), (96, 3, 2), (8, 1, 48), (700, 2, 1)]
)
def test_panels_are_enlarged_by_a_whole_number(side: int, panels: int, factor: int) -> None:
    (frame,) = compose(Movie("m", [("p", np.zeros((1, side, side, 3), np.uint8))] * panels))
    assert frame.shape[1] == panels * (factor * side + GAP) + GAP


def test_the_step_is_shown() -> None:
    still = np.repeat(frames(1, 16, 16, 3), 3, axis=0)
    a, b, c = compose(Movie("m", [("p", still)]))
    top = GAP + 24 * 16
    np.testing.assert_array_equal(a[:top], c[:top])
    assert (a[top:] != b[top:]).any() and (b[top:] != c[top:]).any()


def test_a_movie_that_would_be_large_becomes_smaller_but_not_different() -> None:
    composed = compose(Movie("m", [("p", frames(16, 64, 64, 3))]))
    file, exact = encode(composed)
    assert not exact
    with Pillow.open(io.BytesIO(file)) as lossy:
        assert lossy.n_frames == 16  # type: ignore[attr-defined]
        difference = np.abs(np.asarray(lossy.convert("RGB"), int) - composed[0])
    assert 0 < difference.mean() < 20  # uniform noise is the worst there is


def test_a_movie_of_flat_colours_is_exact_and_small() -> None:
    panel = np.zeros((20, 64, 64, 3), np.uint8)
    for t in range(20):
        panel[t, 20:26, 2 * t : 2 * t + 6] = (240, 90, 60)
    file, exact = encode(compose(Movie("m", [("real", panel), ("imagined", panel)])))
    assert exact and len(file) < MOST_BYTES / 5


def test_stills_are_exact_and_include_both_ends() -> None:
    panel = frames(20, 8, 8, 3)
    sheet = stills(Movie("m", [("<real>", panel)]))
    assert "Stills at steps 0, 4, 8, 11, 15, 19" in sheet and "&lt;real&gt;" in sheet
    found = [base64.b64decode(text) for text in re.findall(r"data:image/png;base64,([^\"]+)", sheet)]
    for file, t in zip(found, (0, 4, 8, 11, 15, 19), strict=True):
        np.testing.assert_array_equal(np.asarray(Pillow.open(io.BytesIO(file))), panel[t])


@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (2, 300, 2, 1)])
def test_a_movie_of_one_frame_and_a_narrow_one(shape: tuple[int, ...]) -> None:
    html, exact = draw(Movie("m", [("p", frames(*shape))]))
    assert exact and "data:image/webp" in html


@pytest.mark.parametrize(
    ("panels", "words"),
    [
        ([], "no panel"),
        ([("p", np.zeros((2, 8, 8), np.uint8))], r"expected \(t, y, x, c\)"),
        ([("p", np.zeros((0, 8, 8, 3), np.uint8))], "none of them 0"),
        ([("p", np.zeros((2, 8, 8, 3), np.float32))], "expected uint8"),
        ([("p", np.zeros((2, 8, 8, 4), np.uint8))], "4 channels"),
        ([("p", np.zeros((2, 8, 8, 3), np.uint8)), ("q", np.zeros((3, 8, 8, 3), np.uint8))], "panel 'q': t, y, x"),
    ],
)
def test_wrong_panels_are_refused(panels: list, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Movie("m", panels)


def frames(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
