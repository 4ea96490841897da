"""`Team`: the processes that train one model together, and the few things on which they agree; alone, all are free."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from innerworld.errors import UserError

PATIENCE = timedelta(minutes=10)  # how long one waits for the others: rank 0 may be compiling
TEXT = 1000  # bytes that a process can say to the others at once


class Agreed(UserError):
    """What failed in one process fails in all; the first of them says so."""


class Lost(UserError):
    """Another process is gone."""


@dataclass(frozen=True)
class Team:
    """`rank` of `world` processes, the `local`-th on its machine. What is said among them goes over the CPU."""

    rank: int = 0
    world: int = 1
    local: int = 0
    talk: dist.ProcessGroup | None = None
    writers: dist.ProcessGroup | None = None  # for the threads that write checkpoints

    @property
    def alone(self) -> bool:
        return self.world == 1

    def share(self, n: int, what: str) -> slice:
        """Which of `n` rows are this process's own. Raises `UserError` where they cannot be shared evenly."""
        if n % self.world:
            raise UserError(f"{n} {what} cannot be shared evenly by {self.world} processes: choose a multiple")
        part = n // self.world
        return slice(self.rank * part, (self.rank + 1) * part)

    def highest(self, *numbers: int, patience: timedelta = PATIENCE) -> list[int]:
        """The highest that any process gives, one by one. Raises `RuntimeError` where one does not come in time."""
        if self.alone:
            return list(numbers)
        told = torch.tensor(numbers)
        work = dist.all_reduce(told, dist.ReduceOp.MAX, self.talk, async_op=True)
        assert work is not None
        work.wait(patience)
        return told.tolist()

    def mean(self, numbers: Sequence[float]) -> list[float]:
        """The mean over the processes, one by one."""
        if self.alone:
            return list(numbers)
        told = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(told, group=self.talk)
        return (told / self.world).tolist()

    def gather(self, value: Tensor) -> list[Tensor]:
        """What each process has, in the order of the ranks: tensors of one shape, on the CPU."""
        if self.alone:
            return [value]
        found = [torch.empty_like(value) for _ in range(self.world)]
        dist.all_gather(found, value.contiguous(), self.talk)
        return found

    def say(self, text: str, group: dist.ProcessGroup | None = None) -> list[str]:
        """What each process says, in the order of the ranks."""
        if self.alone:
            return [text]
        mine = torch.zeros(TEXT, dtype=torch.uint8)
        words = text.encode()[:TEXT]
        mine[: len(words)] = torch.frombuffer(bytearray(words), dtype=torch.uint8) if words else mine[:0]
        found = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(found, mine, group or self.talk)
        return [bytes(each.tolist()).rstrip(b"\0").decode(errors="ignore") for each in found]

    @contextmanager
    def together(self, group: dist.ProcessGroup | None = None) -> Iterator[None]:
        """What fails in this block in one process fails in all, with the words of the first that failed."""
        if self.alone:
            yield
            return
        mine: Exception | None = None
        try:
            yield
        except Exception as error:
            mine = error
        told = self.say("" if mine is None else str(mine) or type(mine).__name__, group)
        if mine is not None and not isinstance(mine, UserError):
            raise mine  # a fault of ours keeps its traceback
        for text in told:
            if text:
                raise Agreed(text) from mine


ALONE = Team()
_joined: Team = ALONE
_sharing = False  # are the rows of the batch at hand spread over the processes?


def rank() -> int:
    """This process's number among those that a launcher such as torchrun started; 0 alone."""
    return int(os.environ.get("RANK", "0")) if launched() else 0


def launched() -> bool:
    """Was this process started as one of several?"""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@contextmanager
def join(device: str) -> Iterator[Team]:
    """Meet the other processes, if a launcher started several, and part at the end; inside another `join`: that one's.

    `device` is cpu, cuda or mps. Raises `UserError` where they cannot be reached.
    """
    global _joined
    if _joined is not ALONE or not (launched() or dist.is_initialized()):
        yield _joined
        return
    _joined = _meet(device)
    try:
        yield _joined
    finally:
        _joined = ALONE
        if dist.is_initialized():
            dist.destroy_process_group()  # closes the lines, so that nobody waits for this one


def _meet(device: str) -> Team:
    try:
        if not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
        talk, writers = (dist.new_group(backend="gloo", timeout=PATIENCE) for _ in range(2))
        assert isinstance(talk, dist.ProcessGroup) and isinstance(writers, dist.ProcessGroup)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the {os.environ.get('WORLD_SIZE')} processes cannot meet: {_line(error)}") from error
    local = int(os.environ.get("LOCAL_RANK", dist.get_rank()))
    return Team(dist.get_rank(), dist.get_world_size(), local, talk, writers)


@contextmanager
def noticing(team: Team, step: int) -> Iterator[None]:
    """Turn the breaking of a line to another process into one sentence. Raises `Lost`."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # ValueError: a group that was closed
        if team.alone or not _is_line(error):
            raise
        raise Lost(
            f"process {team.rank} stopped at step {step}: another process is gone. Continue with --resume"
        ) from error


def _is_line(error: Exception) -> bool:
    words = ("Connection closed", "Connection reset", "Broken pipe", "gloo", "NCCL", "Timed out", "process group")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


# ---------------------------------------------------------------------- numbers over a batch that is spread


@contextmanager
def spread(team: Team) -> Iterator[None]:
    """Inside, every process holds a part of one batch: `mean_of_all` and `rows_of_all` mean the whole of it."""
    global _sharing
    before, _sharing = _sharing, not team.alone
    try:
        yield
    finally:
        _sharing = before


def mean_of_all(x: Tensor) -> Tensor:
    """The mean of `x` over the processes that share the batch; gradients go through. Alone: `x` itself."""
    return _SumOfAll.apply(x) / dist.get_world_size() if _sharing else x  # type: ignore[operator]


class _SumOfAll(torch.autograd.Function):
    """The sum over processes, each of which computes the same from it: so their gradients add up, too."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        return

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return _SumOfAll.apply(gradient)  # type: ignore[return-value]


def rows_of_all(n: int) -> int:
    """How many rows the whole batch has, if this process has `n`."""
    return n * dist.get_world_size() if _sharing else n


def same_for_all(x: Tensor) -> Tensor:
    """`x` of the first of the processes that share the batch; no gradient goes through. Alone: `x` itself."""
    if _sharing:
        dist.broadcast(x, src=0)
    return x
