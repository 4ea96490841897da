"""What a report is made of: plain frozen data, checked when made. Nothing here knows how it will look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from innerworld.errors import UserError

Image: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True)
class Curve:
    """One line of a chart, with an interval around it where `low` and `high` are given. A NaN leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise UserError(f"curve {self.name!r}: give both low and high, or neither")
        for name, values in (("y", self.y), ("low", self.low), ("high", self.high)):
            if values is not None and len(values) != len(self.x):
                raise UserError(f"curve {self.name!r}: {name} has {len(values)} values, x has {len(self.x)}")


@dataclass(frozen=True)
class Chart:
    """Curves over one pair of axes. Put units into the axes' names, and what a band stands for into the `note`."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    log_y: bool = False
    note: str = ""
    line: float | None = None  # a level to compare with, drawn across
    line_name: str = ""


@dataclass(frozen=True)
class Dot:
    """A number under a name, with its interval where it is known, and the numbers that it is made of."""

    name: str
    value: float  # NaN where there is none
    low: float | None = None
    high: float | None = None
    runs: Sequence[float] = ()

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise UserError(f"dot {self.name!r}: give both low and high, or neither")


@dataclass(frozen=True)
class Dots:
    """Numbers of several names on one axis, a row for each: to compare, where there is nothing that they run along."""

    title: str
    x_label: str
    dots: Sequence[Dot]
    line: float | None = None  # a level to compare with
    line_name: str = ""
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Cells as they shall be read; the first column names its row. `emphasise` is the index of one row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    emphasise: int | None = None

    def __post_init__(self) -> None:
        for i, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise UserError(f"table {self.title!r}: row {i} has {len(row)} cells, there are {len(self.columns)}")
        if self.emphasise is not None and not 0 <= self.emphasise < len(self.rows):
            raise UserError(f"table {self.title!r}: there is no row {self.emphasise} to emphasise")


@dataclass(frozen=True)
class Movie:
    """Panels that play side by side: title and frames `t y x c`, all of one t, y and x; c is 1 or 3."""

    caption: str
    panels: Sequence[tuple[str, Image]]

    def __post_init__(self) -> None:
        if not self.panels:
            raise UserError(f"movie {self.caption!r} has no panel")
        first = self.panels[0][1].shape
        for title, frames in self.panels:
            where = f"movie {self.caption!r}, panel {title!r}"
            if frames.ndim != 4 or min(frames.shape) < 1:
                raise UserError(f"{where}: frames have shape {frames.shape}, expected (t, y, x, c), none of them 0")
            if frames.shape[:3] != first[:3]:
                raise UserError(f"{where}: t, y, x are {frames.shape[:3]}, those of the first panel {first[:3]}")
            _check_pixels(where, frames)


@dataclass(frozen=True)
class Picture:
    """An image `y x c` with ways and places drawn over it: points (x, y) in its pixels, from its upper left corner.

    Pixel i reaches from i to i + 1, so its middle is i + 0.5, as in the `state` of two_rooms. c is 1 or 3.
    """

    caption: str
    image: Image
    paths: Sequence[tuple[str, NDArray[np.floating]]] = ()  # name, points n 2
    marks: Sequence[tuple[str, tuple[float, float]]] = ()  # name, point

    def __post_init__(self) -> None:
        where = f"picture {self.caption!r}"
        if self.image.ndim != 3 or min(self.image.shape) < 1:
            raise UserError(f"{where}: the image has shape {self.image.shape}, expected (y, x, c), none of them 0")
        _check_pixels(where, self.image)
        for name, points in self.paths:
            if points.ndim != 2 or points.shape[1] != 2:
                raise UserError(f"{where}: path {name!r} has shape {points.shape}, expected (n, 2)")


@dataclass(frozen=True)
class Sheet:
    """Rows of small pictures of one size: name and pictures `n y x c`, one for each column; c is 1 or 3.

    `remarks` are words below the pictures, one row of them for each row of pictures.
    """

    title: str
    columns: Sequence[str]  # names, which may be empty
    rows: Sequence[tuple[str, Image]]
    remarks: Sequence[Sequence[str]] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for name, pictures in self.rows:
            where = f"sheet {self.title!r}, row {name!r}"
            if pictures.ndim != 4 or min(pictures.shape) < 1 or pictures.shape[1:3] != self.rows[0][1].shape[1:3]:
                raise UserError(
                    f"{where}: pictures have shape {pictures.shape}, expected (n, y, x, c), all of one size"
                )
            if len(pictures) != len(self.columns):
                raise UserError(f"{where}: {len(pictures)} pictures, there are {len(self.columns)} columns")
            _check_pixels(where, pictures)
        if self.remarks and [len(row) for row in self.remarks] != [len(self.columns)] * len(self.rows):
            raise UserError(f"sheet {self.title!r}: give a remark for each picture, or none")


@dataclass(frozen=True)
class Facts:
    """Pairs of a name and what it is."""

    rows: Sequence[tuple[str, str]]


Block: TypeAlias = Chart | Dots | Table | Movie | Picture | Sheet | Facts


@dataclass(frozen=True)
class Section:
    """A title, paragraphs parted by empty lines (`code` in backticks), and blocks; those of one kind share rows."""

    title: str
    text: str = ""
    blocks: Sequence[Block] = ()


@dataclass(frozen=True)
class Page:
    """A whole report. `command` is what made the run; `footer` names version, commit, machine and date."""

    title: str
    lead: str
    command: str
    sections: Sequence[Section]
    footer: Facts = field(default_factory=lambda: Facts([]))


def _check_pixels(where: str, image: Image) -> None:
    if image.dtype != np.uint8:
        raise UserError(f"{where}: pixels are {image.dtype}, expected uint8 in 0 to 255")
    if image.shape[-1] not in (1, 3):
        raise UserError(f"{where}: {image.shape[-1]} channels, expected 1 or 3")
