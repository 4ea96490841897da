"""Physion (arXiv 2106.08261), as its authors lay it out: films of things in motion, and whether two will have touched.

In every film one thing, the agent, is red and another, the patient, is yellow; asked is whether they touch before the
film ends (object contact prediction). Whoever answers sees its beginning alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from innerworld.data.importers.h5 import child, open_h5, place, rows
from innerworld.data.importers.picture import decode
from innerworld.data.labelled import csv_rows, json_of, square
from innerworld.data.video import Video
from innerworld.errors import UserError

SCENARIOS = {  # by a word in the name of a film; the first that is there counts, for some that roll collide, too
    "roll": "roll",
    "colli": "collide",
    "contain": "contain",
    "domino": "dominoes",
    "tower": "support",
    "support": "support",
    "link": "link",
    "drop": "drop",
    "drape": "drape",
    "cloth": "drape",
}
LABELS = "all_video_labels.json"
COLORED = "mp4s-redyellow"
MOST_PICTURE = 1 << 26  # bytes of an encoded picture
Broken = Literal["stop", "skip"]


@dataclass(frozen=True)
class Shown:
    """Which frames are seen: every `gap`-th up to `last`, as in Physion 1.5; a film of things that collide is fast."""

    last: int = 45
    last_collide: int = 15
    gap: int = 15

    def __post_init__(self) -> None:
        if not 0 <= self.last_collide <= self.last or self.gap < 1:
            raise UserError("frames that are seen: 0 <= last_collide <= last, and gap at least 1")

    def numbers(self, scenario: str, total: int) -> list[int]:
        """Of a film of `total` frames; always as many: the first stands in for what lies before it."""
        last = self.last_collide if scenario == "collide" else self.last
        seen = list(range(last, -1, -self.gap))[::-1]
        count = self.last // self.gap + 1
        return [min(number, total - 1) for number in [seen[0]] * (count - len(seen)) + seen]


@dataclass(frozen=True)
class Stimulus:
    """One film, and what comes of it."""

    path: Path  # a video, or the HDF5 file of a trial
    name: str
    scenario: str
    touched: bool


@dataclass(frozen=True)
class Stimuli:
    """What is here; how many have no label, and how many were left out by name."""

    items: tuple[Stimulus, ...]
    unlabelled: int = 0
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.items)

    def labels(self) -> np.ndarray:
        """1 where they touch: `n`."""
        return np.array([item.touched for item in self.items], np.int64)

    def scenarios(self) -> np.ndarray:
        """Of each film the scenario: `n` strings."""
        return np.array([item.scenario for item in self.items])

    def film(self, number: int, size: int, shown: Shown = Shown()) -> np.ndarray:
        """What is seen of one: `t y x c` uint8, the square in the middle. Raises `UserError` that names the file."""
        item = self.items[number]
        if item.path.suffix == ".hdf5":
            frames = _trial_frames(item, shown)
        else:
            video = Video(item.path)
            frames = video.frames(np.array(shown.numbers(item.scenario, len(video)), np.int64))
        return np.stack([square(frame, size) for frame in frames])

    def only(self, numbers: Iterable[int]) -> Stimuli:
        return Stimuli(tuple(self.items[number] for number in numbers), self.unlabelled, self.left_out)


def read_physion(
    folder: Path | str,
    labels: Path | str | None = None,
    leave_out: Path | str | None = None,
    broken: Broken = "stop",
) -> Stimuli:
    """The films of a folder in one of three layouts, told by what it holds.

    Physion 1.5: videos beside `all_video_labels.json`. HDF5: trials anywhere below, each with its pictures and its
    label. PhysionTest-Core: `<scenario>/mp4s-redyellow/*.mp4`, whose `labels` are a table: `stimulus_names_and_labels`
    or `readout_labels` of the authors' repository. `leave_out` is a text of names, such as the authors' list of
    faulty films. Raises `UserError` for a folder without films, labels that cannot be read and a film without a label
    or with a broken one; with `broken="skip"` such films are counted and left out.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"there is no folder {root}")
    names = _names(leave_out)
    files = sorted(root.rglob("*.hdf5")) or _videos(root)
    if not files:
        raise UserError(f"{root} holds no films of Physion: neither *.hdf5 nor *.mp4")
    told = _labels(root, labels) if files[0].suffix == ".mp4" else None
    items: list[Stimulus] = []
    unlabelled = left_out = 0
    for file in files:
        name = _name(file)
        if name in names:
            left_out += 1
            continue
        try:
            items.append(_stimulus(file, name, root, told))
        except UserError:
            if broken == "stop":
                raise
            unlabelled += 1
    if not items:
        raise UserError(f"of {len(files)} films in {root} none has a label that can be read: give the table of labels")
    return Stimuli(tuple(items), unlabelled, left_out)


