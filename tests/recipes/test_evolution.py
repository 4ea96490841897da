"""A controller is evolved for a taught model, kept beside its run, judged in the world; interrupted, it goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from innerworld import checkpoint
from innerworld.data import About, Store, collect
from innerworld.data.explore import Smooth
from innerworld.envs import make, spec_of
from innerworld.errors import UserError
from innerworld.policy.evolution import CMAConfig
from innerworld.recipes import evolution as recipe
from innerworld.recipes.believer import Believer
from innerworld.recipes.evolution import Evolution, evolve_run, load_controller
from innerworld.recipes.lesson import Lesson, read, teach
from innerworld.training import TrainConfig
from innerworld.world import WorldModel

pytest.importorskip("cma")
FEW = Evolution(generations=2, cma=CMAConfig(population=4), rollouts=2, horizon=3, context=2)
QUICK: dict[str, Any] = {"judged": 2, "worlds": 2, "quiet": True}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A poor model of a pendulum, of blocks of two actions."""
    folder = tmp_path_factory.mktemp("evolution")
    envs = make("Pendulum-v1", 4, sensors=["state"], max_steps=12)
    spec = spec_of(envs.single_observation_space, envs.single_action_space)
    about = About(env="Pendulum-v1", policy="smooth", seed=0, more={"max_steps": 12})
    store = Store.create(folder / "data", spec, about)
    collect(envs, Smooth(spec), 8, store)
    envs.close()
    lesson = Lesson(
        family="world_models",
        data=str(store.path),
        batch=4,
        length=3,
        frame_skip=2,
        workers=0,
        model={"z": 4, "hidden": 8, "units": 8, "bins": 41},
        train=TrainConfig(steps=3, device="cpu"),
    )
    teach(lesson, folder / "run", quiet=True)
    return folder / "run"


@pytest.fixture
def run(taught: Path, tmp_path: Path) -> Path:
    """A copy of its own."""
    shutil.copytree(taught.parent, tmp_path / "all")
    return tmp_path / "all" / "run"


def test_what_is_found_is_judged_and_kept(run: Path) -> None:
    values = evolve_run(run, FEW, **QUICK)
    assert values["parameters"] == (4 + 8 + 1) * 1
    assert values["world"].keys() == {"controller", "random"}
    assert all(found["episodes"] == 2 and found["return"] < 0 for found in values["world"].values())
    store = Store.open(run.parent / "data")
    returns = [float(store.episode(i).reward.sum()) for i in range(len(store))]
    assert values["store"]["episodes"] == 8 and values["store"]["return"] == pytest.approx(np.mean(returns))
    assert values["dream"]["episodes"] == 64
    home = run / "evolved-dream"
    assert json.loads((home / "results.json").read_text())["world"] == values["world"]
    world = checkpoint.load(run, kind=WorldModel)
    policy = load_controller(home, world, read(run))
    action = policy(world.encode({"state": torch.zeros(3, 3)}))
    assert action.shape == (3, 2) and torch.equal(action[:, 0], action[:, 1])


def test_an_interrupted_search_goes_on_as_if_it_had_not_been(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(run, run.parent / "other")
    three = FEW.model_copy(update={"generations": 3})
    whole = evolve_run(run, three, **QUICK)
    evolve_run(other, FEW, **QUICK)
    dreamt = recipe.dream_returns
    asked: list[int] = []

    def interrupted(*given: Any) -> Any:
        asked.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "dream_returns", interrupted)
    with pytest.raises(UserError, match="interrupted after 2 generations: the same command goes on"):
        evolve_run(other, three, **QUICK)
    monkeypatch.setattr(recipe, "dream_returns", lambda *given: asked.append(1) or dreamt(*given))
    rest = evolve_run(other, three, **QUICK)
    assert len(asked) == 1 + 1 + 1  # in vain, the third generation, and the promise of what was found
    assert rest["world"] == whole["world"] and rest["dream"] == whole["dream"]


def test_other_settings_do_not_go_on(run: Path) -> None:
    evolve_run(run, FEW, **QUICK)
    shorter = evolve_run(run, FEW, max_steps=5, **QUICK)  # which does not change the dream
    assert shorter["world"]["controller"]["length"] == 5
    with pytest.raises(UserError, match="was begun with horizon=3, not 4"):
        evolve_run(run, FEW.model_copy(update={"horizon": 4}), **QUICK)
    (run / "evolved-dream" / "controller.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"cannot read .*controller\.safetensors"):
        evolve_run(run, FEW, **QUICK)


def test_in_the_world_controllers_are_judged_by_the_same_episodes(run: Path) -> None:
    values = evolve_run(run, FEW.model_copy(update={"where": "world"}), **QUICK)
    assert Path(values["controller"]).name == "evolved-world"
    rows = json.loads((run / "evolved-world" / "generations.json").read_text())["generations"]
    assert len(rows) == 2 and len(rows[0]["fitness"]) == 4 and len(set(rows[0]["fitness"])) > 1


@pytest.mark.parametrize(
    ("change", "env", "words"),
    [
        ({"squash": ("tanh", "tanh")}, None, "squash names 2"),
        ({"tau": 2.0, "likely": True}, None, "leave out one"),
        ({"context": 99}, None, "no episode has"),
        ({}, "CartPole-v1", "was taught with"),
        ({}, "Acrobot-v1", "was taught with"),
    ],
)
def test_what_does_not_fit_is_told(run: Path, change: dict[str, Any], env: str | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        evolve_run(run, FEW.model_copy(update=change), env, **QUICK)


def test_a_temperature_is_for_the_dream_alone(run: Path) -> None:
    wild = evolve_run(run, FEW.model_copy(update={"tau": 5.0}), **QUICK)
    shutil.rmtree(run / "evolved-dream")
    calm = evolve_run(run, FEW.model_copy(update={"tau": 0.2}), **QUICK)
    assert wild["dream"] != calm["dream"]


def test_a_folder_without_a_controller_is_told(run: Path) -> None:
    world = checkpoint.load(run, kind=WorldModel)
    with pytest.raises(UserError, match="holds no evolved controller"):
        load_controller(run / "evolved-dream", world, read(run))


def test_a_believer_looks_once_a_block_and_forgets_at_the_end(run: Path) -> None:
    """Beside a row that begins anew in the middle of its block, each row's belief is that of its own episode."""
    world = checkpoint.load(run, kind=WorldModel)
    choose = lambda state: torch.tanh(world.features(state)[:, :1] * 3)
    believer = Believer(world, choose, hold=2)
    rng = np.random.default_rng(0)
    seen = rng.standard_normal((6, 2, 3)).astype(np.float32)  # t n 3
    first = np.zeros((6, 2), bool)
    first[0] = first[3, 1] = True
    did = torch.from_numpy(np.stack([believer.act({"state": o}, f) for o, f in zip(seen, first, strict=True)]))
    for row, looks in ((0, [0, 2, 4]), (1, [3, 5])):  # where the row's last episode is looked at
        state = None
        for t in looks:
            block = None if state is None else did[t - 2 : t, row].flatten()[None]
            with torch.no_grad():
                state = world.encode({"state": torch.from_numpy(seen[t, row : row + 1])}, state, block)
                torch.testing.assert_close(did[t, row], choose(state)[0])
            if t < 5:
                assert torch.equal(did[t + 1, row], did[t, row])
