"""Eyes whose clips grow while they learn: when, resumed over the change, and what is refused before it begins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from innerworld import checkpoint, families
from innerworld.cli import main
from innerworld.data import Store
from innerworld.errors import UserError
from innerworld.perception import VJEPA2
from innerworld.recipes.growing import Stage
from innerworld.recipes.lesson import Lesson, read, teach
from innerworld.testing.world_model import random_clip
from innerworld.training import TrainConfig
from innerworld.types import Clip, Spec

FILM = Spec({"pixels": (16, 16, 3)}, 0)
GROW = ("0:4:8", "2:8:16")
TRAIN = TrainConfig(
    steps=5, lr=1e-3, schedule="cooldown", cooldown=3, final_lr_fraction=0.1, log_every=1, save_every=1, device="cpu"
)
WORDS = ["vit.depth=1", "vit.dim=24", "vit.heads=2", "vit.mlp=24", "vit.patch=4"]
WORDS += ["predictor.dim=24", "predictor.heads=2", "predictor.depth=1", "predictor.mlp=24"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "data"
    made = Store.create(path, FILM)
    for seed in range(6):
        made.add(random_clip(FILM, 1, 9, seed))
    return path


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Frames and size of every clip that was learnt from."""
    found: list[tuple[int, ...]] = []
    loss = VJEPA2.loss

    def note(self: VJEPA2, clip: Clip) -> Any:
        found.append(tuple(clip.obs["pixels"].shape[1:4]))
        return loss(self, clip)

    monkeypatch.setattr(VJEPA2, "loss", note)
    yield found


def lesson(data: Path, *words: str, steps: int = 5, **other: Any) -> Lesson:
    model = families.config("vjepa2", "tiny", [*WORDS, *words]).model_dump(mode="json")
    train = TRAIN.model_copy(update={"steps": steps}).model_dump()
    plain = {"family": "vjepa2", "data": str(data), "batch": 4, "model": model, "workers": 0, "train": train}
    return Lesson.model_validate(plain | {"stages": GROW} | other)


def test_the_clips_grow_at_their_step_and_the_log_says_so(data: Path, tmp_path: Path, shown: list[Any]) -> None:
    taught = teach(lesson(data, workers=1), tmp_path, quiet=True)
    assert shown == [(4, 8, 8)] * 2 + [(8, 16, 16)] * 3
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in rows] == [1, 1, 2, 2, 2]
    assert [row["lr"] for row in rows] == pytest.approx([1e-3, 1e-3, 7e-4, 4e-4, 1e-4])
    assert taught.spec == checkpoint.load(tmp_path).spec == FILM  # what it saw in the end
    assert read(tmp_path).stages == GROW


