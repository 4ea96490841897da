"""The one training loop: it knows `model.loss` and `model.after_step`, stops before a bad step, and resumes exactly."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import AdamW

from innerworld import checkpoint
from innerworld.config import Config
from innerworld.errors import UserError, choose
from innerworld.log import Log, silent
from innerworld.types import Clip
from innerworld.world import WorldModel

FREE_ON_RESUME = ("steps", "log_every", "check_every", "save_every", "keep", "threads")
logger = logging.getLogger(__name__)


class TrainConfig(Config):
    """How to train. `steps` may grow on resume; the learning rate then follows the longer schedule from there on."""

    steps: int = Field(default=10_000, ge=0, description="optimiser steps in all")
    lr: float = Field(default=3e-4, gt=0, description="highest learning rate")
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW's decay, of parameters with two or more axes")
    warmup: int = Field(default=0, ge=0, description="steps over which the learning rate rises from zero")
    final_lr_fraction: float = Field(
        default=1.0, ge=0, le=1, description="last learning rate, as a fraction of lr (cosine)"
    )
    clip_grad: float = Field(default=1.0, ge=0, description="largest norm of the gradient; 0: any")
    betas: tuple[float, float] = Field(
        default=(0.9, 0.999), description="AdamW's averaging of gradients and their squares"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the loss; bfloat16 is autocast"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(default="auto", description="auto: cuda, else mps, else cpu")
    threads: int | None = Field(default=None, ge=1, description="CPU threads; null: as torch chooses")
    compile: bool = Field(default=False, description="torch.compile the loss")
    seed: int = Field(default=0, ge=0, description="of torch's global random state at step 0")
    log_every: int = Field(default=20, ge=1, description="steps between two rows of the log")
    check_every: int = Field(default=500, ge=1, description="steps between two looks of the collapse watch")
    save_every: int = Field(default=1000, ge=1, description="steps between two checkpoints")
    keep: int = Field(default=3, ge=1, description="checkpoints kept; older ones are deleted")


class Clips(Protocol):
    """Experience to learn from: a pure function of the step, so that a resumed run needs no sampler's state."""

    def batch(self, step: int) -> Clip: ...


class Interrupted(UserError):
    """Stopped by Ctrl-C or SIGTERM between two steps; `code` is the exit status that shells expect."""

    def __init__(self, step: int, saved: bool, number: int) -> None:
        hint = "continue with --resume" if saved else "nothing was saved, for there was no folder to save to"
        super().__init__(f"interrupted at step {step}: {hint}")
        self.code = 128 + number


def train(
    model: WorldModel,
    clips: Clips,
    config: TrainConfig,
    folder: Path | str | None = None,
    log: Log = silent,
    watch: Callable[[], Mapping[str, float]] | None = None,
    resume: bool = False,
) -> WorldModel:
    """Train `model` on `clips` and return it, in eval mode; checkpoints go to `folder`, progress to `log`.

    `watch` is called every `check_every` steps and its numbers join the log. With `resume` the run in `folder`
    continues, on the CPU bit for bit as if it had never stopped. Raises `UserError` for a loss or gradient that is
    not finite (before the weights take it), a device that is not here, a folder that holds another run, a full disk,
    and `Interrupted` after Ctrl-C or SIGTERM, having saved.
    """
    device = choose_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=_autocasts(config, device))
    model.to(device).train()
    optimiser = _optimiser(model, config)
    measure = torch.compile(model.loss) if config.compile else model.loss

    def save(done: int) -> None:
        if folder is not None:
            checkpoint.save(folder, model, optimiser, done, config, config.keep)

    start = _begin(model, optimiser, config, folder, resume, save)
    with _requests() as asked:
        for step in range(start, config.steps):
            clip = _next(clips, step, asked, save, folder).to(device)
            optimiser.zero_grad()
            with autocast:
                loss, parts = measure(clip)
            loss.backward()
            if step == start:
                _warn_of_idle(model)
            norm = _clip_gradient(model, config.clip_grad, step, clip, loss, parts)
            rate = _set_rate(optimiser, learning_rate(step, config))
            optimiser.step()
            model.after_step()
            _report(step, {"loss": loss, "grad_norm": norm, "lr": rate, **parts}, config, log, watch, asked)
            if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
                save(step + 1)
    return model.eval()


def choose_device(name: str) -> torch.device:
    """The device of that name; auto is the fastest here. Raises `UserError` when it is not here."""
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if here["cuda"] else "mps" if here["mps"] else "cpu")
    if not choose("device", name, here):
        raise UserError(f"no {name} device here: use device=auto, or device=cpu")
    return torch.device(name)


