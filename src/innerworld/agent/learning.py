"""`OnTheJob`: the world model goes on learning while the agent acts, from what it lives and from what it lived before.

Recent experience teaches what has changed; clips of old experience in every batch keep what was known, as in
experience replay (Lin 1992). A watch on held-out old experience takes back an update that ruins more than it teaches.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Protocol

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn.utils import clip_grad_norm_

from innerworld import saved
from innerworld.agent.actor.react import looking
from innerworld.agent.afresh import believed
from innerworld.agent.cost.critic import Past, TrainableCritic
from innerworld.agent.experience import NONE, Experience
from innerworld.agent.knows import as_it_was, drawing, knows
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.types import Clip, Obs
from innerworld.world import WorldModel

NAME = "learning"  # of its files
GLANCE = 4  # clips
LOOKS_BACK = 32  # actions along which a belief is made anew, at most
logger = logging.getLogger(__name__)


class OnTheJobConfig(Config):
    every: int = Field(
        default=25, description="looks of the agent from one update to the next; 0: only when `learn` is called", ge=0
    )
    steps: int = Field(default=20, description="optimiser steps of an update", ge=1)
    batch: int = Field(default=64, description="clips in an optimiser step", ge=2)
    length: int = Field(default=8, description="length of a clip, actions (or blocks of them)", ge=1)
    old: float = Field(default=0.5, description="share of old experience in a batch, where there is some", ge=0, lt=1)
    least: int = Field(default=64, description="different recent clips that there must be before it learns", ge=1)
    lr: float = Field(default=3e-4, description="learning rate of AdamW, without decay", gt=0)
    clip_grad: float = Field(default=1.0, description="norm that the gradient may have at most", gt=0)
    only: tuple[str, ...] = Field(
        default=(), description="what may learn, as beginnings of parameters' names (`predictor`); none: all of it"
    )
    ruin: float | None = Field(
        default=2.0,
        description="loss, or error of foresight, on held-out old experience, as a multiple of the first, at which "
        "an update is taken back; null: whatever is finite may be forgotten",
        gt=1,
    )
    sights: int = Field(default=20_000, description="recent sights that are kept at most, of all worlds together", ge=2)
    mebibytes: float = Field(default=256.0, description="room that they may take at most, MiB", gt=0)
    critic_steps: int = Field(default=200, description="optimiser steps of the critic at each update", ge=1)
    seed: int = Field(default=0, description="of the order in which it learns, and of what the loss draws")


class Old(Protocol):
    """Old experience, so that nothing is forgotten."""

    def __call__(self, step: int, size: int) -> Clip:
        """`size` clips for optimiser step `step`, of at least as many actions as those that are learnt from. A function
        of nothing else: then learning goes on exactly after a restart."""
        ...


class OnTheJob:
    """Fine-tune the model, and the critic, every so many looks (`Learner`); row i stands for world i.

    `old` gives clips of old experience, `held_out` is a clip of it that is never learnt from: without one, only what
    is not finite counts as ruin. With a `critic` that critic learns from `memory` at each update, too. Rewards are
    unknown to an agent: whoever runs its world calls `earn`, or a model that tells rewards learns that there are none.
    An update takes its time within `act`; where there is a deadline let `every` be 0, and call `learn` in between.
    """

    def __init__(
        self,
        model: WorldModel,
        config: OnTheJobConfig = OnTheJobConfig(),
        old: Old | None = None,
        held_out: Clip | None = None,
        critic: TrainableCritic | None = None,
        memory: Past | None = None,
    ) -> None:
        if (critic is None) != (memory is None):
            raise UserError("a critic learns on the job from a memory: give both, or neither")
        self.model, self.config, self.old, self.held_out = model, config, old, held_out
        self.critic, self.memory = critic, memory
        self.frozen = False
        self.updates = 0  # how often the weights have changed
        self.eyes = 0  # how often the features of one and the same sight have changed with them
        self.why: list[str] = []  # updates that were taken back, newest last
        self.told: dict[str, float] = {}  # of the last update: loss, recent clips, what became of old experience
        self.experience = Experience(model.spec, config.sights, config.mebibytes)
        self._learnt = _chosen(model, config.only)
        self._optimiser = self._fresh()
        self._tried = self._looks = 0  # updates; looks since the last one
        self._earned, self._ended = torch.zeros(0), torch.zeros(0, dtype=torch.bool)  # b   since the last look
        self._first = self._remembered()  # of old experience, before anything was learnt
        if not math.isfinite(self._first.get("loss", 0.0)):
            raise UserError("the model's loss on the held-out experience is not finite: give other clips")

    # ------------------------------------------------------------------ what happens

    def begin(self, obs: Obs) -> None:
        """What is seen first in every world, each `b ...`. Raises `UserError` where it has no room for them."""
        b = len(next(iter(obs.values())))
        self._earned, self._ended = torch.zeros(b), torch.zeros(b, dtype=torch.bool)
        if not self.frozen:
            self.experience.begin(obs)

    def earn(self, reward: Tensor, terminated: Tensor) -> None:
        """The reward of the last action, and whether the world ended with it: both `b`, before the next look."""
        self._earned, self._ended = self._earned + reward.cpu(), self._ended | terminated.cpu()

    def notice(self, obs: Obs, action: Tensor) -> None:
        """What is seen after `action`, `b a`: keep it, and learn when it is time."""
        earned, ended = self._earned, self._ended
        self._earned, self._ended = torch.zeros_like(earned), torch.zeros_like(ended)
        if self.frozen:
            return
        self.experience.add(obs, action, earned, ended)
        self._looks += 1
        if self.config.every and self._looks >= self.config.every:
            self.learn()

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the worlds only (indices)."""
        rows = rows.cpu()
        self._earned, self._ended = self._earned[rows], self._ended[rows]
        self.experience.keep(rows)

    def lately(self) -> tuple[Clip, Tensor]:
        """What was seen up to now, to believe it anew after an update: clips of these worlds (indices)."""
        return self.experience.lately(LOOKS_BACK)

    @property
    def now(self) -> Tensor:
        """Numbers of the sights that came last, `b`; -1 where none was kept."""
        now = self.experience.now
        return now if len(now) else torch.full((len(self._earned),), NONE)

    def believed(self, sights: Tensor) -> Tensor:
        """Features `n d` of what the model believes now of sights by their numbers `n`; NaN of those not kept."""
        return believed(self.model, self.experience, sights)

    def freeze(self) -> None:
        """From now on nothing changes: no weight is touched and nothing is kept."""
        self.frozen = True
        self.experience.look_away()

    def thaw(self) -> None:
        """Learn again."""
        self.frozen = False

    # ------------------------------------------------------------------ how it learns

    def learn(self) -> bool:
        """One update now; have the weights changed? Not while frozen, nor while there is too little recent experience,
        nor where the update was ruin: then the weights are those from before, bit for bit."""
        self._looks = 0
        recent = 0 if self.frozen else self.experience.windows(self.config.length)
        if recent < self.config.least:
            return False
        good = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self._tried += 1
        glance = self._glance()
        before = self._impressions(glance)
        with as_it_was(self.model), drawing(self.model, self._seed(self._tried)):
            loss = self._fit()
        wrong, kept = self._judged(loss)
        self.told = {"loss": loss, "recent": float(recent)} | {f"old {name}": value for name, value in kept.items()}
        if wrong:
            self._take_back(good, wrong)
        else:
            self.updates += 1
            self.eyes += not torch.equal(before, self._impressions(glance))
        if self.critic is not None and self.memory is not None:
            self.memory.refresh(self.eyes, self.believed)
            self.critic.learn(self.memory, self.config.critic_steps)
        return not wrong

    def _fit(self) -> float:
        """The optimiser steps of one update; the mean loss, NaN where one was not finite."""
        _wake(self.model, self.config.only)
        rng = Generator().manual_seed(self._seed(self._tried))
        total = 0.0
        with torch.enable_grad():
            for step in range(self.config.steps):
                clip = self._batch((self._tried - 1) * self.config.steps + step, rng)
                loss, _ = self.model.loss(clip)
                self._optimiser.zero_grad()
                loss.backward()
                norm = clip_grad_norm_(self._learnt.values(), self.config.clip_grad)
                if not bool(torch.isfinite(loss.detach() + norm)):
                    total = math.nan
                    break
                self._optimiser.step()
                self.model.after_step()
                total += float(loss.detach()) / self.config.steps
        self._optimiser.zero_grad()
        return total

    def _batch(self, step: int, rng: Generator) -> Clip:
        """Recent and old experience together."""
        config = self.config
        old = 0 if self.old is None else round(config.batch * config.old)
        clip = self.experience.clips(config.length, config.batch - old, rng)
        if self.old is not None and old:
            clip = _together(clip, self.old(step, old))
        return clip.to(next(self.model.parameters()).device)

    def _judged(self, loss: float) -> tuple[str, dict[str, float]]:
        """What is wrong with an update, empty: nothing; and what became of old experience, where some is held out."""
        if not math.isfinite(loss):
            return "the loss or its gradient was not finite", {}
        if not all(bool(value.isfinite().all()) for value in self._learnt.values()):
            return "weights were not finite", {}
        now, wrong = self._remembered(), ""
        for name, value in now.items():
            first = self._first[name]
            if self.config.ruin is not None and math.isfinite(first) and not value < self.config.ruin * abs(first):
                wrong = wrong or f"the {name} on old experience rose from {first:.4g} to {value:.4g}"
        return wrong, now

    def _take_back(self, good: dict[str, Tensor], wrong: str) -> None:
        """The weights from before, and an optimiser without the momentum that led astray, half as fast."""
        self.model.load_state_dict(good)
        self.why.append(f"update {self._tried} was taken back: {wrong}")
        self._optimiser = self._fresh()
        if len(self.why) == 1:
            logger.warning("%s (told once, see OnTheJob.why)", self.why[0])

    def _remembered(self) -> dict[str, float]:
        """How well the model knows the old experience that is held out; empty: none is."""
        return {} if self.held_out is None else knows(self.model, self.held_out, self._seed(0))

    def _seed(self, update: int) -> int:
        return self.config.seed * 1_000_003 + update

    def _glance(self) -> Clip:
        """A few recent sights, to notice by whether the features of what is seen have changed."""
        rng = Generator().manual_seed(self._seed(self._tried))
        return self.experience.clips(self.config.length, GLANCE, rng).to(next(self.model.parameters()).device)

    @torch.no_grad()
    def _impressions(self, clip: Clip) -> Tensor:
        with looking(self.model):
            return self.model.impressions(clip)

    def _fresh(self) -> torch.optim.AdamW:
        """Half as fast for each update that was taken back, or the next one would lead astray as this one did."""
        rate = self.config.lr * 0.5 ** len(self.why)
        return torch.optim.AdamW(self._learnt.values(), lr=rate, weight_decay=0.0)

    # ------------------------------------------------------------------ how it outlives the program

    def save(self, folder: Path | str) -> None:
        """Write all of it but the model and the critic, atomically. Raises `UserError` when the disk refuses."""
        tensors = {f"experience.{name}": value for name, value in self.experience.tensors().items()}
        for name, parameter in self._learnt.items():
            for key, value in self._optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser.{key}.{name}"] = value
        tensors |= {"earned": self._earned, "ended": self._ended}
        counts = {"updates": self.updates, "eyes": self.eyes, "tried": self._tried, "looks": self._looks}
        told = {
            "frozen": self.frozen,
            "first": list(self._first.items()),
            "why": self.why,
            "told": list(self.told.items()),
        }
        saved.write(folder, NAME, tensors, counts | told)

    def load(self, folder: Path | str) -> None:
        """Go on where `save` left off, with the model's weights of then. Raises `UserError` that names the file which
        is missing or broken, and for what was saved of another model or with less room."""
        tensors, told = saved.read(folder, NAME)
        names = {name.split(".", 2)[2] for name in tensors if name.startswith("optimiser.")}
        if not names <= set(self._learnt):
            raise UserError(f"{folder} is of other parameters: {min(names - set(self._learnt))} does not learn here")
        kept = {name.removeprefix("experience."): value for name, value in tensors.items() if "experience." in name}
        self.experience.restore(kept)
        self.updates, self.eyes = int(told["updates"]), int(told["eyes"])
        self._tried, self._looks = int(told["tried"]), int(told["looks"])
        self.frozen, self._first, self.why = bool(told["frozen"]), dict(told["first"]), list(told["why"])
        self._optimiser = self._fresh()
        for key in sorted(tensors):
            if key.startswith("optimiser."):
                _, which, name = key.split(".", 2)
                parameter = self._learnt[name]
                place = "cpu" if which == "step" else parameter.device
                self._optimiser.state[parameter][which] = tensors[key].to(place)
        self._earned, self._ended = tensors["earned"], tensors["ended"]
        self.told = {str(name): float(value) for name, value in told["told"]}


