"""The terms of a comparison, the same for all: experience, teaching, how much is asked, and how goals are tried."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from innerworld.config import Config, override
from innerworld.errors import UserError
from innerworld.evaluate.exam import ExamConfig
from innerworld.plan import ICEM
from innerworld.recipes.two_rooms import Control
from innerworld.training import TrainConfig


class Experience(Config):
    """What is collected of a world that is named; a folder's store is taken as it is."""

    episodes: int = Field(default=200, description="episodes of each world and seed", ge=4)
    size: int = Field(default=64, description="side of the pictures, pixels", ge=8)
    policy: str = Field(default="smooth", description="who explores: smooth or uniform")
    max_steps: int | None = Field(default=None, description="longest episode, steps; null: the world's own", ge=2)
    worlds: int = Field(default=50, description="worlds stepped together", ge=1)


class Teaching(Config):
    """How a model is taught; an entry may have its own. The number of steps and the seed are the comparison's."""

    batch: int = Field(default=32, description="clips in an update", ge=1)
    length: int = Field(default=8, description="actions in a clip", ge=1)
    frame_skip: int = Field(default=1, description="steps joined into one, their actions concatenated", ge=1)
    train: TrainConfig = Field(
        default=TrainConfig(
            lr=1e-3,
            weight_decay=1e-4,
            warmup=20,
            final_lr_fraction=0.1,
            check_every=100,
            save_every=100,
            keep=1,
            device="cpu",
            threads=1,
        ),
        description="the training",
    )


class Terms(Config):
    """What all have in common."""

    sensors: tuple[str, ...] = Field(default=(), description="what models see; none: all images, else all vectors")
    held_out: float = Field(default=0.2, description="share of the episodes kept for asking", gt=0, lt=1)
    experience: Experience = Field(default=Experience(), description="what is collected")
    teaching: Teaching = Field(default=Teaching(), description="how models are taught")
    exam: ExamConfig = Field(default=ExamConfig(), description="how much is asked")
    control: Control = Field(
        default=Control(
            planner=ICEM(horizon=12, samples=64, rounds=3, elites=8, init_std=1.0, min_std=0.1).model_dump(),
            rounds_again=2,
        ),
        description="how goals are tried; their number and budget are the exam's",
    )


DECIDED = {
    "teaching.train.steps": "--budget",
    "teaching.train.seed": "--seed and --seeds",
    "control.episodes": "exam.goals",
    "control.budget": "exam.budget",
    "sensors": "--sensors",
}
"""Keys that something else decides, and what."""


def read_terms(words: Sequence[str], sensors: Sequence[str] = ()) -> Terms:
    """The terms with `key=value` words applied. Raises `UserError`, also for a key that something else decides."""
    refuse_decided(words)
    return override(Terms(sensors=tuple(sensors)), words)


def refuse_decided(words: Sequence[str], prefix: str = "") -> None:
    """Raise `UserError` for a word whose key, after `prefix`, something else decides."""
    for word in words:
        key = word.partition("=")[0]
        if prefix + key in DECIDED:
            raise UserError(f"{key} is decided by {DECIDED[prefix + key]}: give that")