@pytest.mark.parametrize("done", [1, 2, 3])
def test_resumed_before_at_and_after_the_change_it_ends_in_the_same_weights(
    done: int, data: Path, tmp_path: Path
) -> None:
    teach(lesson(data), tmp_path / "whole", quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        _stop_at(done, patch)
        with pytest.raises(KeyError):
            teach(lesson(data), tmp_path / "parts", quiet=True)
    assert checkpoint.read_header(tmp_path / "parts").step == done
    torch.manual_seed(99)
    teach(lesson(data), tmp_path / "parts", quiet=True, resume=True)
    whole, parts = (checkpoint.load(tmp_path / run).state_dict() for run in ("whole", "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_the_watch_sees_clips_as_the_last_stage_has_them(data: Path, tmp_path: Path) -> None:
    """Small pictures to the end, of a store whose own do not fit: the watch would fail on those."""
    teach(lesson(data, "vit.patch=3", stages=("0:4:6", "2:8:12")), tmp_path, quiet=True)
    assert "effective_rank" in (tmp_path / "log.jsonl").read_text()


def test_world_models_may_have_longer_clips_later(data: Path, tmp_path: Path) -> None:
    model = {"channels": 2, "latent": 4, "hidden": 8, "slices": 8}
    plain = lesson(data, family="jepa", model=model, stages=("0:2", "2:6"))
    teach(plain, tmp_path / "run", quiet=True)
    assert '"stage": 2' in (tmp_path / "run" / "log.jsonl").read_text()
    with pytest.raises(UserError, match="stage 2: a world model sees pictures of one size"):
        teach(plain.model_copy(update={"stages": ("0:2", "2:6:8")}), tmp_path / "sized", quiet=True)


@pytest.mark.parametrize(
    ("stages", "words", "told"),
    [
        (("0:4:8", "2:8:18"), [], "stage 2: pictures cannot be shrunk to 18 pixels a side: pixels is 16×16"),
        (("0:4:8", "2:8:14"), [], "stage 2: a picture of 14×14 cannot be cut into patches of 4"),
        (("0:4:8", "2:7:16"), [], "stage 2: 7 frames cannot be cut into tubelets of 2"),
        (("0:4:8", "2:12:16"), [], "stage 2: no episode has the 11 actions of a clip: the longest of 5 has 9"),
        (("0:1:8", "2:8:16"), [], "stage 1: eyes learn from clips of 2 frames or more"),
        (("0:4:8", "2:8"), ["vit.patch=5"], "stage 1: a picture of 8×8 cannot be cut into patches of 5"),
        (GROW, ["sight.size=16"], "stage 1: model.sight.size=16 makes all pictures one size"),
        (("0:4:8", "5:8:16"), [], "the last stage begins at step 5 of train.steps=5: it would never come"),
        (("0:4:8", "3:4:8", "2:8:16"), [], r"the first at step 0: these begin at \[0, 3, 2\]"),
        (("1:4:8", "2:8:16"), [], r"the first at step 0: these begin at \[1, 2\]"),
        (("0:4:8", "2x8x16"), [], "cannot read the stage '2x8x16': write BEGIN:LENGTH:SIZE, for example 9000:64:256"),
    ],
)
def test_a_stage_that_cannot_be_is_refused_before_the_first_step(
    stages: tuple[str, ...], words: list[str], told: str, data: Path, tmp_path: Path, shown: list[Any]
) -> None:
    with pytest.raises(UserError, match=told) as caught:
        teach(lesson(data, *words, stages=stages), tmp_path / "run", quiet=True)
    assert "\n" not in str(caught.value)
    assert not shown and not (tmp_path / "run").exists()


def test_pictures_of_one_size_may_still_get_longer(data: Path, tmp_path: Path, shown: list[Any]) -> None:
    teach(lesson(data, "sight.size=8", stages=("0:4", "2:8")), tmp_path, quiet=True)
    assert shown == [(4, 16, 16)] * 2 + [(8, 16, 16)] * 3


def test_other_stages_are_refused_on_resume(data: Path, tmp_path: Path) -> None:
    teach(lesson(data), tmp_path, quiet=True)
    with pytest.raises(UserError, match="begun with stages="):
        teach(lesson(data, stages=("0:4:8", "3:8:16")), tmp_path, quiet=True, resume=True)


def test_the_command_line_takes_stages(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    keys = [f"model.{word}" for word in WORDS]
    keys += ["train.device=cpu", "train.schedule=cooldown", "train.cooldown=1", "train.final_lr_fraction=0"]
    words = ["train", "vjepa2", "--data", str(data), "--out", run, "--batch", "4", "--quiet", *keys]
    assert main([*words, "--stages", *GROW, "--length", "4", "train.steps=3"]) == 2
    assert "--stages says how long clips are: leave out --length" in capsys.readouterr().err
    assert main([*words, "--stages", *GROW, "train.steps=3"]) == 0
    assert main(["train", "vjepa2", "--out", run, "--resume", "--quiet", "--stages", *GROW, "train.steps=4"]) == 0
    capsys.readouterr()
    assert main(["train", "vjepa2", "--out", run, "--resume", "--quiet", "--stages", "0:4:8"]) == 2
    assert "was begun with --stages ('0:4:8', '2:8:16'), not ('0:4:8',)" in capsys.readouterr().err


def test_a_stage_is_read() -> None:
    assert Stage.read("0:16") == Stage(0, 16, None) and Stage.read("9000:64:256") == Stage(9000, 64, 256)
    for text in ("", "0", "0:", "0:0", "0:4:0", ":4:8", "0:4:8:2", "-1:4:8", "0:4.5"):
        with pytest.raises(UserError, match="BEGIN:LENGTH:SIZE"):
            Stage.read(text)


def _stop_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """An error instead of the loss of that step."""
    loss, calls = VJEPA2.loss, iter(range(100))

    def fail(self: VJEPA2, clip: Any) -> Any:
        if next(calls) == step:
            raise KeyError("stop")
        return loss(self, clip)

    patch.setattr(VJEPA2, "loss", fail)
