"""A lesson can be interrupted anywhere and repeated exactly; a folder holds one lesson."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from innerworld import checkpoint
from innerworld.data import Clips, Store
from innerworld.errors import UserError
from innerworld.recipes.lesson import Lesson, episodes, read, seen, teach
from innerworld.testing.world_model import random_clip
from innerworld.training import Interrupted, TrainConfig
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (16, 16, 3), "state": (2,)}, 2)
TINY = {"channels": 2, "latent": 4, "hidden": 8, "slices": 8, "dropout": 0.1, "predictor": "transformer", "heads": 2}
TRAIN = TrainConfig(steps=8, lr=1e-3, warmup=2, log_every=1, check_every=4, save_every=2, device="cpu", seed=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "data"
    store = Store.create(path, SPEC)
    for seed in range(10):
        store.add(random_clip(SPEC, 1, 9, seed))
    return path


def lesson(data: Path, **other: Any) -> Lesson:
    plain = {
        "data": str(data),
        "batch": 4,
        "length": 3,
        "model": TINY | {"head_dim": 4},
        "workers": 0,
        "train": TRAIN.model_dump(),
    }
    return Lesson.model_validate(plain | other)


def weights(folder: Path) -> dict[str, Tensor]:
    return checkpoint.load(folder).state_dict()


def interrupt_at(step: int, error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, when the batch of that training step is drawn."""
    plain = Clips.batch

    def batch(self: Clips, at: int) -> Clip:
        if at == step:
            monkeypatch.setattr(Clips, "batch", plain)
            raise error
        return plain(self, at)

    monkeypatch.setattr(Clips, "batch", batch)


@pytest.mark.parametrize(("error", "raised"), [(KeyboardInterrupt, Interrupted), (MemoryError, MemoryError)])
def test_an_interrupted_lesson_ends_in_the_same_weights(error, raised, data, tmp_path, monkeypatch) -> None:
    """Asked to stop, it saves first; killed by an error, it goes on from the last checkpoint."""
    teach(lesson(data), tmp_path / "whole", quiet=True)
    interrupt_at(5, error, monkeypatch)
    with pytest.raises(raised):
        teach(lesson(data), tmp_path / "parts", quiet=True)
    torch.manual_seed(99)  # another process would be elsewhere
    teach(lesson(data), tmp_path / "parts", quiet=True, resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys() and all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_a_lesson_that_is_done_is_only_loaded(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taught = teach(lesson(data), tmp_path / "run", quiet=True)
    interrupt_at(1, AssertionError, monkeypatch)  # no step is taken
    again = teach(lesson(data), tmp_path / "run", quiet=True, resume=True)
    assert not again.training
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in taught.state_dict().items())


def test_the_same_lesson_gives_the_same_weights_and_another_seed_others(data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        torch.manual_seed(hash(name) % 1000)
        train = TRAIN.model_copy(update={"seed": seed, "steps": 2})
        teach(lesson(data, train=train.model_dump()), tmp_path / name, quiet=True)
    a, b, c = (weights(tmp_path / name)["eyes.out.weight"] for name in "abc")
    assert torch.equal(a, b) and not torch.allclose(a, c, atol=1e-2)


def test_the_folder_tells_the_whole_story(data: Path, tmp_path: Path) -> None:
    teach(lesson(data), tmp_path / "run", quiet=True, command="innerworld train jepa")
    assert read(tmp_path / "run") == lesson(data)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["command"] == "innerworld train jepa"
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row][-1] == 7
    assert any("effective_rank" in row and "probe_r2" in row for row in rows)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"batch": 5}, "begun with batch=4, not 5"),
        ({"model": TINY | {"head_dim": 2}}, "begun with model.head_dim=4, not 2"),
        ({"train": TRAIN.model_copy(update={"lr": 0.1}).model_dump()}, "begun with train.lr=0.001, not 0.1"),
        ({"sensors": ("state",)}, "begun with sensors="),
    ],
)
def test_another_lesson_in_the_same_folder_is_refused(other: dict, sentence: str, data: Path, tmp_path: Path) -> None:
    first = lesson(data, train=TRAIN.model_copy(update={"steps": 1}).model_dump())
    teach(first, tmp_path / "run", quiet=True)
    changed = {"train": first.train.model_dump()} | other
    with pytest.raises(UserError, match=sentence):
        teach(lesson(data, **changed), tmp_path / "run", quiet=True, resume=True)
    with pytest.raises(UserError, match="already holds a run"):
        teach(first, tmp_path / "run", quiet=True)
    assert read(tmp_path / "run") == first


