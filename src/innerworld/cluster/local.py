"""`Local`: jobs in processes of this machine, spawned, so that neither torch nor a GPU is ever forked."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, TypeVar

from innerworld.cluster.place import RETRIES, Done, Failure, Place, attempt, lost
from innerworld.errors import UserError

J = TypeVar("J")
R = TypeVar("R")

GRACE_S = 25.0
"""For a job to save what it has after SIGTERM; then it is killed."""

READY = "ready"
SPAWN = multiprocessing.get_context("spawn")


class Local(Place):
    """So many processes, each with so many threads for torch. A job whose worker dies is tried `retries` times more."""

    def __init__(self, workers: int, threads: int = 1, retries: int = RETRIES, grace_s: float = GRACE_S) -> None:
        self.workers: int = workers
        self.threads, self.retries, self.grace_s = threads, retries, grace_s

    def each(self, function: Callable[[J], R], jobs: Sequence[J]) -> Generator[Done[R], None, None]:
        """See `Place.each`. Raises `UserError` if workers die before they take a job."""
        waiting = deque(range(len(jobs)))
        deaths = [0] * len(jobs)
        stillborn = 0
        crew = [_Worker(self.threads) for _ in range(min(self.workers, len(jobs)))]
        try:
            left = len(jobs)
            while left:
                for pipe in wait([worker.pipe for worker in crew]):
                    worker = next(each for each in crew if each.pipe is pipe)
                    told, job = worker.hear(), worker.job
                    if told is None:
                        crew.remove(worker)
                        crew.append(_Worker(self.threads))
                        code = worker.bury()
                        if job is None:
                            stillborn = _count_stillborn(stillborn, self.retries, code)
                            continue
                        deaths[job] += 1
                        if deaths[job] <= self.retries:
                            waiting.appendleft(job)
                            continue
                        told = Done(job, None, lost(deaths[job], _exit(code)))
                    else:
                        if told == READY:
                            worker.learn(function)
                        worker.job = None
                        if waiting:
                            worker.give(waiting.popleft(), jobs)
                    if isinstance(told, Done):
                        left -= 1
                        yield told  # after all else: its reader may take long
        finally:
            _dismiss(crew, self.grace_s)

    def close(self) -> None:
        """Nothing is held between two calls: their workers end with them."""


class _Worker:
    """One process, seen from outside."""

    def __init__(self, threads: int) -> None:
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_work, args=(theirs, threads), name="innerworld-worker")
        with _deaf():
            self.process.start()
        theirs.close()  # or its death would not end the pipe
        self.job: int | None = None

    def hear(self) -> Any:
        """What it says; None if it has died."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return None

    def learn(self, function: Callable[[Any], Any]) -> None:
        with suppress(OSError):  # it has died: the next wait tells
            self.pipe.send(function)

    def give(self, index: int, jobs: Sequence[Any]) -> None:
        self.job = index
        with suppress(OSError):
            self.pipe.send((index, jobs[index]))

    def bury(self) -> int | None:
        self.pipe.close()
        self.process.join()
        code = self.process.exitcode
        self.process.close()
        return code


def _count_stillborn(before: int, most: int, code: int | None) -> int:
    if before >= most:
        raise UserError(
            f"worker processes die as they start ({_exit(code)}): a script that uses them must begin its work under "
            'if __name__ == "__main__":'
        )
    return before + 1


def _exit(code: int | None) -> str:
    return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"


def _dismiss(crew: list[_Worker], grace_s: float) -> None:
    """The idle go when their pipe closes; the busy are asked to stop, and killed when they take too long."""
    for worker in crew:
        worker.pipe.close()
        if worker.job is not None:
            worker.process.terminate()
    until = time.monotonic() + grace_s
    for worker in crew:
        worker.process.join(max(0.0, until - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignore Ctrl-C while a process starts: it inherits that, and would otherwise die with a traceback of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


# ---------------------------------------------------------------------- inside a worker


def _work(pipe: Connection, threads: int) -> None:
    """Say that we are ready, learn what to do, then do one job after another until the pipe closes."""
    _settle(threads)
    with suppress(EOFError, OSError):  # nobody waits for us any more
        pipe.send(READY)
        function = _received(pipe)
        while True:
            index, job = pipe.recv()
            done = Done(index, None, function) if isinstance(function, Failure) else attempt(function, index, job)
            _answer(pipe, done)


def _settle(threads: int) -> None:
    """A process of our own: no Ctrl-C from the terminal, an end with our parent, and words to stderr only."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    if os.name == "posix":
        os.setsid()  # training listens to Ctrl-C itself, and would hear the terminal's beside our parent's SIGTERM
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # stdout belongs to the one JSON object of --json
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_follow_parent, daemon=True).start()
    if "torch" in sys.modules:  # the program that began us imports it; else torch hears of them as it is imported
        import torch

        torch.set_num_threads(threads)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # through every `finally`: what was gathered is written


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])  # ready when the parent is gone, also by kill -9
        os._exit(1)


def _received(pipe: Connection) -> Any:
    """The function, or the failure that every job has when it cannot be had here."""
    try:
        return pipe.recv()
    except (AttributeError, ImportError) as error:
        return Failure(f"the function of these jobs cannot be imported by a worker: {error}")


def _answer(pipe: Connection, done: Done[Any]) -> None:
    try:
        pipe.send(done)
    except (AttributeError, TypeError) as error:  # it cannot be sent
        pipe.send(Done(done.index, None, Failure(f"{type(error).__name__}: {error}", "the result cannot be sent")))
