"""PhysBench (arXiv 2501.16411), as its authors lay it out: questions about films and pictures, with four choices.

It is made for models that read. A world model cannot; `why_not` says of each question why, and `Asked` holds the few
that need no words: something is shown, each choice is a film or picture, and the answer is what comes next.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from innerworld.data.importers.inside import inside
from innerworld.data.importers.picture import decode
from innerworld.data.labelled import json_of, square
from innerworld.data.video import Video
from innerworld.errors import UserError

FOLDERS = {".mp4": "video", ".jpg": "image", ".jpeg": "image", ".png": "image"}
MARK = re.compile(r"<(?:video|image)>")
LETTER = re.compile(r"(?:^|\s)([A-D])\.\s")
FILMS = 8
"""Frames of a film that its authors show to models."""
Broken = Literal["stop", "skip"]

WORDS = "its choices are words"
NOTHING = "nothing is shown before its choices"
OTHER = "it asks for something else than what comes next"
UNKNOWN = "its answer is not known here"
MARKS = "its files and the marks in its text do not match"
GONE = "a file of it is missing"


@dataclass(frozen=True)
class Item:
    """One question: what is shown before the choices, and each choice as the files in it and the words beside them."""

    number: int
    question: str
    stem: tuple[Path, ...]
    choices: tuple[tuple[tuple[Path, ...], str], ...]
    answer: int | None  # which choice
    ability: str  # prediction, reasoning, …; empty: not told
    matches: bool  # are there as many files as marks in the text?

    def why_not(self, abilities: tuple[str, ...] = ("prediction",)) -> str:
        """Why it cannot be asked without language; empty where it can."""
        if not self.matches:
            return MARKS
        if len(self.choices) < 2 or any(len(files) != 1 or words for files, words in self.choices):
            return WORDS
        if not self.stem:
            return NOTHING
        if self.ability not in abilities:
            return OTHER if self.ability else UNKNOWN
        if self.answer is None:
            return UNKNOWN
        return "" if all(path.is_file() for path in self.files()) else GONE

    def files(self) -> Iterator[Path]:
        yield from self.stem
        for files, _ in self.choices:
            yield from files


@dataclass(frozen=True)
class Asked:
    """Questions that need no words, and of the others how many are left out for which reason."""

    items: tuple[Item, ...]
    skipped: dict[str, int]

    def __len__(self) -> int:
        return len(self.items)

    def film(self, number: int, size: int, frames: int = FILMS) -> tuple[list[np.ndarray], list[int], int]:
        """For each choice what is shown and then that choice, `t y x c`; how many frames are the choice's; the answer.

        A film gives `frames`, spread evenly over it, a picture one. Raises `UserError` that names a file that cannot be
        read.
        """
        item = self.items[number]
        before = np.concatenate([_shown(path, size, frames) for path in item.stem])
        after = [_shown(files[0], size, frames) for files, _ in item.choices]
        assert item.answer is not None  # or it would not be asked
        return [np.concatenate([before, choice]) for choice in after], [len(choice) for choice in after], item.answer


def read_physbench(folder: Path | str, answers: Path | str | None = None) -> tuple[Item, ...]:
    """`test.json`, a list of questions, and the folders `image` and `video` that their `file_name`s lie in.

    A question's text marks with `<video>` and `<image>` where its files stand, in their order, and ends with the
    choices A. to D. What the right answers and the abilities are is told by `answers` (`val_answer.json` of the
    authors' repository), else by the questions themselves, where they tell it. Raises `UserError` for a list that is
    not this, and for two answers to one question.
    """
    root = Path(folder)
    listed = root / "test.json"
    entries = _list(listed)
    told = {} if answers is None else _by_number(Path(answers))
    items = tuple(_item(root, entry, told, f"{listed} entry {i}") for i, entry in enumerate(entries))
    if not items:
        raise UserError(f"{listed} holds no questions")
    unknown = told.keys() - {item.number for item in items}
    if unknown:
        raise UserError(f"{answers} answers the question {min(unknown)}, which {listed} does not ask")
    return items


def asked(items: tuple[Item, ...], abilities: tuple[str, ...] = ("prediction",), broken: Broken = "stop") -> Asked:
    """Those that need no words. Raises `UserError` where files of them are missing, unless `broken` is `skip`; and
    where none is left, saying why."""
    reasons = [item.why_not(abilities) for item in items]
    for item, reason in zip(items, reasons, strict=True):
        if broken == "stop" and reason == GONE:
            lacking = next(path for path in item.files() if not path.is_file())
            raise UserError(
                f"there is no {lacking}, which question {item.number} needs: unpack it, or skip what is broken"
            )
        if broken == "stop" and reason == MARKS:
            raise UserError(f"question {item.number}: {MARKS}: skip what is broken")
    counts = dict(Counter(reason for reason in reasons if reason))
    kept = tuple(item for item, reason in zip(items, reasons, strict=True) if not reason)
    if not kept:
        told = "; ".join(f"{count} because {reason}" for reason, count in counts.items())
        raise UserError(f"none of the {len(items)} questions can be asked without language: {told}")
    return Asked(kept, counts)


def _item(root: Path, entry: Any, told: dict[int, dict[str, Any]], where: str) -> Item:
    if not isinstance(entry, dict):
        raise UserError(f"{where} is no question")
    number, question, names = (entry.get(key) for key in ("idx", "question", "file_name"))
    names = [names] if isinstance(names, str) else names
    if not isinstance(number, int) or not isinstance(question, str) or not isinstance(names, list):
        raise UserError(f"{where}: expected the keys idx, question and file_name, there are {', '.join(entry)}")
    files = [_path(root, str(name), where) for name in names]
    texts = _parts(question)
    taken, shares = 0, []
    for text in texts:
        marks = len(MARK.findall(text))
        shares.append(tuple(files[taken : taken + marks]))
        taken += marks
    choices = tuple((files, MARK.sub("", text).strip()) for files, text in zip(shares[1:], texts[1:], strict=True))
    known = {**entry, **told.get(number, {})}
    return Item(
        number, question, shares[0], choices, _answer(known, len(choices), where), str(known.get("ability_type") or ""),
        taken == len(files),
    )  # fmt: skip


def _parts(question: str) -> list[str]:
    """What stands before the choices, then each of them: those of the last A. that B., … follow."""
    found = list(LETTER.finditer(question + " "))
    starts = [i for i, match in enumerate(found) if match[1] == "A"]
    if not starts:
        return [question]
    run = [found[starts[-1]]]
    for match in found[starts[-1] + 1 :]:
        if match[1] == "ABCD"[len(run) % 4] and len(run) < 4:
            run.append(match)
    ends = [match.start() for match in run[1:]] + [len(question)]
    return [question[: run[0].start()], *(question[m.end() : end] for m, end in zip(run, ends, strict=True))]


def _answer(known: dict[str, Any], choices: int, where: str) -> int | None:
    told = known.get("answer")
    if told in (None, ""):
        return None
    letter = str(told).strip()[:1].upper()
    if letter not in "ABCD" or "ABCD".index(letter) >= max(choices, 1):
        raise UserError(f"{where}: the answer {told!r} is none of its {choices} choices")
    return "ABCD".index(letter)


def _path(root: Path, name: str, where: str) -> Path:
    ending = Path(name).suffix.lower()
    if ending not in FOLDERS:
        raise UserError(f"{where}: {name!r} is neither a film nor a picture ({', '.join(FOLDERS)})")
    return inside(root, f"{FOLDERS[ending]}/{name}")


def _by_number(file: Path) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for i, entry in enumerate(_list(file)):
        if not isinstance(entry, dict) or not isinstance(entry.get("idx"), int) or "answer" not in entry:
            raise UserError(f"{file} entry {i}: expected the keys idx and answer")
        if entry["idx"] in found:
            raise UserError(f"{file} answers question {entry['idx']} twice")
        found[entry["idx"]] = entry
    return found


def _list(file: Path) -> list[Any]:
    told = json_of(file)
    if not isinstance(told, list):
        raise UserError(f"{file} is no list of questions or answers")
    return told


def _shown(path: Path, size: int, frames: int) -> np.ndarray:
    """`t y x c`: a film's frames at the middles of equal parts, or one picture."""
    if FOLDERS[path.suffix.lower()] == "image":
        try:
            return square(decode(path), size)[None]
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    video = Video(path)
    at = ((np.arange(frames) + 0.5) * len(video) / frames).astype(np.int64)
    return np.stack([square(frame, size) for frame in video.frames(at)])
