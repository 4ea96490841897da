"""IntPhys (arXiv 1803.07616) and IntPhys 2 (arXiv 2506.09849) as their authors lay them out, as matched films."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innerworld.data.importers.inside import inside
from innerworld.data.importers.picture import decode
from innerworld.data.labelled import csv_rows, square
from innerworld.data.matched import in_order
from innerworld.data.video import Video
from innerworld.errors import UserError

BLOCKS = {"O1": "permanence", "O2": "shape", "O3": "continuity"}
"""What IntPhys calls its three principles."""
VARIANTS = {"immutability_texture": "immutability", "continuity_swap": "continuity"}
"""Conditions of IntPhys 2 that its authors count under another one."""
PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Scene:
    """Four films: two possible ones, and two impossible ones."""

    possible: tuple[Path, Path]  # folders of pictures, or videos
    impossible: tuple[Path, Path]
    told: bool  # is it told which impossible film begins as which possible one? Else the pictures must tell


@dataclass(frozen=True)
class RecordedFilms:
    """Scenes on disk by principle, whose films are decoded when they are asked for."""

    scenes: dict[str, tuple[Scene, ...]]
    size: int  # side at which they are seen, the square in the middle, pixels
    frames: int | None = None  # spread evenly over each film; None: all of them
    sensor: str = "pixels"

    def counts(self) -> dict[str, int]:
        return {principle: len(scenes) for principle, scenes in self.scenes.items()}

    def films(self, principle: str, rows: range) -> dict[str, NDArray[Any]]:
        """Raises `UserError` that names a film that cannot be read, or is not as long as others of its scene."""
        return {self.sensor: np.stack([self._quadruplet(self.scenes[principle][i]) for i in rows])}

    def _quadruplet(self, scene: Scene) -> NDArray[np.uint8]:
        possible, impossible = ([_film(path, self.frames, self.size) for path in half] for half in _halves(scene))
        for path, film in zip((*scene.possible, *scene.impossible), (*possible, *impossible), strict=True):
            if len(film) != len(possible[0]):
                raise UserError(
                    f"{path} has {len(film)} frames, others of its scene {len(possible[0])}: set the frames"
                )
        return np.stack([*possible, *impossible]) if scene.told else in_order(possible, impossible)


def read_intphys(folder: Path | str, size: int, frames: int | None = None) -> RecordedFilms:
    """IntPhys: `<block>/<scene>/<1 to 4>/scene/scene_001.png …`, and beside `scene` a `status.json` with the label.

    Blocks are O1 (permanence), O2 (shape) and O3 (continuity); `folder` holds them, or is one of them. Raises
    `UserError` where there is none, for a scene that is not two possible and two impossible films, and where labels are
    missing, as in the test sets.
    """
    root = Path(folder)
    blocks = [block for block in BLOCKS if (root / block).is_dir()]
    if not blocks and root.name not in BLOCKS:
        raise UserError(f"{root} holds none of {', '.join(BLOCKS)}: give the folder of dev of IntPhys, or one block")
    found: dict[str, tuple[Scene, ...]] = {}
    for block in blocks or [root.name]:
        top = root / block if blocks else root
        scenes = sorted(path for path in top.iterdir() if path.is_dir() and path.name.isdecimal())
        if not scenes:
            raise UserError(f"{top} has no scenes 01, 02, ...")
        found[BLOCKS[block]] = tuple(_intphys_scene(path) for path in scenes)
    return RecordedFilms(found, size, frames)


def read_intphys2(folder: Path | str, size: int, frames: int | None = None) -> RecordedFilms:
    """IntPhys 2: `metadata.csv` with SceneIndex, condition, type (`1_Possible`, `1_Impossible`, `2_…`) and its films.

    A film is named by `file_name`, a path, or as `filename` or `name` alone: then it is `Videos/NAME.mp4`. The held-out
    split has no such list. Films of one number begin alike. Raises `UserError` for a list that is not this, a scene
    that is not complete, and, once it is shown, a film that is not there.
    """
    root = Path(folder)
    listed = root / "metadata.csv"
    scenes: dict[tuple[str, str], dict[str, Path]] = {}
    for i, row in enumerate(csv_rows(listed, ("SceneIndex", "condition", "type"))):
        films = scenes.setdefault((row["condition"], row["SceneIndex"]), {})
        if row["type"] not in TYPES or row["type"] in films:
            raise UserError(f"{listed} row {i + 1}: type {row['type']!r} is unknown, or there twice")
        films[row["type"]] = inside(root, _intphys2_film(row, listed), False)
    if not scenes:
        raise UserError(f"{listed} lists no films")
    found: dict[str, list[Scene]] = {}
    for (condition, number), films in scenes.items():
        if len(films) != len(TYPES):
            raise UserError(f"{listed}: scene {number} has {', '.join(films)}, not all four films")
        p, q, i, j = (films[name] for name in TYPES)
        found.setdefault(VARIANTS.get(condition, condition), []).append(Scene((p, q), (i, j), told=True))
    return RecordedFilms({name: tuple(some) for name, some in found.items()}, size, frames)


TYPES = ("1_Possible", "2_Possible", "1_Impossible", "2_Impossible")


def _intphys2_film(row: dict[str, str], listed: Path) -> str:
    if "file_name" in row:
        return row["file_name"]
    for column in ("filename", "name"):
        if column in row:
            return f"Videos/{row[column].removesuffix('.mp4')}.mp4"
    raise UserError(f"{listed} has no column 'file_name', 'filename' or 'name'; it has {', '.join(row)}")


def _intphys_scene(folder: Path) -> Scene:
    films: dict[bool, list[Path]] = {True: [], False: []}
    for number in "1234":
        status = folder / number / "status.json"
        if not status.is_file():
            raise UserError(f"there is no {status}, which tells what is possible: a test set cannot be judged on here")
        films[_is_possible(status)].append(folder / number / "scene")
    if len(films[True]) != 2:
        raise UserError(f"{folder} has {len(films[True])} possible films of 4, expected 2")
    (p, q), (i, j) = films[True], films[False]
    return Scene((p, q), (i, j), told=False)


def _is_possible(status: Path) -> bool:
    try:
        told = json.loads(status.read_bytes())["header"]["is_possible"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{status} does not tell header.is_possible: {error}") from error
    if not isinstance(told, bool):
        raise UserError(f"{status}: is_possible is {told!r}, neither true nor false")
    return told


def _halves(scene: Scene) -> tuple[tuple[Path, Path], tuple[Path, Path]]:
    return scene.possible, scene.impossible


def _film(path: Path, frames: int | None, size: int) -> NDArray[np.uint8]:
    """`t y x c`, at the middles of as many equal parts as there are to be frames."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
        total, read = len(files), lambda numbers: [decode(files[i]) for i in numbers]
    else:
        video = Video(path)
        total, read = len(video), video.frames
    if total < 2:
        raise UserError(f"{path} has {total} pictures: a film has at least 2")
    at = range(total) if frames is None else ((np.arange(frames) + 0.5) * total / frames).astype(int).tolist()
    return np.stack([square(picture, size) for picture in read(at)])