def learning_rate(step: int, config: TrainConfig) -> float:
    """A straight rise over `warmup` steps, then half a cosine down to `lr * final_lr_fraction` at the last step."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    part = (step - config.warmup) / max(1, config.steps - 1 - config.warmup)
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, part)))
    return config.lr * (config.final_lr_fraction + (1 - config.final_lr_fraction) * fall)


def _autocasts(config: TrainConfig, device: torch.device) -> bool:
    if config.precision == "float32":
        return False
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError("this cuda device has no bfloat16: use precision=float32")
    if device.type == "cpu" and config.device != "cpu":
        logger.warning("bfloat16 is meant for an accelerator: training in float32 (device=cpu asks for bfloat16 here)")
        return False
    return True


def _optimiser(model: WorldModel, config: TrainConfig) -> AdamW:
    """AdamW; biases, gains and other parameters with fewer than two axes do not decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise UserError(f"{type(model).__name__} has no parameter to train")
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], lr=config.lr, betas=config.betas)


def _begin(
    model: WorldModel,
    optimiser: AdamW,
    config: TrainConfig,
    folder: Path | str | None,
    resume: bool,
    save: Callable[[int], None],
) -> int:
    """How many steps are done already; at none, seed and save, for a folder that cannot be written should fail now."""
    if resume:
        if folder is None or not Path(folder).is_dir():
            raise UserError("cannot resume: " + (f"there is no folder {folder}" if folder else "give the run's folder"))
        done = checkpoint.resume(folder, model, optimiser, config, FREE_ON_RESUME)
        if done is not None:
            return done
        logger.warning("nothing to resume in %s: starting at step 0", folder)
    elif folder is not None and checkpoint.exists(folder):
        raise UserError(f"{folder} already holds a run: continue it with --resume, or give another folder")
    torch.manual_seed(config.seed)
    save(0)
    return 0


@contextmanager
def _requests() -> Iterator[list[int]]:
    """Turn Ctrl-C and SIGTERM into a request, to be heeded between two steps; one more, a second later, acts at once.

    `timeout` and other launchers send the same signal twice in a row and mean it once. Python allows this in the main
    thread only; elsewhere signals keep their meaning.
    """
    asked: list[int] = []
    asked_at = math.inf
    owner = os.getpid()

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked_at
        if os.getpid() != owner:  # a forked worker of a loader: it must die when told to
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if time.monotonic() > asked_at + 1:
            raise KeyboardInterrupt
        asked_at = min(asked_at, time.monotonic())
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _next(clips: Clips, step: int, asked: list[int], save: Callable[[int], None], folder: Path | str | None) -> Clip:
    """The clip of this step; or, if we are asked to stop, save and stop: here the weights are those of whole steps."""
    try:
        if not asked:
            return clips.batch(step)
    except KeyboardInterrupt:
        asked.append(signal.SIGINT)
    save(step)
    raise Interrupted(step, folder is not None, asked[0])


def _warn_of_idle(model: WorldModel) -> None:
    idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if idle:
        logger.warning("%d parameters get no gradient, the first is %s: does the loss use them?", len(idle), idle[0])


def _clip_gradient(
    model: WorldModel, limit: float, step: int, clip: Clip, loss: Tensor, parts: Mapping[str, Tensor]
) -> Tensor:
    """Shorten the gradient to `limit` (0: leave it); its norm before. Raises `UserError` when that is not finite."""
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    norm = get_total_norm(gradients.values())
    if not torch.isfinite(loss.detach() + norm):  # one look for both: each makes an accelerator wait
        sources = {
            "of the batch,": {**clip.obs, "action": clip.action, "reward": clip.reward},
            "of the loss, the part": parts,
            "the": {"loss": loss},
            "the gradient of": gradients,
        }
        raise UserError(
            f"step {step}: {_first_non_finite(sources)} is not finite. The weights are still those before this step, "
            "checkpoints are kept: lower lr or mend the data"
        )
    if limit > 0:
        clip_grads_with_norm_(model.parameters(), limit, norm)
    return norm


def _first_non_finite(sources: Mapping[str, Mapping[str, Tensor]]) -> str:
    for what, tensors in sources.items():
        for name, value in tensors.items():
            if not torch.isfinite(torch.as_tensor(value)).all():
                return f"{what} {name}"
    return "the norm of the gradient"  # each number is finite, the sum of their squares is not


def _set_rate(optimiser: AdamW, rate: float) -> float:
    for group in optimiser.param_groups:
        group["lr"] = rate
    return rate


def _report(
    step: int,
    measured: Mapping[str, Tensor | float],
    config: TrainConfig,
    log: Log,
    watch: Callable[[], Mapping[str, float]] | None,
    asked: list[int],
) -> None:
    """Log what is due. An interrupt in here becomes a request, for the step is already in the weights."""
    last = step + 1 == config.steps
    row: dict[str, float] = {}
    try:
        if last or step % config.log_every == 0:
            row |= {name: _number(value) for name, value in measured.items()}
        if watch is not None and (last or step % config.check_every == 0):
            row |= watch()
        if row:
            log(step, row)
    except KeyboardInterrupt:
        asked.append(signal.SIGINT)


def _number(value: Tensor | float) -> float:
    return value.detach().item() if isinstance(value, Tensor) else value
