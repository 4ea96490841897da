"""`innerworld benchmark`: numbers and tables of both published layouts, mistakes told before it looks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from innerworld import checkpoint
from innerworld.cli import main
from innerworld.data.video import VideoWriter
from innerworld.models import JEPA
from innerworld.models.jepa import JEPAConfig
from innerworld.recipes.lesson import Lesson
from innerworld.types import Spec

KINDS = ("pilot_it2_drop_simple_box", "pilot_towers_nb2_tdwroom")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a JEPA that was never taught."""
    folder = tmp_path_factory.mktemp("benchmark") / "run"
    torch.manual_seed(0)
    config = JEPAConfig(image_size=16, slices=16)
    checkpoint.save(folder, JEPA(config, Spec({"pixels": (16, 16, 3)}, 0)), None, 0, None)
    (folder / "run.json").write_text(
        json.dumps({"lesson": Lesson(family="jepa", data="films").model_dump(mode="json")})
    )
    return folder


@pytest.fixture(scope="module")
def physion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films whose brightness says whether they touch: 20 to learn from, 8 to be judged on."""
    root = tmp_path_factory.mktemp("physion") / "physion_mp4s"
    rng = np.random.default_rng(0)
    for half, count in (("train", 10), ("test", 4)):
        (root / half).mkdir(parents=True)
        labels = {}
        for kind in KINDS:
            for i in range(count):
                name = f"{kind}_{i:04d}"
                labels[name] = {"label": i % 2, "contact_frame_label": 2}
                with VideoWriter(root / half / f"{name}.mp4", 30) as writer:
                    for _ in range(4):
                        writer.add(np.full((16, 16, 3), 40 + 150 * (i % 2) + rng.integers(20), np.uint8))
        (root / half / "all_video_labels.json").write_text(json.dumps(labels))
    return root


def words(run: Path, *more: str) -> list[str]:
    return ["benchmark", str(run), *more, "--device", "cpu", "--quiet"]


def test_physion_numbers_and_table(run: Path, physion: Path, capsys: pytest.CaptureFixture[str]) -> None:
    halves = ["--learn", str(physion / "train"), "--test", str(physion / "test"), "--last", "2", "--last-collide", "2"]
    asked = words(run, "physion", *halves, "--gap", "1", "folds=2", "strengths=[1.0]")
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["results"]) == ["model", "random weights", "pixels"]
    assert found["results"]["pixels"]["mean"] == 1.0 and found["results"]["model"]["drop_films"] == 4
    assert found["learn"] == {"films": 20, "unlabelled": 0, "left_out": 0} and found["unreadable"] == 0
    assert found["results"]["model"]["mean_common"] == 0.5 and found["settings"]["folds"] == 2
    assert main(asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [["drop", "4"], ["support", "4"], ["all", "8"]]
    assert lines[4].split()[0] == "mean" and "readout taught on 20 films" in lines[-1]


def test_physion_skips_what_is_broken_if_asked(
    run: Path, physion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = tmp_path / "test"
    test.mkdir()
    for file in (physion / "test").iterdir():
        (test / file.name).write_bytes(file.read_bytes())
    (test / f"{KINDS[0]}_0000.mp4").write_bytes(b"nothing")
    (test / "pilot_it2_drop_unknown_0001.mp4").write_bytes(b"nothing")
    halves = ["--learn", str(physion / "train"), "--test", str(test), "--last", "2", "--last-collide", "2"]
    asked = words(run, "physion", *halves, "--gap", "1", "folds=2", "strengths=[1.0]")
    assert main(asked) == 2 and "drop_unknown_0001.mp4 has no label" in capsys.readouterr().err
    assert main([*asked, "--broken", "skip", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unreadable"] == 1 and found["test"]["unlabelled"] == 1
    assert found["results"]["model"]["drop_films"] == 3


def test_physbench_asks_what_needs_no_words(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "image").mkdir()
    for i in range(3):
        Image.fromarray(np.full((16, 16, 3), 90 * i, np.uint8)).save(tmp_path / "image" / f"{i}.png")
    question = "<image>\nWhat comes next?\nA. <image>\nB. <image>"
    told = {"file_name": ["0.png", "2.png", "1.png"], "answer": "B", "ability_type": "prediction"}
    listed = [{"idx": 0, "question": question, **told}, {"idx": 1, "question": "Why?\nA. x\nB. y", "file_name": []}]
    (tmp_path / "test.json").write_text(json.dumps(listed))
    asked = words(run, "physbench", "--test", str(tmp_path))
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["questions"] == 2 and found["skipped"] == {"its choices are words": 1}
    assert found["results"]["no change"]["right"] == 1.0 and found["results"]["model"]["chance"] == 0.5
    assert main(asked) == 0
    shown = capsys.readouterr().out
    assert "1 of 2 questions were asked" in shown and "its choices are words" in shown


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["physion", "--test", "x"], "give the readout set as --learn"),
        (["physion"], "give it as --test"),
        (["physbench", "--test", "nowhere"], "cannot read"),
        (["physbench", "--test", "x", "folds=3"], "leave out folds=3"),
        (["physion", "--learn", "x", "--test", "y", "fold=3"], "Did you mean 'folds'?"),
        (["physion", "--learn", "x", "--test", "y", "--gap", "0"], "gap at least 1"),
        (["physion", "--learn", "nowhere", "--test", "y"], "there is no folder nowhere"),
    ],
)
def test_mistakes_are_told(run: Path, more: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(run, *more)) == 2
    assert told in capsys.readouterr().err
