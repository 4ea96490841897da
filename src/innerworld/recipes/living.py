"""`Living`: the clips of online training. Before each batch it lives as much as the replay ratio asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from innerworld.activity import doing
from innerworld.data.explore import Uniform
from innerworld.data.lives import Lives, Outcome, Over
from innerworld.data.ring import Moment, Places, Ring
from innerworld.errors import UserError
from innerworld.evaluate.returns import earn, summary
from innerworld.recipes.acting import Acting, HasPolicy, to_numpy
from innerworld.recipes.practice import Practice
from innerworld.types import Clip, State
from innerworld.world import WorldModel

PORTIONS = 20  # in which the replay is filled at first, so that one sees it grow


@dataclass
class Units:
    """How much was lived: an agent step is one action of the policy, and may be several steps of the environment."""

    action_repeat: int = 1
    frames_per_step: int = 1  # frames of the world in an agent step, with the world's own frame skip
    agent_steps: int = 0
    episodes: int = 0

    def row(self) -> dict[str, float]:
        return {
            "env_steps": self.agent_steps * self.action_repeat,
            "agent_steps": self.agent_steps,
            "frames": self.agent_steps * self.frames_per_step,
            "episodes": self.episodes,
        }


class Living:
    """`batch` gives back to the replay what was believed in the last batch, lives, and draws.

    What it lives follows from the updates since this process began, never from those before, so that a run that goes
    on does so at the pace at which it went. What a world refuses to do is raised by `batch`, and by nothing else: the
    training loop saves what was learnt when that happens.
    """

    def __init__(
        self, model: WorldModel, begin: Callable[[int], Lives], ring: Ring, practice: Practice, units: Units
    ) -> None:
        self.model, self.ring, self.units = model, ring, units
        self.online, self.seed, self.save_every = practice.online, practice.train.seed, practice.train.save_every
        self.updates = 0
        self.fault: UserError | None = None  # of somebody who must not raise it himself
        self.lives = begin(int(ring.noted.get("begun", 0)))
        self._explore, self._dice = Uniform(self.lives.spec), np.random.default_rng([self.seed, self.lives.begun])
        self._acting: Acting | None = None
        self._due = 0.0  # agent steps
        self._places: Places | None = None
        self._over: list[Over] = []  # episodes since the log was told

    def batch(self, step: int) -> Clip:
        """The clips of update `step`. Raises `UserError` when a world fails, or the disk refuses."""
        if self.fault is not None:
            raise self.fault
        self.updates = step
        self._write_back()
        if step % self.save_every == 0:  # the training loop has just saved the weights
            self.save(step)
        self.model.eval()
        self._live(step)
        self.model.train()
        clip, self._places = self.ring.draw(np.random.default_rng([self.seed, step]), self.online.batch)
        return clip

    def save(self, step: int) -> None:
        """Note what was lived when so many updates were done. Raises `UserError` when the disk refuses."""
        units = {"agent_steps": self.units.agent_steps, "episodes": self.units.episodes}
        self.ring.save(step, {**units, "begun": self.lives.begun})

    def told(self) -> dict[str, float]:
        """What the log is to know: units, and the means of the episodes that ended since it was told last."""
        over, self._over = self._over, []
        row = self.units.row() | {"updates": self.updates + 1}
        if over:
            row["return"] = float(np.mean([each.total for each in over]))
            row["length"] = float(np.mean([each.length for each in over]))
        return row

    # ------------------------------------------------------------------ below

    def _write_back(self) -> None:
        if self._places is None:
            return
        assert isinstance(self.model, HasPolicy) and self.model.beliefs is not None
        beliefs = self.model.beliefs  # b t+1 ...
        if all(bool(torch.isfinite(value).all()) for value in beliefs.values()):  # else that update was not taken
            self.ring.write_back(self._places, self._packed(beliefs))

    def _live(self, step: int) -> None:
        if self._acting is None:  # only now is the model where the training loop wants it
            self._acting = Acting(self.model, sample=True, seed=self.seed + self.lives.begun)
        if self._lacks() > 0:
            self._fill(self._acting, explores=step == 0 and self.online.prefill_by == "uniform")
            return
        self._due += self.online.steps_per_update
        while self._due >= self.lives.n:
            self._due -= self.lives.n
            self._act(self._acting, explores=False)

    def _lacks(self) -> int:
        """How many moments must be lived before there is enough to learn from."""
        most = self.lives.n * (self.ring.rows - 1)
        lacks = min(self.online.prefill, most) - len(self.ring)
        return lacks if lacks > 0 else int(self.ring.windows.sum() == 0)

    def _fill(self, acting: Acting, explores: bool) -> None:
        whole = self.online.prefill
        while (lacks := self._lacks()) > 0:
            with doing(f"filling the replay, {whole - lacks} of {whole} moments"):
                until = lacks - max(1, whole // PORTIONS)
                while self._lacks() > max(0, until):
                    self._act(acting, explores)

    def _act(self, acting: Acting, explores: bool) -> None:
        """One agent step in every world."""
        lives = self.lives
        obs, first = {name: value.copy() for name, value in lives.obs.items()}, lives.first
        action = acting.act(obs, first)
        if explores:
            action = acting.did(self._explore(obs, self._dice))
        belief = self._packed(acting.belief)
        outcome = lives.step(action)
        real = ~outcome.lost  # what was done in a world that was lost has led nowhere
        action, reward = action * real[:, None], outcome.reward * real
        self.ring.append(Moment(obs, action, reward, outcome.terminated, first, belief))
        self.units.agent_steps += lives.n
        if outcome.ended.any():
            self._end(acting, outcome)

    def _end(self, acting: Acting, outcome: Outcome) -> None:
        """Keep the last sights of the episodes that ended, and begin others."""
        lives = self.lives
        whole = outcome.ended & ~outcome.lost
        if whole.any():
            nothing = np.zeros(lives.n, np.bool_)
            action, belief = np.zeros((lives.n, lives.spec.action), np.float32), self._packed(acting.glance(lives.obs))
            self.ring.append(Moment(lives.obs, action, nothing, nothing, nothing, belief), whole)
        self.units.episodes += len(outcome.over)
        self._over += outcome.over
        lives.begin()

    def _packed(self, beliefs: State) -> Mapping[str, np.ndarray]:
        return to_numpy(self.model.packed(beliefs))


class Examiner:
    """The watch of a training loop: every `eval_every` updates, and after the last, episodes in worlds of its own.

    The same episodes each time. A world that fails is told to `living`, which raises it before the next update: here
    it would cost what was learnt since the last checkpoint.
    """

    def __init__(self, living: Living, begin: Callable[[], Lives], steps: int) -> None:
        self.living, self._begin, self.steps = living, begin, steps

    def __call__(self) -> Mapping[str, float]:
        living, online = self.living, self.living.online
        done = living.updates + 1
        if not online.eval_every or (done % online.eval_every and done != self.steps):
            return {}
        model = living.model
        try:
            with doing("evaluating the policy"):
                model.eval()
                acting = Acting(model, online.eval_sampled, living.seed)
                found = summary(earn(acting, self._begin(), online.eval_episodes))
        except UserError as error:
            living.fault = UserError(f"the evaluation failed: {error}")
            return {}
        finally:
            model.train()
        return {"eval_return": found["return"], "eval_return_std": found["return_std"], "eval_length": found["length"]}
