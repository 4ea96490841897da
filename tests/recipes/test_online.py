"""Learning in a world: honest units, no burst after a resume, a true replay, nothing lost when the world fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import namedtuple
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from innerworld import checkpoint, envs
from innerworld.config import Config
from innerworld.data.columns import Kind
from innerworld.data.ring import Ring
from innerworld.errors import UserError
from innerworld.families import FAMILIES
from innerworld.recipes import living
from innerworld.recipes.earnings import evaluate_practice
from innerworld.recipes.online import REPLAY, practise
from innerworld.recipes.practice import Online, Practice, is_practice, read_practice
from innerworld.recipes.practice_page import show_practice
from innerworld.recipes.runs import read_state
from innerworld.training import Interrupted, TrainConfig
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel

ID = "innerworld-test/Line-v0"
SPEC = Spec({"state": (2,)}, action=2, discrete=True)


class Line(gymnasium.Env):
    """Shows the length of its episode, 2 to 6 steps by its seed, and the time. A step is worth 1."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}
    fault: ClassVar[Callable[[Line], None] | None] = None
    lengths: ClassVar[tuple[int, int]] = (2, 7)
    drawn: ClassVar[int] = 0

    def __init__(self, render_mode: str | None = None, continuous: bool = False) -> None:
        self.render_mode = render_mode
        self.observation_space = spaces.Box(-1e9, 1e9, (2,), np.float32)
        self.action_space = spaces.Box(-2, 2, (2,), np.float32) if continuous else spaces.Discrete(2)
        self.time = self.length = self.steps = 0
        self.reward: Any = 1.0
        self.shown = 2

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.time, self.length = 0, int(self.np_random.integers(*Line.lengths))
        return self.see(), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        self.time += 1
        self.steps += 1
        if Line.fault is not None:
            Line.fault(self)
        over = self.time >= self.length
        return self.see(), self.reward, over and self.length % 2 == 0, over and self.length % 2 == 1, {}

    def see(self) -> np.ndarray:
        return np.array([self.length, self.time, 0], np.float32)[: self.shown]

    def render(self) -> Any:
        Line.drawn += 1
        return np.zeros((8, 8, 3), np.uint8)


class CountingConfig(Config):
    mark: float = Field(default=0.0, description="added to what is believed afterwards")