def test_a_lesson_begins_with_the_weights_of_another(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other settings of what does not shape them; it goes on when the run that it began with is gone."""
    first = TRAIN.model_copy(update={"steps": 3}).model_dump()
    teach(lesson(data, train=first), tmp_path / "first", quiet=True)
    barely = TRAIN.model_copy(update={"steps": 4, "lr": 1e-9, "weight_decay": 0.0, "seed": 5}).model_dump()
    other = TINY | {"head_dim": 4, "dropout": 0.2}
    second = lesson(data, train=barely, model=other, init_from=str(tmp_path / "first"))
    interrupt_at(3, KeyboardInterrupt, monkeypatch)
    with pytest.raises(Interrupted):
        teach(second, tmp_path / "second", quiet=True)
    shutil.rmtree(tmp_path / "first")
    learnt = teach(second, tmp_path / "second", quiet=True, resume=True)
    assert read(tmp_path / "second") == second and checkpoint.read_header(tmp_path / "second").step == 4
    drawn = teach(lesson(data, train=barely, model=other), tmp_path / "drawn", quiet=True)
    before = teach(lesson(data, train=first), tmp_path / "again", quiet=True).state_dict()["eyes.out.weight"]
    assert torch.allclose(learnt.state_dict()["eyes.out.weight"], before, atol=1e-6)
    assert not torch.allclose(drawn.state_dict()["eyes.out.weight"], before, atol=1e-2)
    with pytest.raises(UserError, match=r"no checkpoint in .*first"):
        teach(second, tmp_path / "third", quiet=True)


def test_what_a_tokenizer_found_in_its_first_batch_is_kept(data: Path, tmp_path: Path) -> None:
    """A lesson that begins with its weights sees other pictures, and does not find its directions anew."""
    store = Store.create(tmp_path / "dark", SPEC)
    for seed in range(10):
        clip = random_clip(SPEC, 1, 9, seed)
        clip.obs["pixels"] = clip.obs["pixels"] // 9 * torch.tensor([1, 0, 3], dtype=torch.uint8)
        store.add(clip)
    own = {"family": "pca", "model": {"patch": 4, "width": 8}, "sensors": ("pixels",)}
    train = TRAIN.model_copy(update={"steps": 1, "lr": 1e-9, "weight_decay": 0.0}).model_dump()
    bright = teach(lesson(data, train=train, **own), tmp_path / "a", quiet=True).state_dict()
    begun = lesson(tmp_path / "dark", train=train, init_from=str(tmp_path / "a"), **own)
    found = lesson(tmp_path / "dark", train=train, **own)
    kept = teach(begun, tmp_path / "b", quiet=True).state_dict()
    anew = teach(found, tmp_path / "c", quiet=True).state_dict()
    assert torch.allclose(kept["mean"], bright["mean"], atol=1e-5)
    assert not torch.allclose(anew["mean"], bright["mean"], atol=0.1)


def test_workers_change_nothing_and_may_change(data: Path, tmp_path: Path) -> None:
    teach(lesson(data), tmp_path / "none", quiet=True)
    first = TRAIN.model_copy(update={"steps": 4}).model_dump()
    teach(lesson(data, workers=2, train=first), tmp_path / "some", quiet=True)
    teach(lesson(data, workers=1), tmp_path / "some", quiet=True, resume=True)
    a, b = weights(tmp_path / "none"), weights(tmp_path / "some")
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def test_the_sensor_that_is_probed(data: Path, tmp_path: Path) -> None:
    once = TRAIN.model_copy(update={"steps": 1}).model_dump()
    for sensor, probed in (("state", True), ("none", False)):
        teach(lesson(data, watch_sensor=sensor, train=once), tmp_path / sensor, quiet=True)
        assert ("probe_r2" in (tmp_path / sensor / "log.jsonl").read_text()) == probed
    with pytest.raises(UserError, match=r"no sensor 'stat' to probe. Did you mean 'state'"):
        teach(lesson(data, watch_sensor="stat"), tmp_path / "typo", quiet=True)


def test_steps_may_grow(data: Path, tmp_path: Path) -> None:
    for steps in (2, 4):
        train = TRAIN.model_copy(update={"steps": steps}).model_dump()
        teach(lesson(data, train=train), tmp_path / "run", quiet=True, resume=steps > 2)
    assert read(tmp_path / "run").train.steps == 4
    assert '"step": 3' in (tmp_path / "run" / "log.jsonl").read_text()


def test_what_is_seen_and_what_is_held_out(data: Path) -> None:
    store = Store.open(data)
    assert seen(lesson(data), store) == SPEC.only("pixels")  # images where there are some
    assert seen(lesson(data, sensors=("state",)), store) == SPEC.only("state")
    with pytest.raises(UserError, match="no sensor 'pixel'"):
        seen(lesson(data, sensors=("pixel",)), store)
    learn, held_out = episodes(lesson(data, held_out=0.3), store)
    assert len(held_out) == 3 and sorted([*learn, *held_out]) == list(range(10))
    assert episodes(lesson(data, held_out=0.3, split_seed=1), store)[1].tolist() != held_out.tolist()


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        read(tmp_path)
    for text, sentence in (("{", "cannot read"), ("[]", "not a JSON object"), ('{"lesson": {"bach": 1}}', "'batch'")):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(UserError, match=sentence):
            read(tmp_path)


def test_a_run_and_its_data_can_be_moved_together(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(data, here / "data")
    monkeypatch.chdir(here)
    teach(lesson(Path("data")), Path("runs/one"), quiet=True)
    monkeypatch.chdir(tmp_path)
    here.rename(there)
    assert len(Store.open(read("there/runs/one").data)) == len(Store.open(data))
    teach(lesson(there / "data"), there / "runs/one", quiet=True, resume=True)  # the same data by another name
