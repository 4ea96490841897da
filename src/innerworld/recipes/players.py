"""Goal-reaching shared among workers: who plays, as values that travel, and the goals that each worker plays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from innerworld import models
from innerworld.cluster import Place
from innerworld.config import Config
from innerworld.data import Store
from innerworld.evaluate.control import GoalWorlds, Played, Tasks, joined, play
from innerworld.recipes.goals import agent, oracle, picture_size, worlds_of
from innerworld.recipes.two_rooms import Control
from innerworld.types import Spec
from innerworld.world import WorldModel

GOALS = 10
"""Goals that a worker plays at a time. Always so many, for the last bits of a product of matrices may depend on how
many rows it has, and the results must not depend on how many workers there are."""


@dataclass(frozen=True)
class Player:
    """A model and how it plays, without a tensor: tensors would travel by handles that die with their process."""

    family: str
    config: Config
    spec: Spec
    weights: Mapping[str, NDArray[Any]]
    control: Control
    frame_skip: int = 1

    def model(self, worlds: GoalWorlds) -> WorldModel:
        """The model itself; the oracle reads the worlds."""
        if self.family == "oracle":
            truth = oracle(worlds, self.spec, self.frame_skip)
            assert truth is not None, "the same worlds had an oracle before"
            return truth
        model = models.build(self.family, self.config, self.spec)
        model.load_state_dict(_tensors(self.weights))
        return model


@dataclass(frozen=True)
class Share:
    """Some of the goals, for one of the players."""

    player: str
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.player}, goals {self.start} to {self.stop - 1}"


@dataclass(frozen=True)
class Match:
    """What all workers need: the players, the world, and the tasks as arrays."""

    players: Mapping[str, Player]
    env: str
    size: int
    tasks: Mapping[str, Any]  # the fields of `Tasks`, each n ...
    seed: int

    @classmethod
    def of(
        cls,
        learners: Mapping[str, WorldModel],
        families: Mapping[str, str],
        controls: Mapping[str, Control],
        store: Store,
        tasks: Tasks,
        seed: int,
        skips: Mapping[str, int] = MappingProxyType({}),
    ) -> Match:
        players = {
            name: Player(
                families[name],
                model.config,
                model.spec,
                _arrays(model.state_dict()),
                controls[name],
                skips.get(name, 1),
            )
            for name, model in learners.items()
        }
        sent = {
            "start": tasks.start,
            "goal": tasks.goal,
            "start_obs": _arrays(tasks.start_obs),
            "goal_obs": _arrays(tasks.goal_obs),
            "far": tasks.far,
            "via_obs": [_arrays(obs) for obs in tasks.via_obs],
        }
        return cls(players, store.meta.about.env, picture_size(store.spec), sent, seed)

    def shares(self) -> list[Share]:
        return [
            Share(name, start, min(start + GOALS, player.control.episodes))
            for name, player in self.players.items()
            for start in range(0, player.control.episodes, GOALS)
        ]


def play_shared(match: Match, place: Place, progress: Callable[[int], None] = lambda done: None) -> dict[str, Played]:
    """What came of every player's episodes, played by the place's workers. `progress` is told the shares done."""
    shares = match.shares()
    parts = place.map(partial(play_share, match), shares, lambda done, total: progress(done))
    return {
        name: joined([part for share, part in zip(shares, parts, strict=True) if share.player == name])
        for name in match.players
    }


def play_share(match: Match, share: Share) -> Played:
    """Play some of the goals. For workers."""
    player = match.players[share.player]
    worlds = worlds_of(match.env, share.stop - share.start, match.size)
    sent = match.tasks
    start_obs, goal_obs, *via_obs = (_tensors(obs) for obs in (sent["start_obs"], sent["goal_obs"], *sent["via_obs"]))
    tasks = Tasks(sent["start"], sent["goal"], start_obs, goal_obs, sent["far"], via_obs=tuple(via_obs))
    mind = agent(player.model(worlds), player.control, player.frame_skip)
    return play(worlds, tasks.cut(share.start, share.stop), mind, player.control.budget, match.seed, first=share.start)


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: value.detach().cpu().numpy() for name, value in tensors.items()}


def _tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    # Copied: what comes from Ray's object store cannot be written.
    return {name: torch.from_numpy(value.copy()) for name, value in arrays.items()}
