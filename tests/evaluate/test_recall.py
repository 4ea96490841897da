"""What a world model still knows: an oracle reaches the ceiling, a blank one the floor, a short memory its own lag."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.data import Policy, Uniform, play
from innerworld.envs import spec_of
from innerworld.envs.lawful import Lawful
from innerworld.envs.questions import NEVER
from innerworld.envs.recall import RecallConfig, RecallVector
from innerworld.envs.revisit import RevisitConfig, RevisitVector
from innerworld.envs.walker import Walker
from innerworld.errors import UserError
from innerworld.evaluate.recall import generated, probed
from innerworld.models import RSSM, Oracle
from innerworld.models.rssm_config import RSSMConfig
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel

CUE = RecallVector(16, RecallConfig(delay=20, size=24))
PAIRS = RecallVector(16, RecallConfig(delay=8, pairs=4, show=1, size=24))
MAZE = RevisitVector(16, RevisitConfig(cells=11, colors=4, size=24, steps=60))


def spec(worlds: Lawful) -> Spec:
    return spec_of(worlds.single_observation_space, worlds.single_action_space)


def episodes(worlds: Lawful, policy: Policy, n: int, seed: int = 0) -> Clip:
    found = [clip for part in play(worlds, policy, spec(worlds), n, seed) for clip, _ in part]
    join = lambda get: torch.cat([get(clip) for clip in found])
    obs = {name: join(lambda clip, name=name: clip.obs[name]) for name in spec(worlds).obs}
    return Clip(obs, join(lambda c: c.action), join(lambda c: c.reward), join(lambda c: c.terminated))


def cues(n: int = 200) -> Clip:
    return episodes(CUE, Uniform(spec(CUE)), n)


class MindConfig(Config):
    window: int = 10**6  # steps after which it forgets


class Mind(WorldModel):
    """Remembers the last colour that it was shown for `window` steps, and sees it before itself all the time."""

    Config = MindConfig
    card = Card(name="mind", predicts="symbols", decodes=True, backbone="a note", paper="-")

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        color = obs["symbols"][:, :4]
        if state is None:
            return {"color": color, "age": torch.zeros(len(color))}
        shown = color.any(-1)
        kept = torch.where(shown[:, None], color, state["color"])
        return {"color": kept, "age": torch.where(shown, 0.0, state["age"] + 1)}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return {"color": state["color"], "age": state["age"] + 1}

    def decode(self, state: State) -> dict[str, Tensor]:
        known = (state["age"] <= self.config.window)[:, None]  # pyright: ignore
        return {"symbols": F.pad(torch.where(known, state["color"], 0.25), (0, self.spec.obs["symbols"][0] - 4))}

    def features(self, state: State) -> Tensor:
        return self.decode(state)["symbols"]

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["color"] - goal["color"]).square().sum(-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


class Painter(Oracle):
    """The oracle that also paints what it sees."""

    worlds: Lawful

    def decode(self, state: State) -> dict[str, Tensor]:
        picture = self.worlds.look(state["state"].numpy(), ["pixels"])["pixels"]
        return {"pixels": torch.from_numpy(picture) / 255}


def mind(window: int = 10**6) -> Mind:
    return Mind(MindConfig(window=window), spec(CUE).only("symbols"))


def oracle(worlds: Lawful, *sensors: str, kind: type[Oracle] = Oracle) -> Oracle:
    return kind(kind.Config(), spec(worlds).only("state", *sensors), worlds.dynamics())  # pyright: ignore


@pytest.mark.parametrize("context", [2, 10, 23])
def test_who_remembers_is_right_wherever_the_context_ends(context: int) -> None:
    clip = cues()
    asked = CUE.questions(clip.obs["state"].numpy(), "symbols")
    (found,) = generated(mind(), clip, asked, context)
    assert (found.accuracy, found.high, found.floor, found.ceiling) == (1.0, 1.0, 0.25, 1.0)
    assert found.lag == (22, 22) and found.n == 200 and found.low > 0.97 and found.error == 0
    assert found.error_floor == pytest.approx(3 / 16)  # four numbers of 1/4 for a 1 and three 0


def test_who_forgets_before_the_end_has_the_floor() -> None:
    clip = cues()
    asked = CUE.questions(clip.obs["state"].numpy(), "symbols")
    assert generated(mind(22), clip, asked, 5)[0].accuracy == 1
    (found,) = generated(mind(21), clip, asked, 5)
    assert found.low < 0.25 < found.high and found.accuracy == pytest.approx(0.25, abs=0.1)
    assert found.error == pytest.approx(found.error_floor)


def test_the_last_cue_alone_is_one_lag_of_four() -> None:
    """Of four keys it remembers the last one's colour: right where the lag is least, elsewhere a guess."""
    clip = episodes(PAIRS, Uniform(spec(PAIRS)), 400)
    asked = PAIRS.questions(clip.obs["state"].numpy(), "symbols")
    found = generated(mind(), clip, asked, 8, lags=(0, 11, 12, 13))
    assert [each.lag for each in found] == [(10, 10), (11, 11), (12, 12), (13, 13)]
    assert found[0].accuracy == 1 and all(each.low < 0.25 < each.high for each in found[1:])
    assert sum(each.n for each in found) == 400


