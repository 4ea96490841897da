"""`innerworld understand`: films in a published layout, the numbers and the table, mistakes told before it looks."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from innerworld import checkpoint
from innerworld.cli import main
from innerworld.data.video import VideoWriter
from innerworld.nn.vision import ViTConfig
from innerworld.perception.vjepa2 import VJEPA2, VJEPA2Config
from innerworld.types import Spec

PROBE = ["heads=2", "epochs=2", "lr=[0.01]", "weight_decay=[0.1]", "--frames", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve films and a list that names two more, in the layout of Kinetics, and a run of eyes."""
    folder = tmp_path_factory.mktemp("kinetics")
    (folder / "videos").mkdir()
    for label, light in (("dark", 40), ("light", 200)):
        with VideoWriter(folder / f"{label}.mp4", 10) as writer:
            for _ in range(4):
                writer.add(np.full((32, 32, 3), light, np.uint8))
    with (folder / "train.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
        for i in range(14):
            label = ("dark", "light")[i % 2]
            rows.writerow([label, f"film{i}", i, i + 10, "train"])
            if i < 12:
                shutil.copy(folder / f"{label}.mp4", folder / "videos" / f"film{i}_{i:06d}_{i + 10:06d}.mp4")
    torch.manual_seed(0)
    vit = ViTConfig(dim=24, depth=1, heads=2, mlp=24, patch=8)
    checkpoint.save(folder / "run", VJEPA2(VJEPA2Config(vit=vit), Spec({"pixels": (16, 16, 3)}, 0)), None, 0, None)
    return folder


def words(home: Path, *more: str) -> list[str]:
    lists = ["--learn", str(home / "train.csv"), "--test", str(home / "train.csv"), "--videos", str(home / "videos")]
    return ["understand", str(home / "run"), "--layout", "kinetics", *lists, "--quiet", *more]


def test_it_is_told_and_shown(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words(home, *PROBE), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["missing"] == {"learn": 2, "test": 2} and (found["learn"], found["labels"], found["size"]) == (
        12,
        2,
        16,
    )
    assert found["films"]["chance"] == 0.5 and found["films"]["lr"] == 0.01 and found["one_frame"] is None
    assert main(words(home, *PROBE, "--one-frame", "--most", "11", "--size", "8")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["shown", "top-1", "95", "%", "commonest", "label", "learning", "rate", "decay"]
    assert [line.split("  ")[0] for line in lines[1:3]] == ["film", "one frame"] and lines[1].endswith(
        "0.01           0.1"
    )
    assert "11 films to learn from, 11 to be judged on, at 8 px" in lines
    assert "2 and 2 films are not in" in lines[-1]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--layout", "ssv2"], "give it as --labels"),
        (["--layout", "epic"], "has no column 'participant_id'"),
        (["--videos", "nowhere"], "none of the 14 videos of"),
        (["--frames", "0"], "--frames is at least 1"),
        (["--learn", "nowhere.csv"], "cannot read nowhere.csv"),
        (["epochs=0"], "epochs: input should be greater than or equal to 1"),
        (["epoch=3"], "Did you mean 'epochs'?"),
    ],
)
def test_mistakes(more: list[str], told: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(home, *more)) == 2
    assert told in capsys.readouterr().err
