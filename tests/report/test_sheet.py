"""Sheets: every picture stands in its row and column, untouched, its remark below it."""

from __future__ import annotations

import base64
import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image as Pillow

from innerworld.errors import UserError
from innerworld.report import Page, Section, Sheet, render
from innerworld.report.sheet import draw

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 8, 16, 3), dtype=np.uint8)
GRAY = PICTURES[..., :1]


def test_pictures_stand_in_rows_and_columns() -> None:
    sheet = Sheet("s", ["a", "b", "c"], [("real", PICTURES), ("drawn", GRAY)], [["", "0.9", "<b>"], ["1", "2", "3"]])
    root = ElementTree.fromstring(draw(sheet))
    images = root.findall("image")
    places = [(float(image.get("x", "")), float(image.get("y", ""))) for image in images]
    assert len({x for x, _ in places}) == 3 and len({y for _, y in places}) == 2
    assert places == sorted(places, key=lambda place: (place[1], place[0]))
    for image, picture in zip(images, [*PICTURES, *GRAY], strict=True):
        np.testing.assert_array_equal(shown(image.get("href", "")), np.broadcast_to(picture, (8, 16, 3)))
        assert float(image.get("width", "")) == 2 * float(image.get("height", ""))
    words = {text.text: (float(text.get("x", "")), float(text.get("y", ""))) for text in root.findall("text")}
    assert set(words) == {"a", "b", "c", "real", "drawn", "0.9", "<b>", "1", "2", "3"}
    width = float(images[0].get("width", ""))
    assert words["0.9"][0] == places[1][0] + width / 2 and places[1][1] < words["0.9"][1] < places[4][1]
    assert "real, drawn" in root.get("aria-label", "")


def test_nothing_overlaps_or_leaves_the_sheet() -> None:
    root = ElementTree.fromstring(draw(Sheet("s", ["", "", ""], [("a long name", PICTURES)])))
    _, _, width, height = map(float, root.get("viewBox", "").split())
    for image in root.findall("image"):
        x, y, w, h = (float(image.get(key, "")) for key in ("x", "y", "width", "height"))
        assert x >= len("a long name") * 6 and x + w <= width + 0.01 and y >= 0 and y + h <= height + 0.01


def test_a_sheet_in_a_page_has_title_note_and_a_box_that_scrolls() -> None:
    page = render(
        Page("p", "", "", [Section("S", "", [Sheet("Rows & more", ["x"], [("", PICTURES[:1])], note="`n`")])])
    )
    assert '<figure class="sheet"><h3>Rows &amp; more</h3><div class="scroll"' in page and "<code>n</code>" in page


def test_a_sheet_without_pictures_says_so() -> None:
    assert "No pictures" in draw(Sheet("s", [], []))


@pytest.mark.parametrize(
    ("rows", "remarks", "words"),
    [
        ([("r", PICTURES[:2])], (), "2 pictures, there are 3 columns"),
        ([("r", PICTURES[0])], (), "all of one size"),
        ([("r", PICTURES), ("q", PICTURES[:, :4])], (), "row 'q'.*all of one size"),
        ([("r", PICTURES.astype(np.float32))], (), "expected uint8"),
        ([("r", PICTURES[..., :2])], (), "2 channels"),
        ([("r", PICTURES)], [["a"]], "a remark for each picture"),
        ([("r", PICTURES)], [["a"] * 3] * 2, "a remark for each picture"),
    ],
)
def test_what_does_not_fit_is_refused(rows: list, remarks: list, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Sheet("s", ["a", "b", "c"], rows, remarks)


def shown(source: str) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))