def test_a_probe_reads_what_is_remembered_and_nothing_else() -> None:
    clip = cues()
    asked = CUE.questions(clip.obs["state"].numpy())
    (found,) = probed(mind(), clip, asked)
    assert found.accuracy == 1 and found.n == 100 and found.error is None
    (found,) = probed(mind(20), clip, asked)  # one step less than to the doors
    assert found.low < 0.25 + 0.1 and found.accuracy < 0.45


def test_the_oracle_knows_every_tile() -> None:
    clip = episodes(MAZE, Walker(MAZE, 20, 10), 16)
    asked = MAZE.questions(clip.obs["state"].numpy(), 20, "symbols")
    found = generated(oracle(MAZE, "symbols"), clip, asked, 20)
    assert all(each.accuracy == 1 and each.error == 0 for each in found)
    assert found[-1].lag == (NEVER, NEVER) and found[-1].ceiling == found[-1].floor == 0.25
    assert all(each.ceiling == 1 and each.lag[0] > 0 for each in found[:-1]) and len(found) >= 3
    assert sum(each.n for each in found) == len(asked)


@pytest.mark.parametrize("worlds", [CUE, MAZE], ids=["recall", "revisit"])
def test_pictures_are_read_by_the_nearest_candidate(worlds: Lawful) -> None:
    policy = Walker(MAZE, 20) if worlds is MAZE else Uniform(spec(worlds))
    clip = episodes(worlds, policy, 16)
    state = clip.obs["state"].numpy()
    asked = worlds.questions(state, 20) if isinstance(worlds, RevisitVector) else CUE.questions(state)
    painter = oracle(worlds, kind=Painter)
    painter.worlds = worlds  # pyright: ignore
    assert all(each.accuracy == 1 and each.error == 0 for each in generated(painter, clip, asked, 20))  # pyright: ignore
    turned = replace(asked, answer=(asked.answer + 1) % 4)  # a question whose truth is another
    assert all(each.accuracy == 0 for each in generated(painter, clip, turned, 20))  # pyright: ignore


def test_questions_of_one_episode_are_not_so_many_questions() -> None:
    """Each asked five times over: as sure as asked once."""
    clip = cues(60)
    asked = CUE.questions(clip.obs["state"].numpy(), "symbols")
    five = {name: np.repeat(getattr(asked, name), 5, axis=0) for name in vars(asked) if name != "sensor"}
    for window in (100, 3):
        (once,) = generated(mind(window), clip, asked, 5)
        (often,) = generated(mind(window), clip, replace(asked, **five), 5)
        assert often.n == 300 and once.accuracy == often.accuracy
        assert (often.low, often.high) == pytest.approx((once.low, once.high), abs=0.02)


def test_a_family_that_learns_can_be_asked() -> None:
    """Untaught, in portions of episodes, it knows nothing; with a decoder and without."""
    clip = cues(40)
    small = RSSMConfig(deter=16, hidden=8, units=8, stoch=2, blocks=2)
    model = RSSM(small, spec(CUE).only("symbols"))
    asked = CUE.questions(clip.obs["state"].numpy(), "symbols")
    before = torch.get_rng_state()
    (found,) = generated(model, clip, asked, 3)
    assert found.n == 40 and found.accuracy < 0.6 and found.error is not None
    (portions,) = generated(model, clip, asked, 3, rows=7)
    assert portions.accuracy == found.accuracy and portions.error == pytest.approx(found.error, rel=1e-4)
    assert torch.equal(before, torch.get_rng_state())
    (found,) = probed(model, clip, asked)
    assert found.n == 20 and found.accuracy < 0.7
    assert probed(model, clip, asked, rows=7)[0].accuracy == pytest.approx(found.accuracy, abs=0.06)


def test_bad_input_is_told() -> None:
    clip = cues(16)
    asked = CUE.questions(clip.obs["state"].numpy())
    with pytest.raises(UserError, match="all after time 24"):
        generated(mind(), clip, asked, 24)
    with pytest.raises(UserError, match="mind does not decode 'pixels'"):
        generated(mind(), clip, asked, 5)
    with pytest.raises(UserError, match="give four or more"):
        probed(mind(), clip.rows(slice(0, 2)), asked)
