"""Jobs for the tests, in a module that workers can import; some of them go wrong."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from innerworld.errors import UserError


def square(x: int) -> int:
    return x * x


def first_is_last(x: int) -> int:
    time.sleep(0.4 if x == 0 else 0)
    return x


def picture(x: int) -> np.ndarray:
    return np.full((500, 500), x)


def scaled(by: np.ndarray, x: int) -> float:
    return float(by.mean()) * x


def wait(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def threads(x: int) -> int:
    import torch  # here, for a worker that does other jobs begins sooner without it

    print("a job that chatters")
    return torch.get_num_threads()


def mistake(x: int) -> int:
    if x == 2:
        raise UserError("there is no such world")
    if x == 3:
        raise ValueError("a bug")
    return x


def nothing_to_send(x: int) -> object:
    return lambda: x


def die_once(path: str) -> str:
    """Killed the first time."""
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path


def die(x: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def until_begun(path: str) -> None:
    """Ends when the other job has begun."""
    while not Path(path).exists():
        time.sleep(0.02)


def saves(job: tuple[str, bool]) -> None:
    """Takes long, and saves when asked to stop."""
    path, waits = job
    if waits:
        return until_begun(path)
    Path(path).write_text("begun")
    try:
        time.sleep(60)
    finally:
        Path(path).write_text("saved")


def stubborn(job: tuple[str, bool]) -> None:
    """Does not heed SIGTERM."""
    path, waits = job
    if waits:
        return until_begun(path)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(path).touch()
    time.sleep(60)


def held(job: tuple[str, str]) -> str:
    """Which of Ray's machines does it; on the one that will be lost it says that it has begun, and never ends."""
    import ray

    path, doomed = job
    here = ray.get_runtime_context().get_node_id()
    if here == doomed:
        Path(path).touch()
        time.sleep(200)
    return here


def machine(seconds: float) -> str:
    """Which of Ray's machines does it."""
    import ray

    time.sleep(seconds)
    return ray.get_runtime_context().get_node_id()
