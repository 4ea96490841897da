"""`Ray`: jobs on a Ray cluster, one that runs already or one that is started here (extra `innerworld[cluster]`)."""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from innerworld.cluster.place import RETRIES, Done, Place, attempt, lost
from innerworld.errors import UserError

J = TypeVar("J")
R = TypeVar("R")

GRACE_S = 25.0
QUIET = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}


class Ray(Place):
    """Tasks of `threads` CPUs (and `gpus` GPUs) each; large arrays go through Ray's object store.

    `address` None joins the cluster that runs on this machine and starts one with `workers` CPUs if there is none.
    Every machine of a cluster needs innerworld installed. A job whose worker or machine is lost is tried `retries`
    times more, elsewhere. Arrays in results may be read-only: they lie in the object store. Raises `UserError` when
    Ray is not installed or there is no cluster at `address`.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        threads: int = 1,
        gpus: float = 0.0,
        retries: int = RETRIES,
        grace_s: float = GRACE_S,
    ) -> None:
        self.workers = workers
        self.threads, self.gpus, self.retries, self.grace_s = threads, gpus, retries, grace_s
        self.ray = _import()
        self._ours = not self.ray.is_initialized()
        if self._ours:
            _join(self.ray, address, workers, threads)

    def each(self, function: Callable[[J], R], jobs: Sequence[J]) -> Generator[Done[R], None, None]:
        """See `Place.each`; at most `workers` tasks are under way at a time."""
        ray = self.ray
        shared = ray.put(function)
        # Exceptions of a job become values in `attempt`, so what Ray tries again is what a dead worker left.
        task = ray.remote(_run).options(
            num_cpus=self.threads, num_gpus=self.gpus, max_retries=self.retries, scheduling_strategy="SPREAD"
        )
        waiting = deque(range(len(jobs)))
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                while waiting and (self.workers is None or len(running) < self.workers):
                    index = waiting.popleft()
                    running[task.remote(shared, index, jobs[index], self.threads)] = index
                ready, _ = ray.wait(list(running), num_returns=1)
                yield self._result(ready[0], running.pop(ready[0]))
        finally:
            self._cancel(list(running))

    def close(self) -> None:
        if self._ours:
            self.ray.shutdown()

    def _result(self, ref: Any, index: int) -> Done[Any]:
        errors = self.ray.exceptions
        gone = (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.ObjectLostError, errors.NodeDiedError)
        try:
            return self.ray.get(ref)
        except gone as error:
            return Done(index, None, lost(self.retries + 1, type(error).__name__))

    def _cancel(self, running: list[Any]) -> None:
        """Ask the jobs under way to stop, as Ctrl-C would; then, after a grace, do not ask."""
        if not running:
            return
        for ref in running:
            self.ray.cancel(ref, force=False)
        _, stubborn = self.ray.wait(running, num_returns=len(running), timeout=self.grace_s)
        for ref in stubborn:
            with suppress(ValueError):  # it ended meanwhile
                self.ray.cancel(ref, force=True)


def _run(function: Callable[[J], R], index: int, job: J, threads: int) -> Done[R]:
    import torch

    torch.set_num_threads(threads)
    return attempt(function, index, job)


def _import() -> Any:
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError('Ray is not installed: pip install "innerworld[cluster]"') from None
    return ray


def _join(ray: Any, address: str | None, workers: int | None, threads: int) -> None:
    if address is not None:
        try:
            ray.init(address, **_for_running(address))
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"no Ray cluster at {address}: {reason}") from None
        return
    try:
        ray.init("auto", **_for_running("auto"))
    except ConnectionError:
        _start(ray, None if workers is None else workers * threads)


def _start(ray: Any, cpus: int | None) -> None:
    """A cluster of this machine alone, which lives as long as we do."""
    if not _has_token(os.environ):
        # Ray 2.60 asks for a token, and would write one into the home folder.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports to nobody
    ray.init(num_cpus=cpus, **QUIET)


def _has_token(environment: Mapping[str, str]) -> bool:
    """Whether the user has decided about Ray's authentication already."""
    decided = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    return any(name in environment for name in decided) or (Path.home() / ".ray" / "auth_token").exists()


def _for_running(address: str) -> dict[str, Any]:
    """What may be said to a cluster that others started."""
    quiet = {name: QUIET[name] for name in ("log_to_driver", "logging_level")}
    return {"log_to_driver": False} if address.startswith("ray://") else quiet
