"""The main job: collect in two rooms, teach two schools on the same clips, judge them, show it."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from innerworld.agent import AgentConfig, UpperConfig
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.plan import ICEM
from innerworld.training import TrainConfig


class School(Config):
    """One family's part in a run; of one family there may be several, under other names."""

    family: str | None = Field(default=None, description="the family; null: the one that the school is named after")
    preset: str = Field(default="small", description="the family's preset")
    model: dict[str, Any] = Field(default={}, description="settings other than the preset's")
    batch: int = Field(default=64, description="clips in a training step", ge=1)
    length: int = Field(default=12, description="actions in a clip", ge=1)
    frame_skip: int = Field(default=1, description="steps joined into one, their actions concatenated", ge=1)
    train: TrainConfig = Field(default=TrainConfig(), description="the training")
    goals: int | None = Field(default=None, description="tries the first so many goals only; null: all of them", ge=2)
    agent: AgentConfig | None = Field(default=None, description="an agent of its own; null: that of the control")


class Upper(Config):
    """The upper search of a model with two levels; its horizon counts macro-actions."""

    search: str = Field(default="icem", description="name of the planner")
    planner: dict[str, Any] = Field(default={}, description="its settings")
    cost: UpperConfig = Field(default=UpperConfig(), description="what it searches for")


class Control(Config):
    """How goal-reaching is tried."""

    episodes: int = Field(default=100, description="goals to be reached, fixed beforehand", ge=2)
    budget: int = Field(default=50, description="steps for each", ge=1)
    search: str = Field(default="icem", description="name of the planner")
    planner: dict[str, Any] = Field(default={}, description="its settings for an episode's first plan")
    rounds_again: int = Field(default=4, description="rounds of every later plan, which starts warm", ge=1)
    agent: AgentConfig = Field(default=AgentConfig(), description="the agent")
    goals: Literal["two_episodes", "one_episode"] = Field(
        default="two_episodes",
        description="where a goal comes from: another held-out episode than its start, or goal_offset steps later",
    )
    goal_offset: int = Field(default=25, description="steps from start to goal, with goals=one_episode", ge=1)
    via: int = Field(
        default=0, description="goals on the way, evenly apart, with goals=one_episode; see agent.via_steps", ge=0
    )
    upper: Upper | None = Field(
        default=None, description="the upper search, of a model that has two levels; null: only the lower one"
    )

    @model_validator(mode="after")
    def _the_way_is_known(self) -> Self:
        if self.via and self.goals != "one_episode":
            raise UserError("via: goals on the way are frames of a demonstration, so give goals=one_episode, too")
        return self


class Run(Config):
    """Everything that decides what comes out."""

    env: str = Field(default="two_rooms", description="the world")
    size: int = Field(default=64, description="side of the pictures, pixels", ge=32)
    episodes: int = Field(default=1500, description="episodes to collect", ge=20)
    worlds: int = Field(default=100, description="worlds stepped together", ge=1)
    policy: str = Field(default="smooth", description="who explores: smooth or uniform")
    held_out: float = Field(default=0.1, description="share of episodes kept for judging", gt=0, lt=1)
    seed: int = Field(default=0, description="of the collection, the split, the training and the search", ge=0)
    schools: dict[str, School] = Field(description="what is taught to each family")
    control: Control = Field(default=Control(), description="goal-reaching")


def two_rooms(seed: int = 0) -> Run:
    """A joint-embedding model and an RSSM on 1,500 episodes; about seven minutes on two CPU cores."""
    train = TrainConfig(
        lr=1e-3, weight_decay=1e-4, warmup=100, final_lr_fraction=0.05, clip_grad=1.0, check_every=200, save_every=200,
        keep=2, device="cpu", seed=seed,
    )  # fmt: skip
    # The RSSM compares decoded pictures with the goal, which is dear: it tries fewer goals and looks at fewer steps.
    small = train.model_copy(update={"lr": 2e-3, "clip_grad": 100.0, "final_lr_fraction": 0.2, "steps": 2200})
    return Run(
        seed=seed,
        schools={
            "jepa": School(batch=64, length=12, train=train.model_copy(update={"steps": 900})),
            "rssm": School(batch=16, length=16, train=small, goals=6, agent=AgentConfig(execute=4, every=8)),
        },
        control=Control(
            search="icem",
            planner=ICEM(
                horizon=32,
                samples=256,
                populations=8,
                rounds=6,
                elites=32,
                init_std=1.0,
                min_std=0.1,
                noise_beta=2.0,
                momentum=0.0,
            ).model_dump(),
            rounds_again=4,
            agent=AgentConfig(execute=2),
        ),
    )