class Counting(WorldModel):
    """Believes how long the episode has lasted, and says what it was given to learn from."""

    Config = CountingConfig
    restarts = True
    card = Card("counting", "latents", False, "none", "-")
    presets: ClassVar[dict[str, Config]] = {"tiny": CountingConfig()}
    given: ClassVar[list[Clip]] = []

    def __init__(self, config: CountingConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.mark = config.mark
        self.weight = nn.Parameter(torch.zeros(2))
        self.beliefs: State | None = None

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        b = len(obs["state"])
        return {"age": torch.zeros(b, 1) if state is None else state["age"] + 1}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return {"age": state["age"] + 1}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["age"] - goal["age"]).abs().squeeze(-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        Counting.given.append(clip)
        assert clip.first is not None and clip.past is not None
        ages = [clip.past["age"]]
        for t in range(clip.length):
            ages.append(torch.where(clip.first[:, t + 1, None], 0.0, ages[-1] + 1))
        self.beliefs = {"age": torch.stack(ages, 1) + self.mark}
        loss = (self.weight - clip.reward.mean()).square().sum()
        return loss, {"return": torch.tensor(-7.0)}

    def policy(self, state: State, rng: Generator | None = None) -> Tensor:
        if not self.spec.discrete:
            return torch.zeros(len(state["age"]), self.spec.action)
        chance = torch.full((len(state["age"]), self.spec.action), 1 / self.spec.action)
        chosen = chance.argmax(1) if rng is None else torch.multinomial(chance, 1, generator=rng)[:, 0]
        return F.one_hot(chosen, self.spec.action).float()


@pytest.fixture(autouse=True)
def _ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(FAMILIES, "Counting", Counting)  # a checkpoint names it so
    gymnasium.register(ID, entry_point=lambda **given: Line(**given))
    monkeypatch.setattr(Line, "fault", None)
    monkeypatch.setattr(Line, "drawn", 0)
    Counting.given = []
    yield
    del gymnasium.registry[ID]


def practice(**online: Any) -> Practice:
    train = {"steps": 12, "log_every": 1, "save_every": 4, "device": "cpu", "background": False}
    own = {name: online.pop(name) for name in list(online) if name in TrainConfig.model_fields}
    usual = {"env": ID, "batch": 2, "length": 4, "ratio": 4, "prefill": 30, "eval_every": 0, "capacity": 400}
    config = TrainConfig(**(train | {"best": "eval_return", "best_is_highest": True} | own))
    return Practice(family="Counting", online=Online(**(usual | online)), train=config)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def ring_of(folder: Path, lives: int = 1, capacity: int = 400, belief: str = "age") -> Ring:
    kinds = {belief: Kind((1,), "float32")}
    return Ring(folder / REPLAY, SPEC, kinds, lives, capacity, 4, at=10**9)


# ---------------------------------------------------------------------- units and pace


def test_every_row_tells_every_unit(tmp_path: Path):
    told: list[str] = []
    practise(practice(action_repeat=2, eval_every=5), tmp_path, quiet=True, tell=told.append)
    found = rows(tmp_path)
    assert [row["step"] for row in found] == list(range(12))
    for row in found:
        assert row["env_steps"] == row["frames"] == 2 * row["agent_steps"] and row["updates"] == row["step"] + 1
        assert row["episodes"] > 0 and row["imagined_return"] == -7
    assert [row["updates"] for row in found if "eval_return" in row] == [5, 10, 12]
    lived = [row for row in found if "return" in row]
    assert lived and all(2 <= row["return"] <= 6 and row["length"] <= 3 for row in lived)  # two steps each
    assert all("eval_length" in row and "eval_return_std" in row for row in found if "eval_return" in row)
    assert told == [
        "replay: 400 moments of 34 bytes, 0.01 MB on the disk, none of it in memory; "
        "model: 2 parameters, 0.00 MB with gradients and optimiser"
    ]


def test_frames_count_the_worlds_own_frame_skip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Line, "metadata", {**Line.metadata, "frames_per_step": 4})
    practise(practice(steps=1, action_repeat=3), tmp_path, quiet=True)
    row = rows(tmp_path)[0]
    assert (row["env_steps"], row["frames"]) == (3 * row["agent_steps"], 12 * row["agent_steps"])


@pytest.mark.parametrize(("ratio", "worlds", "each"), [(4, 1, 2), (16, 1, 0.5), (3.2, 1, 2.5), (4, 3, 2), (1, 3, 8)])
def test_as_many_steps_are_lived_as_the_ratio_says(tmp_path: Path, ratio: float, worlds: int, each: float):
    practise(practice(ratio=ratio, envs=worlds, steps=25), tmp_path, quiet=True)
    steps = [row["agent_steps"] for row in rows(tmp_path)]
    assert all((now - before) % worlds == 0 for before, now in pairwise(steps))
    for k, now in enumerate(steps):
        assert now - steps[0] == worlds * int(each * k / worlds)  # 2 * 4 replayed for each update, over the ratio
    assert steps[0] < 30 + worlds  # 30 moments, of which some are ends of episodes


def test_a_run_that_goes_on_does_so_at_its_pace(tmp_path: Path):
    practise(practice(ratio=0.5, steps=9), tmp_path, quiet=True)  # 16 agent steps for an update
    before = rows(tmp_path)[-1]
    ages = len(Counting.given)
    practise(practice(ratio=0.5, steps=14), tmp_path, quiet=True, resume=True)
    steps = [row["agent_steps"] for row in rows(tmp_path)]
    assert len(steps) == 14 and steps[9] == before["agent_steps"] + 16  # no filling, no catching up
    assert [now - then for then, now in pairwise(steps[8:])] == [16] * 5
    assert rows(tmp_path)[-1]["episodes"] > before["episodes"]
    assert len(Counting.given) == ages + 5


def test_a_killed_run_goes_on_from_its_checkpoint_with_its_units(tmp_path: Path):
    practise(practice(steps=10), tmp_path, quiet=True)
    shutil.rmtree(tmp_path / "checkpoints" / "step-00000010")  # as if it had died after the one of step 8
    units = {row["step"]: row["agent_steps"] for row in rows(tmp_path)}
    practise(practice(steps=12), tmp_path, quiet=True, resume=True)
    again = {row["step"]: row["agent_steps"] for row in rows(tmp_path)}
    assert again[8] == units[7] + 2 and sorted(again) == list(range(12))


