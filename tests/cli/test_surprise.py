"""`innerworld surprise`: numbers and table of our films and of a published layout, mistakes told before it looks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("pymunk")

from innerworld import checkpoint
from innerworld.cli import main
from innerworld.models import JEPA
from innerworld.recipes.lesson import Lesson
from innerworld.types import Spec


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a JEPA that was never taught."""
    folder = tmp_path_factory.mktemp("surprise") / "run"
    torch.manual_seed(0)
    config = JEPA.presets["small"].model_copy(update={"image_size": 16})
    checkpoint.save(folder, JEPA(config, Spec({"pixels": (32, 32, 3)}, 0)), None, 0, None)
    lesson = Lesson(family="jepa", data="films")
    (folder / "run.json").write_text(json.dumps({"lesson": lesson.model_dump(mode="json")}))
    return folder


def words(run: Path, *more: str) -> list[str]:
    return ["surprise", str(run), "--device", "cpu", "--quiet", *more]


def test_numbers_and_table(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = ["--pairs", "3", "--principles", "shape", "gravity", "--oracle", "over=max"]
    assert main([*words(run, *some), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["results"]) == ["model", "random weights", "last frame", "oracle"]
    assert found["settings"]["over"] == "max" and found["films"] == "physics"
    assert found["results"]["oracle"]["all"] == 1.0 and found["results"]["model"]["shape_pairs"] == 4
    assert main(words(run, *some)) == 0
    lines = capsys.readouterr().out.splitlines()
    headings = [[part.strip() for part in line.split("  ") if part] for line in (lines[0], lines[5])]
    assert headings[0][1:3] == ["pairs", "model"] and headings[1][1:3] == ["quadruplets", "model"]
    assert headings[0][-3:] == headings[1][-3:] == ["random weights", "last frame", "oracle"]
    assert [line.split()[:2] for line in lines[1:4]] == [["shape", "4"], ["gravity", "4"], ["all", "8"]]
    assert [line.split()[:2] for line in lines[6:9]] == [["shape", "2"], ["gravity", "2"], ["all", "4"]]
    assert lines[3].split()[-1] == lines[8].split()[-1] == "100.0%" and lines[-1] == "chance is 50 %"


def test_a_published_layout(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for number in "1234":
        (tmp_path / "O2" / "01" / number / "scene").mkdir(parents=True)
        for t in range(6):
            picture = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
            picture.save(tmp_path / "O2" / "01" / number / "scene" / f"scene_{t:03d}.png")
        (tmp_path / "O2" / "01" / number / "status.json").write_text(
            json.dumps({"header": {"is_possible": number in "13"}})
        )
    assert main([*words(run, "--films", "intphys", "--folder", str(tmp_path)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["results"]
    assert found["model"]["shape_pairs"] == 2 and set(found) == {"model", "random weights", "last frame"}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--pairs", "1"], "--pairs and --frames are at least 2"),
        (["--principles", "magic"], "unknown principle 'magic'"),
        (["--films", "intphys2"], "give it as --folder"),
        (["--films", "intphys", "--folder", "nowhere"], "holds none of O1, O2, O3"),
        (["--films", "intphys", "--oracle"], "leave out --films"),
        (["ovr=max"], "Did you mean 'over'?"),
        (["by=pixels", "--pairs", "2"], "paints no pictures"),
    ],
)
def test_mistakes(more: list[str], told: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(run, *more)) == 2
    assert told in capsys.readouterr().err


def test_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(tmp_path)) == 2
    assert str(tmp_path) in capsys.readouterr().err
