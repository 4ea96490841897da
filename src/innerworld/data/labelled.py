"""Labelled videos: the layouts in which Something-Something v2, Kinetics and EPIC-KITCHENS-100 come, as plain lists."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from innerworld.data.video import Video
from innerworld.envs.adapter import shrink
from innerworld.errors import UserError

ENDINGS = (".webm", ".mp4", ".mkv", ".avi", ".MP4")


@dataclass(frozen=True)
class Labelled:
    """One stretch of a video, and what it shows."""

    path: Path
    label: int
    start: float = 0.0  # seconds
    stop: float | None = None  # seconds; None: to the end


@dataclass(frozen=True)
class LabelledSet:
    """What is here, the names of its labels, and how many of the list have no file."""

    items: tuple[Labelled, ...]
    names: tuple[str, ...]
    missing: int

    def __len__(self) -> int:
        return len(self.items)

    def labels(self, numbers: Sequence[int]) -> np.ndarray:
        """What some of them show: `n`."""
        return np.array([self.items[number].label for number in numbers], np.int64)

    def films(self, numbers: Iterable[int], frames: int, size: int | None = None) -> np.ndarray:
        """Some of them as `n t y x c` uint8, `frames` spread evenly over each stretch (the middle of each part).

        With `size`, the square in the middle of each picture, shrunk to that side by area. Raises `UserError` that
        names a video that cannot be read, or, without `size`, whose pictures have another size than the first's.
        """
        numbers = list(numbers)
        drawn = [_film(self.items[number], frames, size) for number in numbers]
        for number, film in zip(numbers, drawn, strict=True):
            if film.shape != drawn[0].shape:
                raise UserError(
                    f"{self.items[number].path} has pictures {film.shape[1:3]}, others {drawn[0].shape[1:3]}: "
                    "bring all videos to one size first"
                )
        return np.stack(drawn)


def read_ssv2(list_file: Path | str, labels_file: Path | str, videos: Path | str) -> LabelledSet:
    """Something-Something v2: `train.json` or `validation.json`, `labels.json`, and a folder of `<id>.webm`.

    An entry's label is its `template` without brackets, which `labels.json` numbers. Raises `UserError` for a file that
    is not this, an entry without a label, and if none of the videos is there.
    """
    entries, numbers = json_of(list_file), json_of(labels_file)
    if not isinstance(entries, list) or not isinstance(numbers, dict):
        raise UserError(f"{list_file} and {labels_file} are not the lists of Something-Something v2")
    known = {_plain(name): int(number) for name, number in numbers.items()}
    names = [""] * (max(known.values(), default=-1) + 1)
    for name, number in known.items():
        names[number] = name
    found = []
    for i, entry in enumerate(entries):
        template = _plain(_get(entry, "template", f"{list_file} entry {i}"))
        if template not in known:
            raise UserError(f"{list_file} entry {i}: {labels_file} has no label {template!r}")
        found.append(
            (_find(Path(videos), str(_get(entry, "id", f"{list_file} entry {i}"))), known[template], 0.0, None)
        )
    return _gather(found, names, list_file, videos)


def read_kinetics(list_file: Path | str, videos: Path | str) -> LabelledSet:
    """Kinetics: a CSV with label, youtube_id, time_start, time_end, and `<id>_<start>_<end>.mp4`, or below `<label>/`.

    Videos are cut already; labels are numbered in alphabetical order. Errors as `read_ssv2`.
    """
    rows = list(csv_rows(list_file, ("label", "youtube_id", "time_start", "time_end")))
    names = sorted({row["label"] for row in rows})
    number = {name: i for i, name in enumerate(names)}
    root = Path(videos)
    found = []
    for i, row in enumerate(rows):
        start, stop = (int(_number(row[key], f"{list_file} row {i + 1}: {key}")) for key in ("time_start", "time_end"))
        stem = f"{row['youtube_id']}_{start:06d}_{stop:06d}"
        file = _find(root / row["label"], stem) or _find(root / row["label"].replace(" ", "_"), stem)
        found.append((file or _find(root, stem), number[row["label"]], 0.0, None))
    return _gather(found, names, list_file, videos)


def read_epic(
    list_file: Path | str, videos: Path | str, what: Literal["verb", "noun", "action"] = "verb"
) -> LabelledSet:
    """EPIC-KITCHENS-100: `EPIC_100_train.csv` or `…_validation.csv`, and `<participant>/videos/<video>.MP4`.

    A stretch runs from start_timestamp to stop_timestamp. An action is a pair of verb and noun, numbered in the order
    of the pairs that occur. Errors as `read_ssv2`.
    """
    columns = ("participant_id", "video_id", "start_timestamp", "stop_timestamp", "verb_class", "noun_class")
    rows = list(csv_rows(list_file, columns))
    keys = [_epic_key(row, what, f"{list_file} row {i + 1}") for i, row in enumerate(rows)]
    order = sorted(set(keys))
    number = {key: i for i, key in enumerate(order)}
    root = Path(videos)
    found = []
    for i, (row, key) in enumerate(zip(rows, keys, strict=True)):
        start, stop = (_seconds(row[f"{end}_timestamp"], f"{list_file} row {i + 1}") for end in ("start", "stop"))
        if stop <= start:
            raise UserError(f"{list_file} row {i + 1}: it stops at {stop} s, before it starts at {start} s")
        file = _find(root / row["participant_id"] / "videos", row["video_id"]) or _find(root, row["video_id"])
        found.append((file, number[key], start, stop))
    return _gather(found, [" ".join(map(str, key)) for key in order], list_file, videos)


@dataclass(frozen=True)
class Films:
    """Some films of a labelled set, decoded when a slice of them is asked for."""

    of: LabelledSet
    numbers: tuple[int, ...]
    frames: int
    size: int | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, some: slice) -> np.ndarray:
        return self.of.films(self.numbers[some], self.frames, self.size)


def numbered_alike(*sets: LabelledSet) -> tuple[LabelledSet, ...]:
    """The same sets with one numbering of all their labels, by name: each list numbers only those that occur in it."""
    names = tuple(dict.fromkeys(name for each in sets for name in each.names))
    number = {name: i for i, name in enumerate(names)}
    return tuple(
        replace(
            each, names=names, items=tuple(replace(item, label=number[each.names[item.label]]) for item in each.items)
        )
        for each in sets
    )


def _film(item: Labelled, frames: int, size: int | None) -> np.ndarray:
    video = Video(item.path)
    first = int(np.searchsorted(video.times, item.start, side="left"))
    last = len(video) if item.stop is None else int(np.searchsorted(video.times, item.stop, side="left"))
    if last <= first:
        raise UserError(f"{item.path} has no frame between {item.start} s and {item.stop} s: it has {len(video)}")
    at = first + (np.arange(frames) + 0.5) * (last - first) / frames
    film = video.frames(at.astype(np.int64))
    return film if size is None else np.stack([square(picture, size) for picture in film])


def square(picture: np.ndarray, size: int) -> np.ndarray:
    """The square in the middle of a picture `y x c`, shrunk to that side by area."""
    y, x = picture.shape[:2]
    side = min(y, x)
    top, left = (y - side) // 2, (x - side) // 2
    return shrink(np.ascontiguousarray(picture[top : top + side, left : left + side]), size)


def _gather(
    found: list[tuple[Path | None, int, float, float | None]], names: list[str], list_file: Path | str, videos: object
) -> LabelledSet:
    items = tuple(Labelled(file, label, start, stop) for file, label, start, stop in found if file is not None)
    if not items:
        raise UserError(f"none of the {len(found)} videos of {list_file} is in {videos}")
    return LabelledSet(items, tuple(names), len(found) - len(items))


def _find(folder: Path, stem: str) -> Path | None:
    """The video of that name; a name that leads elsewhere is none."""
    if "/" in stem or "\\" in stem or stem in ("", ".", ".."):
        return None
    return next((file for ending in ENDINGS if (file := folder / f"{stem}{ending}").is_file()), None)


def _plain(template: object) -> str:
    return str(template).replace("[", "").replace("]", "")


def _epic_key(row: dict[str, str], what: str, where: str) -> tuple[int, ...]:
    verb, noun = (int(_number(row[f"{kind}_class"], where)) for kind in ("verb", "noun"))
    return {"verb": (verb,), "noun": (noun,), "action": (verb, noun)}[what]


def _seconds(clock: str, where: str) -> float:
    """`00:01:02.34` → 62.34."""
    parts = [_number(part, where) for part in clock.split(":")]
    if len(parts) != 3:
        raise UserError(f"{where}: {clock!r} is no time like 00:01:02.34")
    return parts[0] * 3600 + parts[1] * 60 + parts[2]


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{where}: {text!r} is not a number") from None


def _get(entry: Any, key: str, where: str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise UserError(f"{where} has no {key!r}")
    return entry[key]


def json_of(file: Path | str) -> Any:
    """What a JSON file holds. Raises `UserError` for one that is not there, or no JSON."""
    try:
        return json.loads(Path(file).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON: {error}") from error


def csv_rows(file: Path | str, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The rows of a table that has these columns. Raises `UserError` for one that has not, and a row that is short."""
    try:
        with Path(file).open(newline="", encoding="utf-8") as opened:
            reader = csv.DictReader(opened, strict=True)
            lacking = [name for name in columns if name not in (reader.fieldnames or ())]
            if lacking:
                raise UserError(f"{file} has no column {lacking[0]!r}; it has {', '.join(reader.fieldnames or ())}")
            for i, row in enumerate(reader):
                if any(row[name] is None for name in columns):
                    raise UserError(f"{file} row {i + 1} is too short")
                yield row
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not a table of text: {error}") from error