# ---------------------------------------------------------------------- below


def _chosen(model: WorldModel, only: tuple[str, ...]) -> dict[str, torch.nn.Parameter]:
    """The parameters that learn, by name. Raises `UserError` where none does."""
    names = {name: p for name, p in model.named_parameters() if p.requires_grad}
    chosen = {name: p for name, p in names.items() if _is_under(name, only)}
    if not chosen:
        parts = ", ".join(sorted({name.partition(".")[0] for name in names})) or "none, all parameters are frozen"
        raise UserError(f"only={list(only)} names no parameter that can learn; there are: {parts}")
    return chosen


def _wake(model: WorldModel, only: tuple[str, ...]) -> None:
    """What may learn does: the rest is as when it is used, so that no statistics move there, and gets no gradient."""
    model.train()
    for name, module in model.named_modules():
        if name and not _is_under(name, only) and not any(prefix.startswith(f"{name}.") for prefix in only):
            module.train(False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and _is_under(name, only))


def _is_under(name: str, only: tuple[str, ...]) -> bool:
    return not only or any(name == prefix or name.startswith(f"{prefix}.") for prefix in only)


def _together(recent: Clip, old: Clip) -> Clip:
    """One batch of both; where old clips hold more than one episode, recent ones say that they do not."""
    if old.length < recent.length:
        raise UserError(f"old clips have {old.length} actions, recent ones {recent.length}: make them longer")
    old = old.cut(0, recent.length)
    obs = {name: torch.cat([value, old.obs[name].to(value)]) for name, value in recent.obs.items()}
    first = None
    if old.first is not None:
        none = torch.zeros(len(recent.action), recent.length + 1, dtype=torch.bool)
        first = torch.cat([none, old.first])
    action, reward, terminated = (
        torch.cat([mine, its.to(mine)])
        for mine, its in (
            (recent.action, old.action),
            (recent.reward, old.reward),
            (recent.terminated, old.terminated),
        )
    )
    return Clip(obs, action, reward, terminated, first)
