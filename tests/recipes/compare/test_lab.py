"""What a lab makes is of the data's world, the same for all of one seed, and closed with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerworld import models
from innerworld.data import Store
from innerworld.errors import UserError
from innerworld.recipes.compare.cell import data_folder, gather
from innerworld.recipes.compare.lab import Made, lab
from innerworld.recipes.compare.plan import Cell, Plan
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

Small = Callable[..., Plan]


@pytest.fixture
def made(small: Small, tmp_path: Path) -> Made:
    plan = small()
    cell = Cell(plan.entries[0], plan.worlds[0], 0, 1)
    gather(tmp_path, plan, (cell.world, 0))
    store = Store.open(data_folder(tmp_path, cell.world, 0))
    assert len(store) == 8 and store.meta.about.seed == 0
    model = models.build("jepa", cell.entry.model, store.spec.only("pixels"))
    return lab(tmp_path, plan, cell, model, store, np.arange(8))


def test_tasks_are_of_the_world_and_always_the_same(made: Made) -> None:
    with closing(made):
        worlds = made.lab.goal_worlds(2)
        one, other = made.lab.tasks(worlds), made.lab.tasks(worlds)
        assert np.array_equal(one.start, other.start) and len(one.goal) == 2
        oracle = made.lab.oracle(worlds)
        assert oracle is not None and made.lab.agent(oracle).model is oracle


def test_what_is_the_same_for_all_is_found_once(made: Made) -> None:
    calls: list[int] = []

    def find() -> dict[str, float]:
        calls.append(1)
        return {"chance": 0.25}

    assert made.lab.once("control", find) == made.lab.once("control", find) == {"chance": 0.25} and len(calls) == 1


def test_random_weights_are_others(made: Made) -> None:
    one, other = made.lab.untaught(), made.lab.untaught()
    for name, value in one.state_dict().items():
        assert np.array_equal(value.numpy(), other.state_dict()[name].numpy())


def test_worlds_are_closed_with_it(made: Made) -> None:
    worlds: Any = made.lab.worlds(2)
    varied: Any = made.lab.varied["door"](2)
    assert worlds.num_envs == varied.num_envs == 2 and not worlds.closed
    made.close()
    assert worlds.closed and varied.closed


def test_a_log_of_no_world_has_none(small: Small, tmp_path: Path) -> None:
    spec = Spec({"pixels": (32, 32, 3)}, 2)
    store = Store.create(tmp_path / "log", spec)
    store.add(random_clip(spec, 1, 5, 0))
    plan = small(worlds=[tmp_path / "log"])
    model = models.build("jepa", plan.entries[0].model, spec)
    nowhere = lab(tmp_path, plan, Cell(plan.entries[0], plan.worlds[0], 0, 1), model, store, np.arange(1)).lab
    with pytest.raises(UserError, match="no world"):
        nowhere.worlds(1)
    with pytest.raises(UserError, match="names no environment"):
        nowhere.goal_worlds(1)
    assert nowhere.varied == {}
