"""PhysBench in its authors' layout: questions are taken apart, those without words are found, damage is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from innerworld.data.physbench import asked, read_physbench
from innerworld.data.video import VideoWriter
from innerworld.errors import UserError

NEXT = "<video>\nWhich picture comes next?\nA. <image>\nB. <image>\nC. <image>\nD. <image>\n"


def write_bench(root: Path, entries: list[dict[str, Any]]) -> Path:
    """The files that the questions name, a film as bright as 60 and picture i as 40 i, and the list."""
    (root / "image").mkdir(parents=True, exist_ok=True)
    (root / "video").mkdir(exist_ok=True)
    for entry in entries:
        for i, name in enumerate(entry["file_name"]):
            if name.endswith(".mp4"):
                with VideoWriter(root / "video" / name, 10) as writer:
                    for _ in range(9):
                        writer.add(np.full((32, 32, 3), 60, np.uint8))
            else:
                Image.fromarray(np.full((20, 30, 3), 40 * i, np.uint8)).save(root / "image" / name)
    (root / "test.json").write_text(json.dumps(entries))
    return root


def entry(number: int, question: str, *names: str) -> dict[str, Any]:
    return {"idx": number, "question": question, "file_name": list(names), "mode": "general", "split": "val"}


def tell(root: Path, *answers: tuple[int, str, str]) -> Path:
    told = [{"idx": i, "answer": answer, "ability_type": ability, "sub_type": "x"} for i, answer, ability in answers]
    (root / "val_answer.json").write_text(json.dumps(told))
    return root / "val_answer.json"


PICTURES = ("a.jpg", "b.JPG", "c.png", "d.png")
ENTRIES = [
    entry(0, NEXT, "film.mp4", *PICTURES),
    entry(1, "<video>\nWhat will fall?\nA. the cup\nB. the ball\nC. both\nD. none", "film.mp4"),
    entry(2, "Which is heavier?\nA. <image> B. <image> C. <image> D. <image>", *PICTURES),
    entry(3, NEXT, "film.mp4", *PICTURES),
    entry(4, NEXT, "film.mp4", *PICTURES),
    entry(5, "<image>\nPoint A. is marked. Which point is hotter?\nA. left <image>\nB. right <image>", *PICTURES[:3]),
]


def test_questions_are_taken_apart_and_sorted(tmp_path: Path) -> None:
    root = write_bench(tmp_path, ENTRIES)
    items = read_physbench(root, tell(root, (0, "C", "prediction"), (1, "A", "prediction"), (3, "B", "reasoning")))
    assert [path.name for path in items[0].stem] == ["film.mp4"] and items[0].answer == 2
    assert [[path.name for path in files] for files, _ in items[0].choices] == [[name] for name in PICTURES]
    assert [words for _, words in items[1].choices] == ["the cup", "the ball", "both", "none"]
    assert [words for _, words in items[5].choices] == ["left", "right"] and len(items[5].stem) == 1
    few = asked(items)
    assert [item.number for item in few.items] == [0]
    assert few.skipped == {
        "its choices are words": 2,
        "nothing is shown before its choices": 1,
        "it asks for something else than what comes next": 1,
        "its answer is not known here": 1,
    }
    assert len(asked(items, ("prediction", "reasoning"))) == 2


def test_choices_follow_what_was_shown(tmp_path: Path) -> None:
    root = write_bench(tmp_path, ENTRIES[:1])
    films, frames, answer = asked(read_physbench(root, tell(root, (0, "B", "prediction")))).film(0, 16, frames=3)
    assert frames == [1] * 4 and answer == 1 and films[0].shape == (4, 16, 16, 3)
    np.testing.assert_allclose(films[3].mean((1, 2, 3)), [60, 60, 60, 160], atol=4)


def test_a_question_may_tell_its_answer_itself(tmp_path: Path) -> None:
    root = write_bench(tmp_path, [{**ENTRIES[0], "answer": "D", "ability_type": "prediction"}])
    assert asked(read_physbench(root)).items[0].answer == 3


def test_missing_files_stop_or_are_skipped(tmp_path: Path) -> None:
    pair = [ENTRIES[0], {**ENTRIES[3], "file_name": ["other.mp4", *PICTURES]}]
    root = write_bench(tmp_path, pair)
    items = read_physbench(root, tell(root, (0, "C", "prediction"), (3, "A", "prediction")))
    (root / "video" / "other.mp4").unlink()
    with pytest.raises(UserError, match=r"there is no .*other\.mp4, which question 3 needs"):
        asked(items)
    few = asked(items, broken="skip")
    assert len(few) == 1 and few.skipped == {"a file of it is missing": 1}
    (root / "image" / "a.jpg").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"a\.jpg"):
        few.film(0, 16)
    (root / "video" / "film.mp4").unlink()
    with pytest.raises(UserError, match=r"none of the 2 .* 2 because a file of it is missing"):
        asked(items, broken="skip")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"file_name": ["film.mp4", "a.jpg"]}, "its files and the marks in its text do not match"),
        ({"file_name": ["film.avi"]}, "neither a film nor a picture"),
        ({"file_name": ["../film.mp4"]}, "outside of it"),
        ({"question": 3}, "expected the keys idx, question and file_name"),
        ({"answer": "E"}, "'E' is none of its 4 choices"),
    ],
)
def test_a_wrong_question_is_named(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    root = write_bench(tmp_path, ENTRIES[:1])
    (root / "test.json").write_text(json.dumps([{**ENTRIES[0], **change}]))
    with pytest.raises(UserError, match=told):
        asked(read_physbench(root))


def test_wrong_lists_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*test\.json"):
        read_physbench(tmp_path)
    root = write_bench(tmp_path, ENTRIES[:1])
    with pytest.raises(UserError, match=r"answers the question 7, which .* does not ask"):
        read_physbench(root, tell(root, (7, "A", "prediction")))
    with pytest.raises(UserError, match="answers question 0 twice"):
        read_physbench(root, tell(root, (0, "A", "prediction"), (0, "B", "prediction")))
    (root / "val_answer.json").write_text("[{}]")
    with pytest.raises(UserError, match="entry 0: expected the keys idx and answer"):
        read_physbench(root, root / "val_answer.json")
    for text, told in (("{}", "no list"), ("[]", "holds no questions"), ("[1]", "entry 0 is no question")):
        (root / "test.json").write_text(text)
        with pytest.raises(UserError, match=told):
            read_physbench(root)
