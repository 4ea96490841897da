"""A collection in parts: the same episodes whatever the workers, gone on with after any interrupt, none twice."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerworld.cluster import Done, Failure, JobError, Place
from innerworld.data import Store
from innerworld.envs import spec_of
from innerworld.errors import UserError
from innerworld.recipes.parts import Collection, begun, collect_parts, parts_folder

COLLECTION = Collection(env="two_rooms", episodes=20, worlds=3, seed=4, size=32, max_steps=4)


class Here(Place):
    """This process; `order` says which jobs come first, and after `few` of them Ctrl-C is pressed."""

    workers = 1

    def __init__(self, backwards: bool = False, few: int | None = None) -> None:
        self.backwards, self.few, self.did = backwards, few, 0

    def each(self, function: Callable[[Any], Any], jobs: Sequence[Any]) -> Generator[Done[Any], None, None]:
        order = list(enumerate(jobs))
        for index, job in reversed(order) if self.backwards else order:
            if self.did == self.few:
                raise KeyboardInterrupt
            self.did += 1
            yield Done(index, function(job))

    def close(self) -> None:
        """Nothing is held."""


def store(path: Path) -> Store:
    worlds = COLLECTION.make()
    return Store.create(path, spec_of(worlds.single_observation_space, worlds.single_action_space))


def same(a: Path, b: Path) -> bool:
    """Whether they hold the same episodes in the same order."""
    one, two = Store.open(a), Store.open(b)
    if len(one) != len(two) or not np.array_equal(one.seeds, two.seeds):
        return False
    pairs = [(one.episode(i), two.episode(i)) for i in range(len(one))]
    return all(x.action.equal(y.action) and all(x.obs[name].equal(y.obs[name]) for name in x.obs) for x, y in pairs)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "data"
    collect_parts(COLLECTION, store(path), Here())
    return path


def test_every_episode_is_there_once(whole: Path) -> None:
    kept = Store.open(whole)
    assert len(kept) == 20 and len(set(kept.seeds.tolist())) == 20
    first = [kept.episode(i).action[0, 0].tolist() for i in range(20)]
    assert len({tuple(action) for action in first}) == 20, "two parts chose the same actions"
    assert not parts_folder(whole).exists()


def test_the_order_in_which_parts_end_does_not_matter(whole: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    collect_parts(COLLECTION, store(tmp_path / "data"), Here(backwards=True), seen.append)
    assert same(whole, tmp_path / "data")
    assert seen == [0, 2, 8, 14, 20]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("few", [0, 1, 3])
def test_an_interrupted_collection_is_gone_on_with(few: int, backwards: bool, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "data"
    with pytest.raises(UserError, match=r"interrupted: .* of 20 episodes are safe"):
        collect_parts(COLLECTION, store(path), Here(backwards, few))
    assert begun(path) == COLLECTION
    again = Here()
    collect_parts(COLLECTION, Store.open(path), again)
    assert same(whole, path)
    assert again.did == 4 - few, "whole parts are kept"


def test_a_process_killed_while_joining_is_gone_on_with(whole: Path, tmp_path: Path) -> None:
    """The store has some of a part's episodes already."""
    path = tmp_path / "data"
    with pytest.raises(UserError, match="interrupted"):
        collect_parts(COLLECTION, store(path), Here(backwards=True, few=3))
    full = Store.open(whole)
    Store.open(path).add_all([full.episode(i) for i in range(2)], [int(full.seeds[i]) for i in range(2)])
    collect_parts(COLLECTION, Store.open(path), Here())
    assert same(whole, path)


def test_what_killed_workers_left_is_swept_out(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "data"
    with pytest.raises(UserError, match="interrupted"):
        collect_parts(COLLECTION, store(path), Here(few=0))
    (parts_folder(path) / "000000.dead.tmp").mkdir()
    collect_parts(COLLECTION, Store.open(path), Here())
    assert same(whole, path) and not parts_folder(path).exists()


def test_parts_of_another_collection_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with pytest.raises(UserError, match="interrupted"):
        collect_parts(COLLECTION, store(path), Here(few=1))
    other = COLLECTION.model_copy(update={"seed": 5})
    with pytest.raises(UserError, match="parts of a collection with seed=4, not 5"):
        collect_parts(other, Store.open(path), Here())
    patient = COLLECTION.model_copy(update={"timeout_s": 600.0, "restarts": 9})
    collect_parts(patient, Store.open(path), Here())
    assert len(Store.open(path)) == 20


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "[]", '{"episodes": 0}'])
def test_a_damaged_plan_is_told(content: str, tmp_path: Path) -> None:
    path = tmp_path / "data"
    with pytest.raises(UserError, match="interrupted"):
        collect_parts(COLLECTION, store(path), Here(few=1))
    (parts_folder(path) / "collection.json").write_text(content)
    for look in (lambda: begun(path), lambda: collect_parts(COLLECTION, Store.open(path), Here())):
        with pytest.raises(UserError, match=r"collection\.json"):
            look()


def test_more_episodes_can_be_added(whole: Path, tmp_path: Path) -> None:
    kept = store(tmp_path / "data")
    collect_parts(COLLECTION, kept, Here())
    collect_parts(COLLECTION.model_copy(update={"seed": 9, "before": 20}), kept, Here())
    assert len(kept) == 40 and len(set(kept.seeds.tolist())) == 40
    assert np.array_equal(kept.seeds[:20], Store.open(whole).seeds)


@pytest.mark.parametrize(("trace", "error"), [("", UserError), ("Traceback", JobError)])
def test_a_part_that_fails_names_itself(trace: str, error: type[Exception], tmp_path: Path) -> None:
    class Fails(Here):
        def each(self, function: Callable[[Any], Any], jobs: Sequence[Any]) -> Generator[Done[Any], None, None]:
            yield Done(2, None, Failure("the world fell over", trace))

    with pytest.raises(error, match="part 2 of 4: the world fell over"):
        collect_parts(COLLECTION, store(tmp_path / "data"), Fails())


def test_a_folder_that_is_not_shared_is_noticed(tmp_path: Path) -> None:
    class Elsewhere(Here):
        def each(self, function: Callable[[Any], Any], jobs: Sequence[Any]) -> Generator[Done[Any], None, None]:
            yield Done(0, "node-7")

    with pytest.raises(UserError, match="was written on node-7 and cannot be seen here"):
        collect_parts(COLLECTION, store(tmp_path / "data"), Elsewhere())
