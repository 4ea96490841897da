"""`Workers`: worlds in processes of their own; one that hangs, crashes or is killed is begun again, a few times."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray

from innerworld.errors import UserError

START_S = 300.0  # for a process to start and import what its world needs
LEAVE_S = 2.0  # for a process to end by itself
logger = logging.getLogger(__name__)

Make = Callable[[], gymnasium.Env]
Sensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _Fault:
    """Why a worker gave no answer. `final`: nothing that another try could mend."""

    what: str
    final: bool = False


@dataclass(frozen=True)
class _Ready:
    """What a worker says when its world is made."""

    seen: spaces.Dict
    acted: spaces.Space
    metadata: dict[str, Any]
    render_mode: str | None


class Workers(VectorEnv):
    """One process for each world. Sensors must be a `Dict` of arrays, as `adapt` gives them.

    A world that does not answer within `timeout_s`, that raises an error or whose process dies is begun anew in a new
    process, at most `restarts` times each: its row then says `truncated`, shows zeros, and `info["lost"]` (n booleans)
    is true there: that episode is not worth keeping. Rows wait for `reset_mask` when they have ended.

    Raises `UserError` when a world has failed too often, and at once for what is wrong with the world itself (a
    sensor's shape or kind, a number that is not finite) or with an action.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012

    def __init__(
        self,
        worlds: Sequence[Make],
        timeout_s: float = 60.0,
        restarts: int = 3,
        # Spawned, for a fork of a process in which torch or a GPU is at work can hang.
        context: Literal["spawn", "forkserver", "fork"] = "spawn",
    ) -> None:
        self.timeout_s, self.restarts = timeout_s, restarts
        self.num_envs = len(worlds)
        self._worlds = list(worlds)
        self._context = multiprocessing.get_context(context)
        self._failures = [0] * self.num_envs
        self._workers = [self._start(row) for row in range(self.num_envs)]
        answers = self._gather(range(self.num_envs), START_S)
        for answer in answers.values():
            if isinstance(answer, _Fault):
                self.close()
                raise UserError(f"a world in a process of its own did not start: {answer.what}")
        ready: _Ready = answers[0]
        self.metadata = {**ready.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.render_mode = ready.render_mode
        self.single_observation_space, self.single_action_space = ready.seen, ready.acted
        self.observation_space = batch_space(ready.seen, self.num_envs)
        self.action_space = batch_space(ready.acted, self.num_envs)
        self._sensors: dict[str, Any] = dict(ready.seen.spaces)
        self._last: list[Sensors] = [{} for _ in range(self.num_envs)]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Sensors, dict[str, Any]]:
        """Begin anew where `reset_mask` says (everywhere by default). An integer `seed` gives world i `seed + i`."""
        given = dict(options or {})
        mask = np.asarray(given.pop("reset_mask", np.ones(self.num_envs, np.bool_)), np.bool_)
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed or [None] * self.num_envs
        left = np.flatnonzero(mask).tolist()
        infos: dict[str, Any] = {}
        while left:
            for row in left:
                self._send(row, ("reset", seeds[row], given or None))
            answers = self._gather(left, self.timeout_s)
            for row, answer in answers.items():
                if not isinstance(answer, _Fault):
                    self._last[row], info = answer
                    infos = self._add_info(infos, info, row)
            left = [row for row, answer in answers.items() if isinstance(answer, _Fault)]
            for row in left:
                self._restart(row, answers[row], "reset")
        return self._observe(), infos

    def step(
        self, actions: Any
    ) -> tuple[Sensors, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        for row, action in enumerate(iterate(self.action_space, actions)):
            self._send(row, ("step", action))
        reward = np.zeros(self.num_envs)
        terminated, truncated, lost = (np.zeros(self.num_envs, np.bool_) for _ in range(3))
        infos: dict[str, Any] = {}
        for row, answer in self._gather(range(self.num_envs), self.timeout_s).items():
            if isinstance(answer, _Fault):
                self._restart(row, answer, "step")
                self._last[row] = {name: np.zeros(space.shape, space.dtype) for name, space in self._sensors.items()}
                lost[row] = truncated[row] = True
            else:
                self._last[row], reward[row], terminated[row], truncated[row], info = answer
                infos = self._add_info(infos, info, row)
        return self._observe(), reward, terminated, truncated, {**infos, "lost": lost}

    def close_extras(self, **kwargs: Any) -> None:  # Gymnasium's signature
        for worker in self._workers:
            worker.ask_to_leave()
        until = time.monotonic() + LEAVE_S  # for all of them together
        for worker in self._workers:
            worker.end(max(0.0, until - time.monotonic()))

    def pids(self) -> list[int]:
        """The process of each world."""
        return [worker.process.pid for worker in self._workers]

    def _observe(self) -> Sensors:
        return {name: np.stack([obs[name] for obs in self._last]) for name in self._sensors}

    # ------------------------------------------------------------------ processes

    def _start(self, row: int) -> _Worker:
        return _Worker(self._context, self._worlds[row], row)

    def _send(self, row: int, message: tuple[Any, ...]) -> None:
        try:
            self._workers[row].pipe.send(message)
        except OSError:
            return  # it is dead, as the answer will tell

    def _gather(self, rows: Iterable[int], seconds: float) -> dict[int, Any]:
        """The answer of each of the rows, or the `_Fault`, within so many seconds."""
        waiting = {self._workers[row].pipe: row for row in rows}
        answers: dict[int, Any] = {}
        until = time.monotonic() + seconds
        while waiting:
            ready = wait(list(waiting), max(0.0, until - time.monotonic()))
            if not ready:
                for row in waiting.values():
                    answers[row] = _Fault(f"no answer within {seconds:g} s")
                break
            for pipe in ready:
                assert isinstance(pipe, Connection)
                row = waiting.pop(pipe)
                answers[row] = self._receive(row, pipe)
        return dict(sorted(answers.items()))

    def _receive(self, row: int, pipe: Connection) -> Any:
        try:
            answer = pipe.recv()
        except (EOFError, OSError):
            return _Fault(f"its process {self._workers[row].fate()}")
        except Exception as error:  # half an answer, or of a class that only the worker knows
            return _Fault(f"its answer cannot be read: {type(error).__name__}: {error}")
        return self._checked(answer) if isinstance(answer, tuple) else answer

    def _checked(self, answer: tuple[Any, ...]) -> Any:
        """What reset or step gave, if it shows what the world's space promises."""
        obs = answer[0]
        for name, space in self._sensors.items():
            if name not in obs:
                return _Fault(f"sensor {name!r} is missing", final=True)
            value = np.asarray(obs[name])
            if value.shape != space.shape or value.dtype != space.dtype:
                given, promised = f"{value.dtype} {value.shape}", f"{space.dtype} {space.shape}"
                return _Fault(f"sensor {name!r} is {given}, its space promises {promised}", final=True)
        return answer

    def _restart(self, row: int, fault: _Fault, verb: str) -> None:
        if fault.final:
            raise UserError(f"world {row} in {verb}: {fault.what}")
        self._failures[row] += 1
        if self._failures[row] > self.restarts:
            raise UserError(
                f"world {row} failed in {verb}: {fault.what}. It was begun again {self.restarts} times before: "
                "mend the world, or allow more with restarts"
            )
        logger.warning(
            "world %d failed in %s: %s. It is begun again (%d of %d), the episode is discarded",
            row,
            verb,
            fault.what,
            self._failures[row],
            self.restarts,
        )
        self._workers[row].end(0)
        self._workers[row] = self._start(row)
        answer = self._gather([row], START_S)[row]
        if isinstance(answer, _Fault):
            raise UserError(f"world {row} failed in {verb}, and its new process did not start: {answer.what}")


class _Worker:
    """A process with one world, and the pipe to it."""

    def __init__(self, context: Any, make: Make, row: int) -> None:
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_work, args=(theirs, self.pipe, make), name=f"innerworld world {row}", daemon=True
        )
        self.process.start()
        theirs.close()

    def ask_to_leave(self) -> None:
        try:
            self.pipe.send(("close",))
        except (OSError, ValueError):
            return

    def fate(self) -> str:
        self.process.join(LEAVE_S)
        code = self.process.exitcode
        if code is None:
            return "does not answer any more"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"

    def end(self, seconds: float) -> None:
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


def _work(pipe: Connection, theirs: Connection, make: Make) -> None:
    """In the process: answer until there is nobody to answer to."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who can store what has ended
    theirs.close()  # a fork inherits it, and would never see the end of the pipe
    try:
        env = make()
        assert isinstance(env.observation_space, spaces.Dict)
    except Exception as error:
        pipe.send(_fault(error))
        return
    try:
        pipe.send(_Ready(env.observation_space, env.action_space, dict(env.metadata), env.render_mode))
        while True:
            verb, *given = pipe.recv()
            if verb == "close":
                break
            pipe.send(_answer(env, verb, given))
    except (EOFError, OSError):
        pass  # the other side is gone
    finally:
        env.close()


def _answer(env: gymnasium.Env, verb: str, given: list[Any]) -> Any:
    try:
        if verb == "reset":
            seed, options = given
            return env.reset(seed=seed, options=options)
        return env.step(given[0])
    except Exception as error:
        return _fault(error)


def _fault(error: Exception) -> _Fault:
    if isinstance(error, UserError):
        return _Fault(str(error), final=True)
    return _Fault(" ".join(f"{type(error).__name__}: {error}".split()))
