"""A plan holds all that was decided; it may grow, and a folder with another one is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from innerworld.data import Store
from innerworld.errors import UserError
from innerworld.recipes.compare.plan import Plan, begun, read_worlds, settle
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

Small = Callable[..., Plan]


def test_what_was_decided_is_kept(small: Small, tmp_path: Path) -> None:
    plan = settle(small(budget="5updates"), tmp_path)
    assert begun(tmp_path) == plan
    assert plan.updates == {entry.name: {"two_rooms": 5} for entry in plan.entries}
    assert [str(cell) for cell in plan.cells()][:2] == [
        f"{plan.entries[0].name} on two_rooms, seed 0",
        "small-rssm on two_rooms, seed 0",
    ]


def test_measured_seconds_are_not_measured_again(small: Small, tmp_path: Path) -> None:
    first = settle(small(budget="9s"), tmp_path)
    assert settle(small(budget="9s"), tmp_path) == first
    assert all(count >= 1 for by_world in first.updates.values() for count in by_world.values())


def test_a_plan_may_grow(small: Small, tmp_path: Path) -> None:
    settle(small(entries=["jepa"], questions=["probing"], seeds=1), tmp_path)
    more = settle(small(entries=["a=jepa", "jepa"], worlds=["two_rooms", "paddle"], seeds=2), tmp_path)
    assert len(more.cells()) == 8


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"budget": "4updates"}, "holds a plan with budget=3updates, not 4updates"),
        ({"terms": ["exam.goals=7"]}, "holds a plan with terms.exam.goals=2, not 7"),
        ({"entries": ["jepa"]}, "among its entries: give that, too"),
        ({"worlds": ["paddle"]}, "'two_rooms' among its worlds"),
        ({"questions": ["probing"]}, "asks 'prediction'"),
        ({"seeds": 1}, "2 seeds, not 1"),
    ],
)
def test_another_plan_is_refused(small: Small, tmp_path: Path, changed: dict, says: str) -> None:
    settle(small(), tmp_path)
    with pytest.raises(UserError, match=says):
        settle(small(**changed), tmp_path)


def test_an_entry_of_that_name_must_be_the_same(small: Small, tmp_path: Path) -> None:
    settle(small(entries=["a=jepa"]), tmp_path)
    with pytest.raises(UserError, match=r"a has .*latent"):
        settle(small(entries=["a=jepa latent=5"]), tmp_path)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"questions": ["probin"]}, "unknown question 'probin'. Did you mean 'probing'"),
        ({"worlds": ["two_roms"]}, "two_roms"),
        ({"budget": "soon"}, "cannot read the budget"),
    ],
)
def test_what_cannot_be_compared(small: Small, tmp_path: Path, wrong: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        settle(small(**wrong), tmp_path)
    assert begun(tmp_path) is None


def test_sensors_that_a_world_lacks(small: Small, tmp_path: Path) -> None:
    plan = small()
    wrong = plan.model_copy(update={"terms": plan.terms.model_copy(update={"sensors": ("depth",)})})
    with pytest.raises(UserError, match="two_rooms: no sensor 'depth'"):
        settle(wrong, tmp_path)


def test_a_world_may_be_a_folder(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "own", Spec({"pixels": (16, 16, 3)}, 2))
    store.add(random_clip(store.spec, 1, 5, 0))
    own, named = read_worlds([str(tmp_path / "own"), "paddle"])
    assert (own.name, own.store, named.name, named.store) == ("own", str(tmp_path / "own"), "paddle", "")
    with pytest.raises(UserError, match="folder without a store"):
        read_worlds([str(tmp_path)])
    with pytest.raises(UserError, match="two of the worlds are called 'paddle'"):
        read_worlds(["paddle", "paddle"])
    with pytest.raises(UserError, match="on which worlds"):
        read_worlds([])


def test_a_plan_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        begun(tmp_path)
