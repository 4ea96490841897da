"""What a habit is taught: beliefs, goals, and the actions that were right there; and the drill by which it learns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.optim import AdamW

from innerworld import saved
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.nn.schedules import warmup_cosine
from innerworld.policy.habit import Habit

NAME = "lessons"  # of its files


class DrillConfig(Config):
    steps: int = Field(default=800, description="optimiser steps", ge=1)
    batch: int = Field(default=128, description="lessons in a step", ge=1)
    lr: float = Field(default=3e-3, description="highest learning rate", gt=0)
    warmup: int = Field(default=50, description="steps in which the rate rises", ge=0)
    weight_decay: float = Field(default=1e-4, description="of AdamW", ge=0)
    clip_grad: float = Field(default=10.0, description="largest norm of a gradient", gt=0)
    held_out: float = Field(default=0.1, description="share of the lessons that it is examined by", ge=0, lt=1)


@dataclass(frozen=True)
class Advice:
    """n lessons: there, toward that, this is what to do."""

    features: Tensor  # n d   of the belief
    goal: Tensor | None  # n d   of the goal; none: one task only
    action: Tensor  # n a   of choices perhaps soft: how often each was right

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, index: Tensor) -> Advice:
        return Advice(self.features[index], None if self.goal is None else self.goal[index], self.action[index])


class Lessons:
    """All lessons so far, at most the newest `most`."""

    def __init__(self, most: int = 500_000) -> None:
        self.most = most
        self._kept: list[Advice] = []

    def __len__(self) -> int:
        return sum(len(lesson) for lesson in self._kept)

    def add(self, advice: Advice) -> None:
        """Keep it, on the host. Raises `UserError` for one with a goal among others without, or the reverse."""
        if not len(advice):
            return
        if self._kept and (self._kept[0].goal is None) != (advice.goal is None):
            raise UserError("lessons of one habit have all a goal or none: keep those of other tasks apart")
        goal = None if advice.goal is None else advice.goal.detach().cpu()
        self._kept.append(Advice(advice.features.detach().cpu(), goal, advice.action.detach().cpu()))
        while len(self) - len(self._kept[0]) >= self.most:
            self._kept.pop(0)

    def all(self) -> Advice:
        """As one, the newest `most`. Raises `UserError` where there are none."""
        if not self._kept:
            raise UserError("there are no lessons: let somebody act, and a planner say what would have been right")
        goals = [lesson.goal for lesson in self._kept if lesson.goal is not None]
        together = Advice(
            torch.cat([lesson.features for lesson in self._kept]),
            torch.cat(goals) if goals else None,
            torch.cat([lesson.action for lesson in self._kept]),
        )
        return together.rows(torch.arange(max(0, len(together) - self.most), len(together)))

    def save(self, folder: Path | str) -> None:
        """Write them, atomically, as `lessons.json` and safetensors. Raises `UserError` when the disk refuses."""
        lessons = self.all()
        parts = {"features": lessons.features, "action": lessons.action}
        if lessons.goal is not None:
            parts["goal"] = lessons.goal
        saved.write(folder, NAME, parts, {})

    @classmethod
    def load(cls, folder: Path | str, most: int = 500_000) -> Lessons:
        """Read what `save` wrote. Raises `UserError` that names the file which is missing or broken."""
        parts, _ = saved.read(folder, NAME)
        advice = Advice(parts["features"], parts.get("goal"), parts["action"])
        lessons = cls(most)
        lessons.add(advice)
        return lessons


def hindsight(features: Tensor, action: Tensor, within: int) -> Advice:
    """A state reached k steps later is a goal for the action that led toward it, for k = 1 to `within`.

    Features `b t+1 d` along the way, actions `b t a`. After one step that action is right by definition; the more
    steps, the less is it the way that a planner would have gone (hindsight relabelling, arXiv 1707.01495). Raises
    `UserError` for a way that is shorter.
    """
    t = action.shape[1]
    if not 1 <= within <= t:
        raise UserError(f"hindsight looks {within} steps ahead on a way of {t}: choose 1 to {t}")
    begins = [features[:, : t + 1 - k].flatten(0, 1) for k in range(1, within + 1)]
    ends = [features[:, k:].flatten(0, 1) for k in range(1, within + 1)]
    done = [action[:, : t + 1 - k].flatten(0, 1) for k in range(1, within + 1)]
    return Advice(torch.cat(begins), torch.cat(ends), torch.cat(done))


def drill(habit: Habit, advice: Advice, config: DrillConfig = DrillConfig(), seed: int = 0) -> dict[str, float]:
    """Teach the habit; what it goes on from is what it knows already. Tells its loss on lessons seen and held out.

    `error` is the held-out distance of its action from the one that was right, in action units; of choices the share
    that is wrong. It learns where the lessons lie (`Habit.fit`) in its first drill.
    """
    rng = Generator().manual_seed(seed)
    learn, exam = _apart(advice, config.held_out, rng)
    if not bool(habit.fitted):
        habit.fit(learn.features if learn.goal is None else torch.cat([learn.features, learn.goal]))
    learning = [parameter for parameter in habit.parameters() if parameter.requires_grad]
    optimiser = AdamW(learning, lr=config.lr, weight_decay=config.weight_decay)
    habit.train()
    losses: list[float] = []
    for step in range(config.steps):
        for group in optimiser.param_groups:
            group["lr"] = warmup_cosine(step + 1, config.steps, config.lr, config.warmup)
        batch = learn.rows(torch.randint(len(learn), (config.batch,), generator=rng))
        loss = habit.loss(batch.features, batch.goal, batch.action)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, config.clip_grad)
        optimiser.step()
        losses.append(float(loss.detach()))
    habit.eval()
    recent = losses[-max(1, len(losses) // 10) :]
    return {"lessons": float(len(advice)), "loss": sum(recent) / len(recent)} | _examined(habit, exam)


def _apart(advice: Advice, held_out: float, rng: Generator) -> tuple[Advice, Advice]:
    """Those to learn from, and those to be examined by; where there are few the same."""
    order = torch.randperm(len(advice), generator=rng)
    exam = int(len(advice) * held_out)
    return advice.rows(order[exam:]), advice.rows(order[:exam] if exam else order)


@torch.no_grad()
def _examined(habit: Habit, exam: Advice) -> dict[str, float]:
    action, apart = habit.advise(exam.features, exam.goal)
    if habit.spec.discrete:
        wrong = (action.argmax(dim=-1) != exam.action.argmax(dim=-1)).float()
    else:
        wrong = (action - exam.action).norm(dim=-1)
    loss = habit.loss(exam.features, exam.goal, exam.action)
    return {"held_out_loss": float(loss), "error": float(wrong.mean()), "uncertainty": float(apart.mean())}