def test_without_its_replay_it_fills_a_new_one_with_what_it_can(tmp_path: Path):
    practise(practice(steps=6), tmp_path, quiet=True)
    lived = rows(tmp_path)[-1]["agent_steps"]
    shutil.rmtree(tmp_path / REPLAY)
    practise(practice(steps=8), tmp_path, quiet=True, resume=True)
    assert lived + 15 < rows(tmp_path)[6]["agent_steps"] <= lived + 30


def test_a_replay_that_is_behind_the_weights_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    practise(practice(steps=6), tmp_path, quiet=True)
    practise(practice(steps=7), tmp_path, quiet=True, resume=True)
    assert "was not noted" not in caplog.text
    noted = json.loads((tmp_path / "replay.json").read_text())
    noted["saved"] = [entry for entry in noted["saved"] if entry["step"] <= 4]
    (tmp_path / "replay.json").write_text(json.dumps(noted))
    practise(practice(steps=8), tmp_path, quiet=True, resume=True)
    assert "was not noted at step 7" in caplog.text and "since step 4 is forgotten" in caplog.text


# ---------------------------------------------------------------------- what is replayed


@pytest.mark.parametrize("worlds", [1, 3])
def test_the_replay_holds_what_was_lived(tmp_path: Path, worlds: int):
    practise(practice(envs=worlds, steps=40), tmp_path, quiet=True)
    assert Counting.given
    for clip in Counting.given:
        assert clip.first is not None and clip.past is not None
        length, time = clip.obs["state"].unbind(-1)
        assert torch.equal(clip.first, time == 0)
        assert torch.equal(clip.past["age"][:, 0], time[:, 0])  # the belief of that moment, also after write-back
        ends = time == length
        assert torch.equal(clip.reward, (~ends[:, :-1]).float())
        assert torch.equal(clip.action.sum(-1), (~ends[:, :-1]).float())  # an end leads nowhere
        assert torch.equal(clip.first[:, 1:], ends[:, :-1])
        assert torch.equal(clip.terminated, ends[:, 1:] & (length[:, 1:] % 2 == 0) & ~ends[:, :-1])


def test_clips_by_how_often_they_were_drawn(tmp_path: Path):
    """The counts of all updates, also of those before a kill; a batch of 2 holds no moment twice."""
    said: list[str] = []
    kind = {"sampling": "frequency", "tau": 0.5}
    practise(practice(steps=10, **kind), tmp_path, quiet=True, tell=said.append)
    assert "0.00 MB in memory; model" in said[0]
    shutil.rmtree(tmp_path / "checkpoints" / "step-00000010")  # as if it had died after the one of step 8
    practise(practice(steps=12, **kind), tmp_path, quiet=True, resume=True)
    ring = Ring(tmp_path / REPLAY, SPEC, {"age": Kind((1,), "float32")}, 1, 400, 4, at=12, tau=0.5)
    assert ring.draws is not None
    assert ring.draws.counts.sum() == 24 and ring.draws.counts.max() <= 2  # 30 and more to draw from
    with pytest.raises(UserError, match="sampling=frequency, not uniform"):
        practise(practice(steps=13), tmp_path, quiet=True, resume=True)
    ring.close()


def test_what_is_believed_by_now_is_put_back(tmp_path: Path):
    marked = practice(steps=30).model_copy(update={"model": {"mark": 1000.0}})
    practise(marked, tmp_path, quiet=True)
    pasts = torch.cat([clip.past["age"] for clip in Counting.given if clip.past is not None])
    assert (pasts >= 1000).any() and (pasts < 1000).any()


def test_beliefs_of_an_update_that_was_not_taken_are_not_put_back(tmp_path: Path):
    marked = practice(steps=30).model_copy(update={"model": {"mark": float("nan")}})
    practise(marked, tmp_path, quiet=True)
    assert all(torch.isfinite(clip.past["age"]).all() for clip in Counting.given if clip.past is not None)


class Losing(SyncVectorEnv):
    """Loses its second world in every seventh step."""

    count = 0

    def step(self, actions: Any) -> Any:
        *seen, reward, terminated, truncated, info = super().step(actions)
        self.count += 1
        lost = np.array([False, self.count % 7 == 0])
        seen[0]["state"][lost] = 0
        return *seen, reward, terminated & ~lost, truncated | lost, {**info, "lost": lost}


