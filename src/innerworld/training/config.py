"""How to train: `TrainConfig`, the learning rate that follows from it, and the device that it names."""

from __future__ import annotations

import logging
import math
from typing import Literal, Self

import torch
from pydantic import Field, model_validator

from innerworld.config import Config
from innerworld.errors import UserError, choose
from innerworld.nn.schedules import warmup_constant_cooldown

FREE_ON_RESUME = (
    "steps",
    "cooldown",
    "log_every",
    "check_every",
    "save_every",
    "keep",
    "best",
    "best_is_highest",
    "background",
    "on_full",
    "on_nonfinite",
    "max_skips",
    "on_memory",
    "micro_batch",
    "threads",
)
"""Settings that may change when a run goes on."""
logger = logging.getLogger(__name__)


class TrainConfig(Config):
    """How to train. `steps` may grow on resume; the learning rate then follows the longer schedule from there on."""

    steps: int = Field(default=10_000, ge=0, description="optimiser steps in all")
    optimiser: Literal["adamw", "laprop"] = Field(
        default="adamw", description="laprop: DreamerV3's, which scales gradients before it averages them"
    )
    lr: float = Field(default=3e-4, gt=0, description="highest learning rate")
    weight_decay: float = Field(
        default=0.0, ge=0, description="share of parameters with two or more axes lost per step, times lr"
    )
    schedule: Literal["cosine", "cooldown"] = Field(
        default="cosine",
        description="after the warm-up lr falls by half a cosine over the run; or stays, and falls straight at its end",
    )
    warmup: int = Field(default=0, ge=0, description="steps over which the learning rate rises")
    cooldown: int = Field(default=0, ge=0, description="schedule=cooldown: steps of that fall, the run's last ones")
    first_lr_fraction: float = Field(
        default=0.0, ge=0, le=1, description="where the warm-up rises from, as a fraction of lr"
    )
    final_lr_fraction: float = Field(default=1.0, ge=0, le=1, description="last learning rate, as a fraction of lr")
    clip_grad: float = Field(default=1.0, ge=0, description="largest norm of the gradient; 0: any")
    agc: float = Field(
        default=0.0, ge=0, description="largest norm of each tensor's gradient, as a fraction of the tensor's; 0: any"
    )
    betas: tuple[float, float] = Field(
        default=(0.9, 0.999), description="the optimiser's averaging of gradients and of their squares"
    )
    eps: float | None = Field(
        default=None, gt=0, description="added to the root of the squares; null: 1e-8 of adamw, 1e-20 of laprop"
    )
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="decay of a moving average of the weights, kept beside them; 0: none"
    )
    micro_batch: int = Field(
        default=0, ge=0, description="clips that a process computes at once, gradients add up; 0: all its own"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the loss; bfloat16 is autocast"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(default="auto", description="auto: cuda, else mps, else cpu")
    threads: int | None = Field(default=None, ge=1, description="CPU threads; null: as torch chooses")
    compile: bool = Field(default=False, description="torch.compile the loss")
    seed: int = Field(default=0, ge=0, description="of the global random states at step 0")
    log_every: int = Field(default=20, ge=1, description="steps between two rows of the log")
    check_every: int = Field(default=500, ge=1, description="steps between two looks of the collapse watch")
    save_every: int = Field(default=1000, ge=1, description="steps between two checkpoints")
    keep: int = Field(default=3, ge=1, description="checkpoints kept; older ones are deleted, but the best")
    best: str = Field(default="", description="metric of the log whose best checkpoint is kept, such as loss")
    best_is_highest: bool = Field(default=False, description="is a high value of that metric good?")
    background: bool = Field(default=True, description="write checkpoints while training goes on")
    on_full: Literal["stop", "continue"] = Field(
        default="stop", description="when a checkpoint cannot be written (the last one always stops)"
    )
    on_nonfinite: Literal["stop", "skip"] = Field(
        default="stop", description="when a loss or gradient is not finite; the step is not taken in either case"
    )
    max_skips: int = Field(default=10, ge=1, description="steps skipped in a row before training stops")
    on_memory: Literal["stop", "halve"] = Field(
        default="stop", description="when memory runs out; halve: of the micro-batch, and try the step again"
    )

    @model_validator(mode="after")
    def _the_schedule_is_whole(self) -> Self:
        """Raises `UserError`, for what is wrong is in no single field."""
        if self.schedule == "cosine" and self.cooldown:
            raise UserError(f"train.cooldown={self.cooldown} is for train.schedule=cooldown: give both, or neither")
        if self.schedule == "cooldown" and (self.cooldown == 0 or self.final_lr_fraction == 1):
            raise UserError(
                "train.schedule=cooldown needs train.cooldown=STEPS and train.final_lr_fraction below 1: else lr stays"
            )
        if self.schedule == "cooldown" and self.warmup + self.cooldown > self.steps:
            used = f"train.warmup={self.warmup} and train.cooldown={self.cooldown}"
            raise UserError(f"{used} do not fit into train.steps={self.steps}")
        return self


def learning_rate(step: int, config: TrainConfig) -> float:
    """A straight rise over `warmup` steps from `lr * first_lr_fraction`, then down to `lr * final_lr_fraction`.

    The first step is one step up, so that it is not lost where the rise begins at zero; the last one is all the way
    down.
    """
    first, final = config.lr * config.first_lr_fraction, config.lr * config.final_lr_fraction
    if config.schedule == "cooldown":
        return warmup_constant_cooldown(
            step + 1, config.steps, config.lr, config.warmup, config.cooldown, start=first, final=final
        )
    if step < config.warmup:
        return first + (config.lr - first) * (step + 1) / config.warmup
    part = (step - config.warmup) / max(1, config.steps - 1 - config.warmup)
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, part)))
    return config.lr * (config.final_lr_fraction + (1 - config.final_lr_fraction) * fall)


def choose_device(name: str) -> torch.device:
    """The device of that name; auto is the fastest here. Raises `UserError` when it is not here."""
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if here["cuda"] else "mps" if here["mps"] else "cpu")
    if not choose("device", name, here):
        raise UserError(f"no {name} device here: use device=auto, or device=cpu")
    return torch.device(name)


def autocasts(config: TrainConfig, device: torch.device) -> bool:
    """Is the loss computed in bfloat16? Raises `UserError` where the device cannot."""
    if config.precision == "float32":
        return False
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError("this cuda device has no bfloat16: use precision=float32")
    if device.type == "cpu" and config.device != "cpu":
        logger.warning("bfloat16 is meant for an accelerator: training in float32 (device=cpu asks for bfloat16 here)")
        return False
    return True
