"""One step: measure the loss and its gradient, see whether they are finite, take the step. In one process or many."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from innerworld.errors import UserError
from innerworld.learns import Learns
from innerworld.team import PATIENCE, Team, noticing, same_for_all, spread
from innerworld.training.config import TrainConfig, autocasts, learning_rate
from innerworld.training.optimisers import build_optimiser, clip_each
from innerworld.training.parallel import LossOf, Strategy, local, whole, with_ddp, with_fsdp
from innerworld.types import Clip

MEMORY_PATIENCE = timedelta(seconds=30)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """What a step would be made of: `norm` is that of the gradient of the whole batch, before it is clipped."""

    loss: Tensor
    parts: dict[str, Tensor]
    norm: Tensor

    @property
    def finite(self) -> bool:
        return bool(torch.isfinite(self.loss + self.norm))  # one look for both: each makes an accelerator wait


class Learner:
    """A model and all that changes with it: the optimiser's memory, the average, how much is computed at once."""

    def __init__(
        self,
        model: Learns,
        config: TrainConfig,
        team: Team,
        strategy: Strategy,
        device: torch.device,
        taught: bool = False,
    ) -> None:
        self.model, self.config, self.team, self.device = model, config, team, device
        self.strategy: Strategy = strategy
        if self.sharded and config.on_memory == "halve":
            raise UserError("on_memory=halve works with --strategy ddp only: set train.micro_batch instead")
        self.micro = config.micro_batch  # halved when memory runs out
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=autocasts(config, device))
        model.to(device).train()
        plain = LossOf(model, torch.compile(model.loss) if config.compile else model.loss)
        self.loss: nn.Module = with_fsdp(plain, team, device) if self.sharded else plain
        self.optimiser = build_optimiser(model, config)
        self.average = {name: p.detach().clone() for name, p in model.named_parameters() if config.ema and _moves(p)}
        self._taught = taught  # by another run, whose weights it has
        self._fresh = True
        self._asked = False  # was it looked at whether all parameters learn?
        self._undo: _Undo | None = None

    @property
    def sharded(self) -> bool:
        return self.strategy == "fsdp" and not self.team.alone

    def prepare(self, clip: Clip) -> None:
        """Let the model find in closed form what it can, before the first step; what was taught before has that."""
        if self._taught:
            return
        with noticing(self.team, 0), spread(self.team), torch.no_grad():
            self.model.prepare(clip.to(self.device))
            for buffer in self.model.buffers():
                same_for_all(buffer)

    def measure(self, step: int, clip: Clip) -> Measured:
        """The loss of this process's part of the batch, and the gradient of the whole, which the parameters hold now.

        Raises `UserError` when memory runs out (unless the micro-batch may be halved), `Lost` when a process is gone.
        """
        if self._fresh and isinstance(self.loss, LossOf) and not self.team.alone and not self.sharded:
            with noticing(self.team, step):
                self.loss = with_ddp(self.loss, clip.to(self.device), self.device)
        if self.config.on_memory == "halve" or self.config.on_nonfinite == "skip":
            self._undo = _Undo(self.model, self.device)
        while True:
            with noticing(self.team, step), spread(self.team):
                found = self._try(step, clip)
            if found is not None:
                break
            self.reject()
            self._halve(step, len(clip.action))
        self._fresh = False
        if not (self._asked or self.model.waits()):
            _warn_of_idle(self.model, self.optimiser)
            self._asked = True
        return found

    def apply(self, step: int, measured: Measured) -> float:
        """Take the step that was measured; its learning rate, before the model's own factors."""
        if self.config.clip_grad > 0:
            clip_grads_with_norm_(self.model.parameters(), self.config.clip_grad, measured.norm)
        if self.config.agc > 0:
            clip_each(self.model.parameters(), self.config.agc, self.sharded)
        rate = learning_rate(step, self.config)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["rate"]
        self.optimiser.step()
        self.model.after_step()
        if self.average:
            self._follow(step)
        return rate

    def reject(self) -> None:
        """Put back what measuring has changed: random states and buffers, such as those of a batch norm."""
        self.optimiser.zero_grad()
        if self._undo is not None:
            self._undo()

    def what_is_not_finite(self, clip: Clip, measured: Measured) -> str:
        """What was not finite first, of the process where it began. All processes must ask."""
        gradients = {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}
        sources = {
            "of the batch,": {**clip.obs, "action": clip.action, "reward": clip.reward},
            "of the loss, the part": measured.parts,
            "the": {"loss": measured.loss},
            "the gradient of": gradients,
        }
        told = self.team.say("{} {}".format(*_first_non_finite(sources)))
        first = min(range(len(told)), key=lambda rank: told[rank])
        who = "" if self.team.alone else f" (process {first})"
        return told[first].partition(" ")[2] + who

    # ------------------------------------------------------------------ below

    def _try(self, step: int, clip: Clip) -> Measured | None:
        """A measurement; None if memory ran out in any process and less may be tried."""
        careful = self.config.on_memory == "halve"
        found = None
        try:
            found = self._add_up(clip.to(self.device), careful)
        except (RuntimeError, MemoryError) as error:
            if not _is_memory(error):
                raise
        if careful and self._short_somewhere(step, found is None, len(clip.action)):
            return None
        if found is None:
            raise self._too_large(step, len(clip.action))
        if careful:
            self._average_gradients()
        norm = get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        return Measured(*found, whole(norm) if self.sharded else norm)

    def _short_somewhere(self, step: int, here: bool, rows: int) -> bool:
        """Did memory run out in any process? One that waits in vain for the others, which exchange statistics, ends."""
        try:
            return bool(self.team.highest(here, patience=MEMORY_PATIENCE if here else PATIENCE)[0])
        except RuntimeError as error:
            if here:
                raise self._too_large(step, rows) from error
            raise

    def _add_up(self, clip: Clip, careful: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradients of one micro-batch after the other, each by its share; loss and parts are means in the same way."""
        rows = len(clip.action)
        size = min(self.micro or rows, rows)
        self.optimiser.zero_grad()
        loss, parts = torch.zeros((), device=self.device), dict[str, Tensor]()
        for start in range(0, rows, size):
            stop = min(start + size, rows)
            weight = (stop - start) / rows
            few = clip if size == rows else clip.rows(slice(start, stop))
            with self._quiet(careful or stop < rows):
                with self.autocast:
                    part_loss, part = self.loss(few)
                (part_loss if size == rows else part_loss * weight).backward()
            loss = part_loss.detach() if size == rows else loss + part_loss.detach() * weight
            parts = part if size == rows else {n: parts.get(n, 0) + v.detach() * weight for n, v in part.items()}
        return loss, parts

    @contextmanager
    def _quiet(self, quiet: bool) -> Iterator[None]:
        """Without a word to the other processes: gradients of DDP stay where they are."""
        from torch.nn.parallel import DistributedDataParallel

        with self.loss.no_sync() if quiet and isinstance(self.loss, DistributedDataParallel) else nullcontext():
            yield

    def _average_gradients(self) -> None:
        """What DDP does by itself, where it had to wait until memory had sufficed everywhere."""
        if self.team.alone or self.sharded:
            return
        import torch.distributed as dist

        for parameter in self.model.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.team.world

    def _halve(self, step: int, rows: int) -> None:
        size = min(self.micro or rows, rows)
        if size == 1:
            raise self._too_large(step, rows)
        self.micro = size // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.team.rank == 0:
            logger.warning("step %d: out of memory with %d clips at once: going on with %d", step, size, self.micro)

    def _too_large(self, step: int, rows: int) -> UserError:
        size = min(self.micro or rows, rows)
        advice = f"train.micro_batch={size // 2}" if size > 1 else "shorter clips (--length) or a smaller model"
        return UserError(
            f"step {step}: out of memory with {size} clips at once: continue with --resume and {advice}"
            + (", or train.on_memory=halve" if size > 1 and self.config.on_memory == "stop" else "")
        )

    def _follow(self, step: int) -> None:
        """Move the average towards the weights, in the first steps faster, for then there is little to average."""
        part = 1 - min(self.config.ema, (1 + step) / (10 + step))
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, value in self.average.items():
                value.lerp_(parameters[name], part)


class _Undo:
    """What a try changes besides gradients: random states and buffers. Call it to put them back."""

    def __init__(self, model: Learns, device: torch.device) -> None:
        self.model, self.device = model, device
        self.buffers = {name: value.clone() for name, value in model.named_buffers()}
        self.random = torch.get_rng_state()
        self.random_there = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def __call__(self) -> None:
        torch.set_rng_state(self.random)
        if self.random_there is not None:
            torch.cuda.set_rng_state(self.random_there, self.device)
        with torch.no_grad():
            for name, value in self.model.named_buffers():
                value.copy_(self.buffers[name])


def _moves(parameter: Tensor) -> bool:
    return parameter.requires_grad and parameter.is_floating_point()


def _warn_of_idle(model: Learns, optimiser: Optimizer) -> None:
    """Of parameters that no step ever moved: those of an earlier stage, now held still, the optimiser remembers."""
    learnt = model.named_parameters()
    idle = [name for name, p in learnt if p.requires_grad and p.grad is None and p not in optimiser.state]
    if idle:
        logger.warning("%d parameters get no gradient, the first is %s: does the loss use them?", len(idle), idle[0])


def _first_non_finite(sources: Mapping[str, Mapping[str, Tensor]]) -> tuple[int, str]:
    """Its place in the order of causes, and its name."""
    for order, (what, tensors) in enumerate(sources.items()):
        for name, value in tensors.items():
            if not torch.isfinite(local(torch.as_tensor(value))).all():
                return order, f"{what} {name}"
    return len(sources), "the norm of the gradient"  # each number is finite, the sum of their squares is not


def _is_memory(error: Exception) -> bool:
    """Python's, and torch's, which has a type of its own for accelerators only."""
    texts = ("can't allocate memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in texts)