def test_a_world_that_is_lost_leaves_no_false_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one = lambda: envs.adapt(Line(), sensors=["state"])
    monkeypatch.setattr(Online, "make", lambda self, n: Losing([one] * n, autoreset_mode=AutoresetMode.DISABLED))
    practise(practice(envs=2, steps=40), tmp_path, quiet=True)
    lost = 0
    for clip in Counting.given:
        assert clip.first is not None
        length, time = clip.obs["state"].unbind(-1)
        assert (length > 0).all()  # what is shown of a lost world is nothing that was seen
        broke = clip.first[:, 1:] & (time[:, :-1] < length[:, :-1])
        assert (clip.reward[broke] == 0).all() and not clip.terminated[broke].any()
        lost += int(broke.sum())
    assert lost


@pytest.mark.parametrize("prefill_by", ["uniform", "policy"])
def test_continuous_actions_in_the_worlds_own_bounds(tmp_path: Path, prefill_by: str):
    practise(practice(env=f"{ID},continuous=true", prefill_by=prefill_by, steps=3), tmp_path, quiet=True)
    action = Counting.given[0].action
    assert (action.abs() <= 1).all() and bool((action != 0).any()) == (prefill_by == "uniform")


def test_episodes_of_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Line, "lengths", (1, 2))
    practise(practice(steps=5, eval_every=5), tmp_path, quiet=True)
    last = rows(tmp_path)[-1]
    assert last["eval_return"] == last["eval_length"] == 1 and last["episodes"] == last["agent_steps"]


def test_nothing_is_drawn_where_nobody_looks(tmp_path: Path):
    practise(practice(steps=2, eval_every=1), tmp_path / "a", quiet=True)
    practise(practice(steps=2, sensors=("state",)), tmp_path / "b", quiet=True)
    assert Line.drawn == 0 and read_practice(tmp_path / "a").online.sensors == ("state",)


def test_a_world_of_ours_that_shows_more_than_is_seen(tmp_path: Path):
    practise(practice(env="two_rooms", sensors=("state",), size=32, max_steps=9, steps=3), tmp_path, quiet=True)
    assert list(Counting.given[0].obs) == ["state"] and rows(tmp_path)[-1]["episodes"] > 2


# ---------------------------------------------------------------------- when something is wrong


def nan_reward(line: Line) -> None:
    line.reward = float("nan") if line.steps > 45 else 1.0


def other_shape(line: Line) -> None:
    line.shown = 3 if line.steps > 45 else 2


def broken(line: Line) -> None:
    if line.steps > 45:
        raise RuntimeError("the arm\nfell off")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (nan_reward, "reward.*finite"),
        (other_shape, r"failed in step.*\(3,\)"),
        (broken, "failed in step.*RuntimeError: the arm fell off"),
    ],
)
def test_a_world_that_fails_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Line], None], message: str
):
    monkeypatch.setattr(Line, "fault", staticmethod(fault))
    with pytest.raises(UserError, match=message) as caught:
        practise(practice(steps=30), tmp_path, quiet=True)
    assert "\n" not in str(caught.value)
    done = rows(tmp_path)[-1]["updates"]
    assert checkpoint.read_header(tmp_path).step == done > 4 and done % 4  # not only what is saved every 4 updates
    assert read_state(tmp_path).state == "failed" and read_state(tmp_path).resumable == done
    ring = ring_of(tmp_path)
    assert ring.noted["agent_steps"] == 45 and len(ring) >= 45
    ring.close()
    monkeypatch.setattr(Line, "fault", None)
    practise(practice(steps=30), tmp_path, quiet=True, resume=True)
    assert [row["step"] for row in rows(tmp_path)] == list(range(30))
    assert rows(tmp_path)[done]["agent_steps"] <= 45 + 2


