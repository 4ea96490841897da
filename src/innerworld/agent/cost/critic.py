"""`TrainableCritic`: how much cost is still to come from a belief on, learnt from what short-term memory holds."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn.utils import clip_grad_norm_

from innerworld import saved
from innerworld.agent.cost.value_net import Piece, Returns, ValueNet
from innerworld.agent.memory.tape import Episode
from innerworld.agent.modules import Believed
from innerworld.config import Config, build
from innerworld.errors import UserError
from innerworld.nn.schedules import linear

NAME = "critic"  # of its files
JUDGED = ("r2", "bias", "slope", "guessed")
logger = logging.getLogger(__name__)


class TrainableCriticConfig(Config):
    units: int = Field(default=128, description="width of the hidden layers", ge=1)
    layers: int = Field(default=2, description="hidden layers", ge=1)
    discount: float = Field(default=0.97, description="weight of the cost one step later", ge=0, lt=1)
    lam: float = Field(
        default=0.95, description="λ of the returns: 1 what was lived, 0 one step and then a guess", ge=0, le=1
    )
    goals: bool = Field(default=False, description="value depends on what is pursued, too (`ShortTermMemory.pursue`)")
    steps: int = Field(default=2_000, description="optimiser steps each time that it learns", ge=1)
    refresh: int = Field(default=50, description="optimiser steps between two looks at what the returns are", ge=1)
    batch: int = Field(default=256, description="beliefs in an optimiser step", ge=1)
    lr: float = Field(default=1e-3, description="learning rate, falls to 0 along the steps", gt=0)
    held_out: int = Field(default=5, description="one episode in so many is not learnt from, but judged by", ge=2)
    seed: int = Field(default=0, description="of its first weights and of the order in which it learns")


class Past(Protocol):
    """Whatever remembers episodes."""

    def episodes(self, running: bool = False) -> Sequence[Episode]: ...

    def refresh(self, version: int, again: Believed) -> None:
        """As of `modules.Memory`."""


class TrainableCritic:
    """Beliefs' features `... d` → the discounted sum of the intrinsic costs that come after, `...`.

    V(s_t) = c_{t+1} + γ c_{t+2} + γ² c_{t+3} + …; the cost of being at s_t is not in it: as a term on the last belief
    of a plan it begins where the plan ends. Never taught, it is 0 everywhere, and says so once.
    """

    def __init__(self, config: TrainableCriticConfig = TrainableCriticConfig()) -> None:
        self.config = config
        self.net: ValueNet | None = None
        self._warned = False

    @property
    def taught(self) -> bool:
        return self.net is not None

    def value(self, features: Tensor, goal: Tensor | None = None) -> Tensor:
        """What is still to come: features `b ... d`, and for a critic of goals those of the goal, `b d` → `b ...`.

        Gradients flow through it. Raises `UserError` for features that it was not taught with.
        """
        if self.net is None:
            if not self._warned:
                self._warned = True
                logger.warning("the critic was never taught: it expects no cost to come (told once)")
            return features.new_zeros(features.shape[:-1])
        return self.net(self._read(features, goal))

    def learn(self, memory: Past, steps: int | None = None) -> dict[str, float]:
        """Learn from all that the memory holds; what came of it.

        Fitted iteration with λ-returns (DreamerV3, arXiv 2301.04104, eq. 7): a return ends with the last cost of an
        episode that really ended, and with the critic's own guess where it was cut off or something is not finite. The
        keys: `loss` (in squared deviations of the returns), `samples`, `episodes`, `held_out` (episodes), and on these
        `r2`, `bias`, `slope` (1: calibrated) and `guessed`, the mean share of a return that is its own guess; NaN where
        there are none.
        """
        pieces = [piece for episode in memory.episodes(running=True) for piece in self._pieces(episode)]
        every = self.config.held_out
        lived = [piece for piece in pieces if piece.number % every != every - 1]
        kept = [piece for piece in pieces if piece.number % every == every - 1]
        told = {"samples": float(sum(map(len, lived))), "episodes": _count(lived), "held_out": _count(kept)}
        if not lived:
            logger.warning("the critic has nothing to learn from: no cost is remembered that came after a belief")
            return told
        told["loss"] = self._fit(Returns(lived, self.config.discount), self.config.steps if steps is None else steps)
        return told | (self._judge(Returns(kept, self.config.discount)) if kept else dict.fromkeys(JUDGED, math.nan))

    def save(self, folder: Path | str) -> None:
        """Write it, atomically, as `critic.json` and safetensors. Raises `UserError` when the disk refuses."""
        told = {"config": self.config.model_dump(mode="json"), "width": self.net.width if self.net else None}
        saved.write(folder, NAME, self.net.state_dict() if self.net else {}, told)

    def load(self, folder: Path | str) -> None:
        """Be the critic that was saved. Raises `UserError` for a missing or broken file, and for other settings."""
        tensors, told = saved.read(folder, NAME)
        for name in ("units", "layers", "discount", "goals"):
            mine, its = self.config.model_dump()[name], told["config"][name]
            if mine != its:
                raise UserError(f"the critic in {folder} has {name}={its}, this one {name}={mine}: set it alike")
        self.net = None
        if told["width"] is not None:
            self.net = self._new(told["width"])
            self.net.load_state_dict(tensors)

    @classmethod
    def of(cls, folder: Path | str) -> TrainableCritic:
        """The critic that was saved, with its own settings. Raises `UserError` for a missing or broken file."""
        critic = cls(build(TrainableCriticConfig, saved.read(folder, NAME)[1]["config"], str(folder)))
        critic.load(folder)
        return critic

    # ------------------------------------------------------------------ how it reads

    def _read(self, features: Tensor, goal: Tensor | None) -> Tensor:
        """What the network is given, `b ... i`."""
        features = features.float()
        if self.config.goals:
            if goal is None:
                raise UserError("this critic was taught with goals: give it the features of what is pursued")
            between = [1] * (features.ndim - goal.ndim)
            goal = (
                goal.float().reshape(len(goal), *between, *goal.shape[1:]).expand(*features.shape[:-1], goal.shape[-1])
            )
            features = torch.cat([features, goal], dim=-1)
        if self.net is not None and features.shape[-1] != self.net.width:
            raise UserError(
                f"features of {features.shape[-1]} numbers, the critic was taught with {self.net.width}: "
                "each model needs its own critic"
            )
        return features

    def _pieces(self, episode: Episode) -> list[Piece]:
        """Stretches of the episode in which everything is finite, of two moments at least (an end: of one)."""
        if self.config.goals and episode.goal is None:
            raise UserError("a critic of goals learns from a memory that was told them: call its pursue(goal)")
        seen = self._read(episode.features, episode.goal)
        good = seen.isfinite().all(dim=1) & episode.cost.isfinite()
        pieces = []
        for first, end in _runs(good):
            ended = episode.ended and end == len(episode)
            if end - first > 1 or ended:
                pieces.append(Piece(episode.number, seen[first:end], episode.cost[first:end], ended))
        return pieces

    # ------------------------------------------------------------------ how it learns

    def _new(self, width: int) -> ValueNet:
        with torch.random.fork_rng(devices=[]):  # the first weights must not depend on what was drawn before
            torch.manual_seed(self.config.seed)
            return ValueNet(width, self.config.units, self.config.layers).requires_grad_(False)

    def _fit(self, returns: Returns, steps: int) -> float:
        """Regress on returns that are looked at anew every so many steps; the last loss."""
        config, seen = self.config, returns.seen
        rng = Generator().manual_seed(config.seed)
        self.net = net = (self.net or self._new(seen.shape[1])).to(seen.device)
        net.look(seen)
        net.requires_grad_(True)
        optimiser = torch.optim.Adam(net.parameters(), lr=config.lr)
        target = loss = torch.zeros(0)
        with torch.enable_grad():
            for step in range(steps):
                if step % config.refresh == 0:
                    target = returns(net, config.lam)
                    net.follow(target)
                    target = (target - net.centre) / net.scale
                optimiser.param_groups[0]["lr"] = linear(step, steps, config.lr, 0.0)
                some = torch.randint(len(seen), (config.batch,), generator=rng).to(seen.device)
                loss = (net.standard(seen[some]) - target[some]).square().mean()
                optimiser.zero_grad()
                loss.backward()
                clip_grad_norm_(net.parameters(), 1.0)
                optimiser.step()
        net.requires_grad_(False)
        return float(loss.detach())

    @torch.no_grad()
    def _judge(self, returns: Returns) -> dict[str, float]:
        """How well it foretells what came.

        Where an episode was cut off its guess counts as what came after: to leave these out would judge it by the lucky
        ones alone, which ended early.
        """
        assert self.net is not None
        foretold, came = self.net(returns.seen), returns(self.net, 1.0)
        apart, around = foretold - foretold.mean(), came - came.mean()
        r2 = 1 - (came - foretold).square().sum() / around.square().sum()
        slope = (apart * around).sum() / apart.square().sum()
        bias, guessed = (foretold - came).mean(), returns.guess.mean()
        return {"r2": float(r2), "bias": float(bias), "slope": float(slope), "guessed": float(guessed)}


def _count(pieces: Sequence[Piece]) -> float:
    """Episodes that they are of."""
    return float(len({piece.number for piece in pieces}))


def _runs(good: Tensor) -> list[tuple[int, int]]:
    """Where `t` bool is true: first index of each stretch, and the one after its last."""
    none = good.new_zeros(1).long()
    edges = torch.diff(good.long(), prepend=none, append=none)
    return list(zip(*((edges == sign).nonzero().flatten().tolist() for sign in (1, -1)), strict=True))
