"""Eyes are taught as world models are: from any store with pictures, resumed exactly, watched for collapse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from innerworld import checkpoint, families
from innerworld.data import Store
from innerworld.errors import UserError
from innerworld.evaluate.collapse import CollapseWatch
from innerworld.models import JEPA
from innerworld.perception import ENCODERS, VJEPA2, Encoder, Tokenizer
from innerworld.recipes.lesson import Lesson, actions, teach
from innerworld.recipes.stages import load_learner
from innerworld.testing.world_model import random_clip
from innerworld.training import TrainConfig
from innerworld.types import Clip, Spec

ACTING = Spec({"pixels": (16, 16, 3), "state": (2,)}, 2)
FILM = Spec({"pixels": (16, 16, 3)}, 0)
TRAIN = TrainConfig(steps=4, lr=1e-3, log_every=1, check_every=2, save_every=2, device="cpu")
SMALL = {
    "ijepa": ["masks.targets=1", "masks.target_scale=[0.2,0.3]"],
    "vjepa": [],
    "vjepa2": [],
    "lejepa": ["global_size=16", "local_size=8", "projector=[16,8]", "local_views=2", "slices=16"],
}

EYES = [name for name, kind in ENCODERS.items() if not issubclass(kind, Tokenizer)]


def store(path: Path, spec: Spec) -> Path:
    made = Store.create(path, spec)
    for seed in range(6):
        made.add(random_clip(spec, 1, 9, seed))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store(tmp_path_factory.mktemp("acting") / "data", ACTING)


def settings(name: str, *words: str) -> dict[str, Any]:
    if name not in EYES:
        return families.config(name, "tiny", ["patch=4", *words]).model_dump(mode="json")
    small = ["vit.depth=1", "vit.dim=24", "vit.heads=2", "vit.mlp=24", "vit.patch=4", *SMALL[name], *words]
    if name != "lejepa":
        small += ["predictor.dim=24", "predictor.heads=2", "predictor.depth=1", "predictor.mlp=24"]
    return families.config(name, "tiny", small).model_dump(mode="json")


def lesson(data: Path, name: str = "vjepa2", **other: Any) -> Lesson:
    plain = {"family": name, "data": str(data), "batch": 4, "length": 4, "model": settings(name), "workers": 0}
    return Lesson.model_validate(plain | {"train": TRAIN.model_dump()} | other)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_is_taught_watched_and_loaded(name: str, data: Path, tmp_path: Path) -> None:
    taught = teach(lesson(data, name), tmp_path, quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    watched = {"effective_rank", "std_mean", "alignment", "uniformity", "probe_r2", "loss"}
    watched |= {"spread"} if name in EYES else {"pixels"}
    assert watched <= rows[-1].keys() and rows[-1]["step"] == 3
    loaded = checkpoint.load(tmp_path, kind=Encoder)
    assert type(loaded) is ENCODERS[name] and loaded.config == taught.config
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in taught.state_dict().items())


def test_actions_are_not_needed(tmp_path: Path) -> None:
    teach(lesson(store(tmp_path / "film", FILM)), tmp_path / "run", quiet=True)
    assert "probe_r2" not in (tmp_path / "run" / "log.jsonl").read_text()  # there is no state to read off


def test_length_is_told_in_frames(data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert actions(lesson(data, length=4)) == 3
    assert actions(Lesson(length=4)) == 4  # of a world model in actions
    seen = []
    loss = VJEPA2.loss
    monkeypatch.setattr(VJEPA2, "loss", lambda self, clip: seen.append(clip) or loss(self, clip))
    teach(lesson(data, train=TRAIN.model_copy(update={"steps": 1}).model_dump()), tmp_path, quiet=True)
    assert {clip.obs["pixels"].shape[:2] for clip in seen} == {(4, 4)}
    with pytest.raises(UserError, match="2 frames or more"):
        teach(lesson(data, length=1), tmp_path / "short", quiet=True)


@pytest.mark.parametrize("name", ["vjepa2", "lejepa", "pca", "vq", "mae"])
def test_a_resumed_lesson_ends_in_the_same_weights(name: str, data: Path, tmp_path: Path) -> None:
    teach(lesson(data, name), tmp_path / "whole", quiet=True)
    half = lesson(data, name, train=TRAIN.model_copy(update={"steps": 2}).model_dump())
    teach(half, tmp_path / "parts", quiet=True)
    torch.manual_seed(99)
    teach(lesson(data, name), tmp_path / "parts", quiet=True, resume=True)
    whole, parts = (checkpoint.load(tmp_path / run).state_dict() for run in ("whole", "parts"))
    assert all(torch.equal(value, parts[key]) for key, value in whole.items())


def test_eyes_are_no_world_model_and_are_told_so(data: Path, tmp_path: Path) -> None:
    once = TRAIN.model_copy(update={"steps": 1}).model_dump()
    teach(lesson(data, train=once), tmp_path, quiet=True)
    with pytest.raises(UserError, match="holds a 'vjepa2', which is no WorldModel"):
        load_learner(tmp_path)
    with pytest.raises(UserError, match="which is no JEPA"):
        checkpoint.load(tmp_path, kind=JEPA)


def test_pictures_are_needed(tmp_path: Path) -> None:
    spec = Spec({"state": (2,)}, 2)
    with pytest.raises(UserError, match="looks through one image sensor"):
        teach(lesson(store(tmp_path / "blind", spec)), tmp_path / "run", quiet=True)


@pytest.mark.parametrize("name", EYES)
def test_a_collapse_raises_the_alarm_and_a_still_scene_does_not(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Frames that differ in a few pixels are nearly one point to eyes that see well."""
    torch.manual_seed(0)
    encoder = families.build(name, settings(name), FILM)
    assert isinstance(encoder, Encoder)
    frames = random_clip(FILM, 1, 1).obs["pixels"][:, :1].repeat(6, 4, 1, 1, 1)
    frames[:, :, 4:8, 4:8] = random_clip(FILM, 6, 3).obs["pixels"][:, :, 4:8, 4:8]
    watch = CollapseWatch(encoder, Clip({"pixels": frames}, torch.zeros(6, 3, 0), torch.zeros(6, 3), torch.zeros(6, 3)))
    alive = [watch() for _ in range(3)][-1]
    assert not caplog.messages and alive["effective_rank"] > 3 and alive["uniformity"] < -1
    with torch.no_grad():
        for value in encoder.vision()[0].patches.parameters():
            value.zero_()
    dead = [watch() for _ in range(3)][-1]
    assert len(caplog.messages) == 1 and "the features have collapsed" in caplog.text
    assert dead["effective_rank"] < 1.5 and dead["uniformity"] > -1e-3 and dead["alignment"] < 1e-3
