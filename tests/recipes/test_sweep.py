"""A sweep is a grid of independent runs: checked before it begins, gone on with, ranked over seeds, failures told."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from innerworld import families
from innerworld.cluster import Done, Place
from innerworld.cluster.place import attempt
from innerworld.data import Store
from innerworld.errors import UserError
from innerworld.recipes.lesson import Lesson, read
from innerworld.recipes.sweep import Outcome, choices, rank, sweep, trials
from innerworld.testing.world_model import random_clip
from innerworld.training import TrainConfig
from innerworld.types import Spec

SPEC = Spec({"pixels": (16, 16, 3), "state": (2,)}, 2)
TINY = {"channels": 2, "latent": 4, "hidden": 8, "slices": 8}
TRAIN = TrainConfig(steps=3, log_every=1, check_every=3, save_every=3, device="cpu")


class Here(Place):
    """This process, until Ctrl-C after `few` runs."""

    workers = 1

    def __init__(self, few: int | None = None) -> None:
        self.few, self.did = few, 0

    def each(self, function: Callable[[Any], Any], jobs: Sequence[Any]) -> Generator[Done[Any], None, None]:
        for index, job in enumerate(jobs):
            if self.did == self.few:
                raise KeyboardInterrupt
            self.did += 1
            yield attempt(function, index, job)

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    path = tmp_path_factory.mktemp("store") / "data"
    store = Store.create(path, SPEC)
    for seed in range(10):
        store.add(random_clip(SPEC, 1, 9, seed))
    plain = {"data": str(path), "batch": 4, "length": 3, "model": TINY, "train": TRAIN.model_dump()}
    model = trials(Lesson.model_validate(plain | {"model": {**_all(), **TINY}}), {})[0].lesson
    return model


def _all() -> dict[str, Any]:
    from innerworld import models

    return models.config("jepa").model_dump(mode="json")


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("train.lr=1e-3,3e-4", [1e-3, 3e-4]),
        ("model.predictor=mlp,transformer", ["mlp", "transformer"]),
        ("train.betas=[0.9,0.99],[0.8,0.9]", [[0.9, 0.99], [0.8, 0.9]]),
        ("model.detach=true,false", [True, False]),
        ("batch=8", [8]),
    ],
)
def test_values_are_read_apart(word: str, values: list[Any]) -> None:
    assert choices(word) == (word.partition("=")[0], values)


@pytest.mark.parametrize("word", ["train.lr=", "train.lr=1,,2", "train.lr=1,2,1"])
def test_values_that_cannot_be_meant(word: str) -> None:
    with pytest.raises(UserError):
        choices(word)


def test_every_combination_and_seed_is_a_run(base: Lesson) -> None:
    made = trials(base, {"train.lr": [1e-3, 3e-4], "model.latent": [4, 8]}, seeds=2)
    assert len(made) == len({trial.folder for trial in made}) == 8
    last = made[-1]
    assert last.folder == "train.lr=0.0003,model.latent=8,seed=1"
    assert (last.lesson.train.lr, last.lesson.model["latent"], last.lesson.train.seed) == (3e-4, 8, 1)


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        ({"model.latnt": [4]}, "Did you mean 'model.latent'"),
        ({"train.lr": [1e-3, -1.0]}, "train.lr: input should be greater than 0"),
        ({"model.latent": [4, "big"]}, "model.latent: input should be a valid integer"),
    ],
)
def test_a_mistake_is_told_before_anything_begins(base: Lesson, grid: dict[str, list[Any]], told: str) -> None:
    with pytest.raises(UserError, match=told):
        trials(base, grid)


def test_a_sweep_goes_on_and_grows(base: Lesson, tmp_path: Path) -> None:
    made = trials(base, {"train.lr": [1e-3, 3e-4]}, seeds=2)
    with pytest.raises(UserError, match="interrupted: 1 of 4 runs are done"):
        sweep(made, tmp_path, Here(few=1))
    rest = Here()
    outcomes = sweep(made, tmp_path, rest)
    assert rest.did == 3 and all(math.isfinite(outcome.metrics["loss"]) for outcome in outcomes)
    more = Here()
    again = sweep(trials(base, {"train.lr": [1e-3, 3e-4, 1e-4]}, seeds=2), tmp_path, more)
    assert more.did == 2 and [outcome.metrics for outcome in again[:4]] == [outcome.metrics for outcome in outcomes]
    assert read(tmp_path / made[0].folder).train.lr == 1e-3
    last = json.loads((tmp_path / made[0].folder / "log.jsonl").read_text().splitlines()[-1])
    assert outcomes[0].metrics["loss"] == last["loss"]


def test_eyes_are_swept_too(base: Lesson, tmp_path: Path) -> None:
    small = ["vit.depth=1", "vit.dim=24", "vit.heads=2", "vit.mlp=24", "global_size=16", "local_size=8", "slices=16"]
    model = families.config("lejepa", "tiny", [*small, "projector=[16,8]"]).model_dump(mode="json")
    eyes = base.model_copy(update={"family": "lejepa", "model": model})
    with pytest.raises(UserError, match=r"Did you mean 'model.weight'"):
        trials(eyes, {"model.wieght": [0.1]})
    outcomes = sweep(trials(eyes, {"model.weight": [0.1, 0.5]}), tmp_path, Here())
    assert [outcome.failure for outcome in outcomes] == ["", ""]
    best = rank(outcomes, "effective_rank", highest=True)
    assert best[0].mean > best[1].mean > 1


def test_a_run_that_fails_stops_no_other(base: Lesson, tmp_path: Path) -> None:
    outcomes = sweep(trials(base, {"length": [3, 100]}), tmp_path, Here())
    assert not outcomes[0].failure and "100" in outcomes[1].failure
    assert [each.settings["length"] for each in rank(outcomes, "loss")] == [3, 100]


def test_the_best_comes_first(base: Lesson) -> None:
    made = trials(base, {"train.lr": [1e-3, 3e-4, 1e-4]}, seeds=2)
    losses = [3.0, 1.0, 0.5, 2.0, None, None]
    outcomes = [
        Outcome(trial, {} if loss is None else {"loss": loss}, "" if loss else "it broke")
        for trial, loss in zip(made, losses, strict=True)
    ]
    ranked = rank(outcomes, "loss")
    assert [each.settings["train.lr"] for each in ranked] == [3e-4, 1e-3, 1e-4]
    assert (ranked[0].mean, ranked[1].mean) == (1.25, 2.0)
    assert ranked[1].spread == pytest.approx(math.sqrt(2)) and math.isnan(ranked[2].mean)
    assert [each.settings["train.lr"] for each in rank(outcomes, "loss", highest=True)] == [1e-3, 3e-4, 1e-4]
    with pytest.raises(UserError, match=r"no run logs 'los'. Did you mean 'loss'"):
        rank(outcomes, "los")