def test_an_evaluation_that_fails_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    earn = living.earn

    def failing(*args: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(Line, "fault", staticmethod(lambda line: 1 / 0))
            return earn(*args)

    monkeypatch.setattr(living, "earn", failing)
    with pytest.raises(UserError, match=r"the evaluation failed: the environment failed in step.*ZeroDivisionError"):
        practise(practice(steps=30, eval_every=7), tmp_path, quiet=True)
    assert checkpoint.read_header(tmp_path).step == 7
    with pytest.raises(UserError, match="the evaluation failed"):  # after the last update, which is saved, too
        practise(practice(steps=8, eval_every=8), tmp_path, quiet=True, resume=True)
    assert checkpoint.read_header(tmp_path).step == 8


def test_ctrl_c_saves_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def press(line: Line) -> None:
        if line.steps == 41:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Line, "fault", staticmethod(press))
    with pytest.raises(Interrupted):
        practise(practice(steps=30), tmp_path, quiet=True)
    done = checkpoint.read_header(tmp_path).step
    lived = rows(tmp_path)[-1]["agent_steps"]
    assert 4 < done < 30 and read_state(tmp_path).state == "interrupted"
    monkeypatch.setattr(Line, "fault", None)
    practise(practice(steps=30), tmp_path, quiet=True, resume=True)
    found = rows(tmp_path)
    assert [row["step"] for row in found] == list(range(30)) and found[done]["agent_steps"] == lived + 2


def test_the_best_checkpoint_is_the_one_that_was_evaluated(tmp_path: Path):
    practise(practice(steps=12, eval_every=4, keep=10), tmp_path, quiet=True)
    found = {row["updates"]: row["eval_return"] for row in rows(tmp_path) if "eval_return" in row}
    scores = {step: checkpoint.read_header(tmp_path / "checkpoints" / f"step-{step:08}").scores for step in (4, 8, 12)}
    assert {step: score["eval_return"] for step, score in scores.items()} == found
    assert isinstance(checkpoint.load(tmp_path, best=True), Counting)


def test_what_cannot_be_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="JEPA has no policy to act with"):
        practise(practice().model_copy(update={"family": "jepa"}), tmp_path / "a", quiet=True)
    with pytest.raises(UserError, match=r"leave out train\.micro_batch"):
        practise(practice(micro_batch=1), tmp_path / "a", quiet=True)
    with pytest.raises(UserError, match="holds no clip of 4 actions"):
        practise(practice(capacity=4), tmp_path / "a", quiet=True)
    with pytest.raises(UserError, match="no sensor 'eye'"):
        practise(practice(sensors=("eye",)), tmp_path / "a", quiet=True)
    practise(practice(steps=1), tmp_path / "b", quiet=True)
    with pytest.raises(UserError, match="already holds a run"):
        practise(practice(steps=1), tmp_path / "b", quiet=True)
    with pytest.raises(UserError, match=r"was begun with online\.batch=2, not 3"):
        practise(practice(steps=2, batch=3), tmp_path / "b", quiet=True, resume=True)
    practise(practice(steps=2, ratio=8, eval_every=1), tmp_path / "b", quiet=True, resume=True)
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 100))
    with pytest.raises(UserError, match=r"a replay of 0\.01 MB does not fit into .*replay: 0\.00 MB are free"):
        practise(practice(), tmp_path / "c", quiet=True)


def test_such_a_run_is_known_as_one(tmp_path: Path):
    practise(practice(steps=2), tmp_path, quiet=True)
    state = read_state(tmp_path)
    assert (state.family, state.world, state.data, state.state, state.step) == ("Counting", ID, "", "done", 2)
    assert is_practice(tmp_path) and read_practice(tmp_path).online.capacity == 400
    assert "moments of 34 bytes" in json.loads((tmp_path / "run.json").read_text())["needs"]
    (tmp_path / "run.json").write_text('{"lesson": {}}')
    assert not is_practice(tmp_path)
    with pytest.raises(UserError, match="no run that learnt in a world"):
        read_practice(tmp_path)
    with pytest.raises(UserError, match="holds no run"):
        read_practice(tmp_path / "nowhere")


def test_its_page_and_what_it_earns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    practise(practice(steps=8, eval_every=4), tmp_path, quiet=True)
    page = show_practice(tmp_path, "a command").read_text()
    assert all(text in page for text in (ID, "a command", "environment steps", "imagined_return", "8 of 8 updates"))
    monkeypatch.setattr(Line, "lengths", (3, 4))
    results = evaluate_practice(tmp_path, 5, quiet=True)["results"]
    assert {"policy", "drawn", "random", "best"} == set(results)
    assert all((found["return"], found["length"], found["episodes"]) == (3, 3, 5) for found in results.values())
    assert json.loads((tmp_path / "returns.json").read_text())["updates"] == 8
