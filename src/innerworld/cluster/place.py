"""`Place`: somewhere that independent jobs run. What comes back, in which order, and what becomes of failures."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

from innerworld.errors import UserError

J = TypeVar("J")
R = TypeVar("R")

Progress = Callable[[int, int], None]
"""(jobs done, jobs in all), called after each."""

RETRIES = 2


@dataclass(frozen=True)
class Failure:
    """Why a job has no result: one line, and the worker's traceback where it is a bug and no mistake of the user's."""

    line: str
    trace: str = ""

    def error(self, name: str) -> Exception:
        """What to raise for the job of that name: a `UserError`, or for a bug a `JobError`."""
        if not self.trace:
            return UserError(f"{name}: {self.line}")
        return JobError(f"{name}: {self.line}\n\nin the worker:\n{self.trace}")


@dataclass(frozen=True)
class Done(Generic[R]):
    """A job that has ended: its place among the jobs, and its result or its failure."""

    index: int
    result: R | None
    failure: Failure | None = None


class JobError(Exception):
    """A job raised what no user can mend; the message holds the worker's traceback."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C while jobs ran: all workers have stopped; `finished` holds the results there were, by index."""

    def __init__(self, finished: dict[int, Any]) -> None:
        super().__init__(f"stopped with {len(finished)} jobs finished")
        self.finished = finished


class Place(ABC):
    """Runs `function(job)` for each of some jobs that know nothing of each other; use it in `with`.

    `function` and the jobs travel to other processes: a function of a module (or a `functools.partial` of one), and
    plain values or numpy arrays. The function is sent once to each worker, so what all jobs share, such as the weights
    of a model, belongs into the partial; on Ray it lies in the object store, once for each machine.
    """

    workers: int | None
    """How many run at the same time; None: as many as the place has room for."""

    @abstractmethod
    def each(self, function: Callable[[J], R], jobs: Sequence[J]) -> Generator[Done[R], None, None]:
        """Yield every job as it ends, in whatever order. A worker that dies is replaced and its job tried again.

        Closing the iterator, as Ctrl-C does, stops all workers: with SIGTERM, then after a grace by force.
        """

    def map(
        self,
        function: Callable[[J], R],
        jobs: Sequence[J],
        progress: Progress | None = None,
        name: Callable[[J], str] = str,
    ) -> list[R]:
        """Results in the order of the jobs, whatever finishes first.

        The first job that fails stops the others: raises `UserError` that names it, or `JobError` with the traceback
        for what is a bug. Ctrl-C raises `Stopped`, which has the results that were there.
        """
        finished: dict[int, Any] = {}
        try:
            with closing(self.each(function, jobs)) as ended:
                for done in ended:
                    if done.failure is not None:
                        raise done.failure.error(f"job {name(jobs[done.index])}")
                    finished[done.index] = done.result
                    if progress is not None:
                        progress(len(finished), len(jobs))
        except KeyboardInterrupt:
            raise Stopped(finished) from None
        return [finished[index] for index in range(len(jobs))]

    @abstractmethod
    def close(self) -> None:
        """Give back what the place holds."""

    def __enter__(self) -> Place:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def attempt(function: Callable[[J], R], index: int, job: J) -> Done[R]:
    """Run one job; an exception becomes a `Failure`. Called by the workers."""
    try:
        return Done(index, function(job))
    except UserError as error:
        return Done(index, None, Failure(" ".join(str(error).split())))
    except Exception as error:
        return Done(index, None, Failure(f"{type(error).__name__}: {error}", traceback.format_exc()))


def lost(times: int, why: str) -> Failure:
    """The failure of a job whose workers died."""
    return Failure(f"its worker died {times} times ({why}): is there enough memory?")
