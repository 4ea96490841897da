"""Pictures: the way drawn over the image lies where the points say, and the image itself is untouched."""

from __future__ import annotations

import base64
import io
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image as Pillow

from innerworld.errors import UserError
from innerworld.report.content import Picture
from innerworld.report.picture import draw

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)


def test_paths_and_marks_are_in_the_pixels_of_the_image() -> None:
    picture = Picture("c", IMAGE, [("walked", np.array([[1, 2], [30.5, 20]]))], [("goal", (60, 30))])
    root = svg(picture)
    assert root.get("viewBox") == "0 0 64 32"
    assert [path.get("d") for path in root.findall("g[@class='way o0']/path")] == ["M1.00 2.00L30.50 20.00"] * 2
    assert root.findall("g[@transform]")[0].get("transform", "").startswith("translate(60.00 30.00)")
    assert "walked</li>" in draw(picture, "k") and "goal</li>" in draw(picture, "k")


def test_the_image_is_enlarged_without_smoothing() -> None:
    source = re.search(r"data:image/png;base64,([^\"]+)", draw(Picture("c", IMAGE), "k"))
    assert source
    shown = np.asarray(Pillow.open(io.BytesIO(base64.b64decode(source[1]))))
    np.testing.assert_array_equal(shown, IMAGE.repeat(7, axis=0).repeat(7, axis=1))


def test_points_that_are_not_finite_leave_a_gap() -> None:
    points = np.array([[1, 1], [2, 2], [math.nan, 3], [4, 4], [5, 5]])
    nowhere = np.full((2, 2), math.nan)
    root = svg(Picture("c", IMAGE, [("p", points), ("q", nowhere)], [("m", (math.nan, 1.0))]))
    paths = root.findall("g/path")
    assert [path.get("d", "").count("M") for path in paths] == [2, 2]  # a seam and a line; nothing for q and m
    assert not root.findall("g[@transform]")


def test_long_paths_have_no_dots() -> None:
    points = np.linspace(0, 30, 200)[:, None].repeat(2, axis=1)
    assert not svg(Picture("c", IMAGE, [("p", points)])).findall(".//circle")


def test_grey_images_and_escaping() -> None:
    root = svg(Picture("<c> & more", IMAGE[..., :1], [("<p>", np.zeros((0, 2)))]))
    assert root[0].text == "<c> & more, drawn over it: <p>"


@pytest.mark.parametrize(
    ("image", "paths", "words"),
    [
        (IMAGE[..., 0], [], r"expected \(y, x, c\)"),
        (IMAGE / 255, [], "expected uint8"),
        (IMAGE, [("p", np.zeros((3, 3)))], r"path 'p' has shape \(3, 3\), expected \(n, 2\)"),
    ],
)
def test_wrong_pictures_are_refused(image: np.ndarray, paths: list, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Picture("c", image, paths)


def svg(picture: Picture) -> ElementTree.Element:
    drawn = draw(picture, "k")
    return ElementTree.fromstring(drawn[: drawn.index("</svg>") + 6])
