"""Begin several processes on this machine, as torchrun does, pass signals on to them, and end when they have ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from innerworld.training.requests import PARENT, SAVE, STOP

GRACE_S = 30.0  # for the others, when one has ended badly: they notice by themselves, and may be saving
LOOK_EVERY_S = 0.1


def launch(command: Sequence[str], processes: int) -> int:
    """Run `command` that many times, each told its rank as torchrun tells it; the exit status of all together.

    0 if all ended well, else that of the first that did not: of two at once, 128 plus the number of the signal that
    killed one rather than the status of the other, which only noticed.
    None is left behind: the others get `GRACE_S` to end, then are told to, then are killed.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # where they meet; no port to guess
    children = [subprocess.Popen(command, env=_environment(rank, processes, store.port)) for rank in range(processes)]
    failed, since = 0, 0.0
    try:
        with _passing_on(children):
            while any(child.poll() is None for child in children):
                time.sleep(LOOK_EVERY_S)
                bad = [child.returncode for child in children if child.returncode]
                if bad and not failed:
                    failed, since = min(bad), time.monotonic()
                if failed and time.monotonic() > since + GRACE_S:
                    _end(children)
    finally:
        _end(children)
    bad = [child.returncode for child in children if child.returncode]
    code = failed or min(bad, default=0)
    return 128 - code if code < 0 else code


def _environment(rank: int, processes: int, port: int) -> dict[str, str]:
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": "True"}
    texts = {name: str(value) for name, value in {**told, **place, PARENT: os.getpid()}.items()}
    return {"OMP_NUM_THREADS": threads, **os.environ, **texts}


@contextmanager
def _passing_on(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Send on what this process is sent. (Ctrl-C in a terminal reaches all by itself; twice at once counts once.)"""

    def pass_on(number: int, frame: FrameType | None) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    numbers = STOP if SAVE is None else (*STOP, SAVE)
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask those that still run to end, and end those that do not in ten seconds."""
    left = [child for child in children if child.poll() is None]
    for child in left:
        child.terminate()
    for child in left:
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def this_program(words: Sequence[str]) -> list[str]:
    """The command that runs `innerworld` with these words in this Python."""
    return [sys.executable, "-m", "innerworld", *words]
