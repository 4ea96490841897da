"""A picture in letters keeps its colours and its proportions."""

from __future__ import annotations

import numpy as np
from rich.console import Console

from innerworld.report.half_blocks import half_blocks


def test_two_pixels_are_one_letter() -> None:
    picture = np.zeros((4, 3, 3), np.uint8)
    picture[0] = (255, 0, 0)
    picture[1] = (0, 0, 255)
    text = half_blocks(picture)
    assert text.plain == "▀▀▀\n▀▀▀\n"
    assert str(text.spans[0].style) == "rgb(255,0,0) on rgb(0,0,255)"
    assert str(text.spans[-1].style) == "rgb(0,0,0) on rgb(0,0,0)"


def test_a_wide_grey_picture_is_shrunk_to_fit() -> None:
    text = half_blocks(np.full((40, 80, 1), 200, np.uint8), columns=20)
    lines = text.plain.splitlines()
    assert len(lines) == 5 and {len(line) for line in lines} == {20}
    console = Console(color_system="truecolor", force_terminal=True, width=30)
    with console.capture() as captured:
        console.print(text)
    assert "38;2;200;200;200;48;2;200;200;200" in captured.get()
