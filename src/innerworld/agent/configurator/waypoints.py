"""`Waypoints`: sub-goals from a graph of known places, for goals that lie farther than a plan can see.

Places are beliefs of earlier sights; an edge leads from one to another that a few steps came to, in recordings or as
the model imagines them. What is pursued is the farthest place on the shortest way that a plan can reach: planning with
a graph over a replay as in SoRB (arXiv 1906.05253), without its learnt distance.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional as F

from innerworld.agent.energies import to_each
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.plan import coloured
from innerworld.types import Obs, Spec, State, each
from innerworld.world import WorldModel, choose_rows, flatten

LOOKS = 256
"""Sights that are encoded at once."""


class WaypointsConfig(Config):
    nodes: int = Field(default=128, description="places in the graph, spread over all that are known", ge=2)
    samples: int = Field(default=64, description="action sequences that are imagined from each place", ge=1)
    steps: int = Field(default=8, description="length of these, steps: how far apart neighbours may be", ge=1)
    noise_beta: float = Field(default=2.0, description="exponent of their spectrum: 0 white, 2 smooth in time", ge=0)
    near: float = Field(
        default=0.5, description="energy at which a place is reached, share of that between neighbouring places", gt=0
    )
    ahead: int = Field(default=8, description="steps to what is pursued at most: a plan must see it", ge=1)
    patience: int = Field(
        default=4, description="plans at one place after which the way from it is held for a longer one", ge=1
    )


class Waypoints:
    """Pursue places on the shortest way to the goal, and the goal itself where that is near, or no way is known.

    `places` are sights each `k ...`, for example frames of a store; the graph is made of them when an episode begins,
    once for a model. `ways` are recordings, each of them sights one step after another, `t+1 ...`: with them edges are
    what was done there, which holds where the model does not yet imagine well; without, they are what it imagines. A
    way that turns out to lead nowhere becomes longer for the world that tried it.
    """

    def __init__(self, places: Obs, config: WaypointsConfig = WaypointsConfig(), ways: Sequence[Obs] = ()) -> None:
        if len({len(value) for value in places.values()}) != 1:
            raise UserError("places need sights of one number for each sensor: give a dict with at least one of them")
        self.places, self.config, self.ways = places, config, ways
        self._of: WorldModel | None = None  # whose graph it is
        self._stale = False  # its weights have changed since

    @torch.no_grad()
    def begin(self, model: WorldModel, state: State, seed: int, first: int) -> None:
        if self._of is not model or self._stale:
            self._build(model)
        b = len(next(iter(state.values())))
        device = self.steps.device
        self._left = self.steps.expand(b, -1, -1)  # b k k   steps from each place to each other, by the shortest way
        self._edges = self.edges.expand(b, -1, -1)  # b k k   the same, to neighbours only
        self._place = torch.full((b,), -1, device=device)  # where each row was at its last plan
        self._stays = torch.zeros(b, dtype=torch.long, device=device)  # plans in a row that it was there

    def aim(self, state: State, goal: State) -> State:
        here, there = self._nearest(state), self._nearest(goal)  # b
        self._doubt(here, there)
        row = torch.arange(len(here), device=here.device)
        to, onward = self._left[row, here], self._left[row, :, there]  # b k   from here; to the goal
        whole = self._left[row, here, there]  # b
        on_the_way = (to + onward <= whole[:, None]) & (to > 0)
        farthest = torch.where(to <= self.config.ahead, to, -to)  # that a plan can see, or else the first one
        node = torch.where(on_the_way, farthest, -torch.inf).argmax(dim=1)
        direct = (whole <= self.config.ahead) | whole.isinf()
        pursued = each(lambda value: value[node], self.nodes)
        return choose_rows(direct, goal, pursued)

    @torch.no_grad()
    def refresh(self, model: WorldModel) -> None:
        """The model's weights have changed: believe the places anew; the steps between them stay until the next
        episode, which makes its own graph."""
        self.nodes = model.encode(each(lambda value: value[self._chosen], self.places))
        self._stale = True

    def keep(self, rows: Tensor) -> None:
        self._left, self._edges = self._left[rows], self._edges[rows]
        self._place, self._stays = self._place[rows], self._stays[rows]

    def _build(self, model: WorldModel) -> None:
        """The places that make the graph, and the steps between them."""
        known = len(next(iter(self.places.values())))
        if known < self.config.nodes:
            raise UserError(f"{known} places for a graph of {self.config.nodes} nodes: give more, or lower nodes")
        self._of, self._stale = model, False
        looked = [model.bare(model.encode(part)) for part in _parts(self.places, LOOKS)]
        sights = {name: torch.cat([some[name] for some in looked]) for name in looked[0]}
        self._chosen, apart = spread(model, sights, self.config.nodes)
        self.nodes: State = model.encode(each(lambda value: value[self._chosen], self.places))  # k ...
        self.near = float(self.config.near * apart)
        self.edges = self._recorded_steps(model) if self.ways else self._imagined_steps(model)  # k k
        self.steps = shortest(self.edges)  # k k

    def _recorded_steps(self, model: WorldModel) -> Tensor:
        """After how many recorded steps did one come from each place to each other? `k k`, infinite: in none."""
        k, bare = len(next(iter(self.nodes.values()))), model.bare(self.nodes)
        found = torch.full((k * k,), torch.inf, device=next(iter(bare.values())).device)
        for way in self.ways:
            at = torch.cat([to_each(model, model.bare(model.encode(part)), bare) for part in _parts(way, LOOKS)])
            at = at.argmin(dim=1)  # t+1
            for steps in range(1, min(self.config.steps, len(at) - 1) + 1):
                pairs = at[:-steps] * k + at[steps:]
                found = found.scatter_reduce(0, pairs, torch.full_like(found[pairs], steps), "amin")
        return found.unflatten(0, (k, k)).fill_diagonal_(0)

    def _imagined_steps(self, model: WorldModel) -> Tensor:
        """After how many imagined steps does one come from each place to each other? `k k`, infinite: in none."""
        like, config = next(iter(self.nodes.values())), self.config
        k = len(like)
        rng = Generator(like.device).manual_seed(0)
        found = torch.full((k, k), torch.inf, device=like.device)
        for i in range(k):
            actions = _some_actions(model.spec, config, rng, like)[None]  # 1 n h a
            start = each(lambda value, i=i: value[i : i + 1], self.nodes)
            ways = each(lambda value: value[0], model.imagine(start, actions))  # n h ...
            nodes = {name: self.nodes[name] for name in ways}
            away = to_each(model, flatten(ways, 2), nodes).unflatten(0, (config.samples, config.steps))  # n h k
            there = (away <= self.near).any(dim=0)  # h k
            first = there.float().argmax(dim=0) + 1.0
            found[i] = torch.where(there.any(dim=0), first, torch.inf)
        return found.fill_diagonal_(0)

    def _nearest(self, state: State) -> Tensor:
        """The place nearest to each belief `b ...`: `b`."""
        assert self._of is not None
        return to_each(self._of, self._of.bare(state), self._of.bare(self.nodes)).argmin(dim=1)

    def _doubt(self, here: Tensor, there: Tensor) -> None:
        """Make the steps longer that rows meant to take from where they stay."""
        self._stays = torch.where(here == self._place, self._stays + 1, 0)
        self._place = here
        for row in ((self._stays >= self.config.patience) & (here != there)).nonzero()[:, 0].tolist():
            at, goal = int(here[row]), int(there[row])
            onward = self._edges[row, at] + self._left[row, :, goal]
            taken = (onward <= self._left[row, at, goal]) & (onward < torch.inf)
            taken[at] = False
            self._edges = self._edges.clone()
            self._edges[row, at, taken] *= 4
            self._left = self._left.clone()
            self._left[row] = shortest(self._edges[row])
            self._stays[row] = 0


def spread(model: WorldModel, states: State, n: int) -> tuple[Tensor, Tensor]:
    """Choose n beliefs out of `k ...` so that all are near one of them, each time the one that is farthest from those
    before it (Gonzalez 1985): their indices `n`, and the energy from the last of them to the nearest other."""
    chosen = [0]
    away = to_each(model, states, each(lambda value: value[:1], states))[:, 0]  # k
    apart = away.max()
    while len(chosen) < n:
        apart, farthest = away.max(dim=0)
        chosen.append(int(farthest))
        new = each(lambda value: value[chosen[-1] :][:1], states)
        away = torch.minimum(away, to_each(model, states, new)[:, 0])
    return torch.tensor(chosen, device=away.device), apart


def shortest(edges: Tensor) -> Tensor:
    """Lengths of the shortest ways between all places, of edges `k k` (Floyd and Warshall)."""
    left = edges.clone()
    for via in range(len(left)):
        left = torch.minimum(left, left[:, via, None] + left[via])
    return left


def _parts(sights: Obs, size: int) -> list[Obs]:
    """Sights `k ...` in parts of at most so many."""
    k = len(next(iter(sights.values())))
    return [each(lambda value, i=i: value[i : i + size], sights) for i in range(0, k, size)]


def _some_actions(spec: Spec, config: WaypointsConfig, rng: Generator, like: Tensor) -> Tensor:
    """Random action sequences `n h a`, smooth in time."""
    shape = torch.zeros(1, config.steps, spec.action, device=like.device)
    noise = coloured([rng], config.samples, shape, config.noise_beta)[0]
    if spec.discrete:
        return F.one_hot(noise.argmax(dim=-1), spec.action).to(noise.dtype)
    return noise.clamp(-1, 1)