def _videos(root: Path) -> list[Path]:
    """Those in which the agent is red and the patient yellow, where there are others, too."""
    found = sorted(root.rglob("*.mp4"))
    return [file for file in found if file.parent.name == COLORED] or found


def _name(file: Path) -> str:
    """What the authors call a film: `pilot_..._0012`, whatever the copy of it is called."""
    stem = f"{file.parent.name}_{file.stem}" if file.stem.isdecimal() else file.stem
    return _plain(stem)


def _plain(name: str) -> str:
    return re.sub(r"(_img|_map)?(\.mp4|\.hdf5)?$", "", name.replace("-redyellow", ""))


def _stimulus(file: Path, name: str, root: Path, told: dict[str, bool] | None) -> Stimulus:
    scenario = _scenario(name, file, root)
    if told is None:
        return Stimulus(file, name, scenario, _touches(file))
    if name not in told:
        raise UserError(f"{file} has no label: the list of labels does not know {name!r}")
    return Stimulus(file, name, scenario, told[name])


def _scenario(name: str, file: Path, root: Path) -> str:
    """By its name, else by the nearest folder that has one; drapes are called by numbers."""
    above = [part.name for part in file.parents if part.is_relative_to(root)]
    for text in (name, *above):
        for word, scenario in SCENARIOS.items():
            if word in text.lower():
                return scenario
    raise UserError(f"{file} belongs to none of the scenarios {', '.join(dict.fromkeys(SCENARIOS.values()))}")


def _names(listed: Path | str | None) -> set[str]:
    if listed is None:
        return set()
    try:
        return {_plain(word) for word in Path(listed).read_text(encoding="utf-8").split()}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {listed}: {error}") from error


# ---------------------------------------------------------------------- labels beside the films


def _labels(root: Path, table: Path | str | None) -> dict[str, bool]:
    if table is None:
        if not (root / LABELS).is_file():
            raise UserError(f"{root} has films but no {LABELS}: give the table of their labels")
        return _json_labels(root / LABELS)
    return _json_labels(Path(table)) if Path(table).suffix == ".json" else _csv_labels(Path(table))


def _json_labels(file: Path) -> dict[str, bool]:
    told = json_of(file)
    if not isinstance(told, dict):
        raise UserError(f"{file} is not an object of labels by film")
    found = {}
    for name, entry in told.items():
        if not isinstance(entry, dict) or "label" not in entry:
            raise UserError(f"{file}: {name!r} has no label")
        found[_plain(name)] = _yes(entry["label"], f"{file}: {name!r}")
    return found


def _csv_labels(file: Path) -> dict[str, bool]:
    """Both tables of the authors: columns `stim_ID` and `label`, or an unnamed one and `ground truth outcome`."""
    found = {}
    for i, row in enumerate(csv_rows(file, ())):
        name = row.get("stim_ID", row.get(""))
        label = row.get("label", row.get("ground truth outcome"))
        if name is None or label is None:
            raise UserError(f"{file} row {i + 1}: expected the columns stim_ID and label, there are {', '.join(row)}")
        found[_plain(name)] = _yes(label, f"{file} row {i + 1}")
    return found


def _yes(told: Any, where: str) -> bool:
    known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    if str(told).lower() not in known:
        raise UserError(f"{where}: the label {told!r} is neither true nor false")
    return known[str(told).lower()]


# ---------------------------------------------------------------------- trials in HDF5


def _touches(file: Path) -> bool:
    """Do agent and patient touch in any frame?"""
    with open_h5(file) as root:
        return any(_flag(frame) for frame in _frames(root))


def _trial_frames(item: Stimulus, shown: Shown) -> list[np.ndarray]:
    with open_h5(item.path) as root:
        frames = _frames(root)
        return [_picture(frames[number]) for number in shown.numbers(item.scenario, len(frames))]


def _frames(root: Any) -> list[Any]:
    group = child(root, "frames")
    names = sorted(name for name in group if name.isdecimal()) if group is not None else []
    if not names:
        raise UserError(f"{place(root)} has no frames/0000, ...: it is no trial of Physion")
    return [child(group, name) for name in names]


def _flag(frame: Any) -> bool:
    labels = child(frame, "labels")
    told = None if labels is None else child(labels, "target_contacting_zone")
    if told is None or told.size != 1:
        raise UserError(f"{place(frame)} does not tell labels/target_contacting_zone")
    return bool(np.asarray(told[()]).item())


def _picture(frame: Any) -> np.ndarray:
    images = child(frame, "images")
    raw = None if images is None else child(images, "_img")
    if raw is None:
        raise UserError(f"{place(frame)} has no images/_img")
    try:
        return decode(rows(raw, 0, raw.shape[0], MOST_PICTURE).astype(np.uint8).tobytes())
    except UserError as error:
        raise UserError(f"{place(raw)}: {error}") from error
