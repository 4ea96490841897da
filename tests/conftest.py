"""What all tests need: Ctrl-C must be heard, a slow machine is no fault, and processes begin fast.

A new Python takes seconds to import torch. `begin` forks its processes off a server that has done so.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A shell starts jobs in the background with Ctrl-C ignored, and children inherit that. Some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

PATIENCE_S = 900.0  # with a process, on a machine that is busy
FORKS = "forkserver" in multiprocessing.get_all_start_methods()
FRESH = multiprocessing.get_context("forkserver" if FORKS else "spawn")
HEAVY = ["gymnasium", "numpy", "pydantic", "pytest", "torch", "torch._dynamo"]  # not innerworld: it is imported anew
CHILD = """
import os, runpy, sys
os.dup2(pipe.fileno(), 1)
os.dup2(pipe.fileno(), 2)
sys.stdout.reconfigure(line_buffering=True)
os.environ.clear()
os.environ.update(environment)
os.chdir(folder)
sys.path.insert(0, os.path.dirname(script))
sys.argv[:] = [script, *words]
runpy.run_path(script, run_name="__main__")
"""


class Begun:
    """A process that runs a script: what it prints, to stderr too, how it ended, and a way to end it."""

    def __init__(self, script: Path, words: tuple[str, ...], folder: Path, environment: dict[str, str]) -> None:
        ours, theirs = FRESH.Pipe(duplex=False)
        told = {"script": str(script), "words": words, "folder": str(folder), "environment": environment}
        self.process = FRESH.Process(target=exec, args=(CHILD, {**told, "pipe": theirs}))
        self.process.start()
        theirs.close()  # or its end would not end the pipe
        self.output = os.fdopen(os.dup(ours.fileno()), "rb")
        ours.close()

    def kill(self) -> None:
        self.process.kill()

    def end(self) -> tuple[int, bytes]:
        """Wait for it: its exit code, minus the signal where one ended it, and what it printed that nobody has read.

        One that hangs is killed, or the suite would hang with it and nobody would know where.
        """
        watchdog = threading.Timer(PATIENCE_S, self.kill)
        watchdog.daemon = True
        watchdog.start()
        rest = self.output.read()
        self.process.join()
        watchdog.cancel()
        watchdog.join()
        code = self.process.exitcode
        assert code is not None
        return code, rest

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self.output.close()


@pytest.fixture(scope="session")
def server() -> None:
    """The process from which others fork: it imports what is heavy, with warnings as errors."""
    if FORKS:
        FRESH.set_forkserver_preload(HEAVY)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "warnoptions", ["error"])  # of which the flags of new processes are made
            patch.setenv("OPENBLAS_NUM_THREADS", "1")  # who has threads must not fork
            forkserver.ensure_running()


@pytest.fixture
def begin(server: None, tmp_path: Path) -> Iterator[Callable[..., Begun]]:
    """`begin(script, *words, NAME="value")`: a file, or code, in a Python of its own, which ends with the test.

    In the test's folder, with these variables in its environment.
    """
    begun: list[Begun] = []

    def make(script: Path | str, *words: object, **environment: str) -> Begun:
        if isinstance(script, str):
            code, script = script, tmp_path / f"script{len(begun)}.py"
            script.write_text(code, encoding="utf-8")
        begun.append(Begun(script, tuple(map(str, words)), tmp_path, {**os.environ, **environment}))
        return begun[-1]

    yield make
    for each in begun:
        each.close()
