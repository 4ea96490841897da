"""Fixtures of the training tests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[Any]]:
    """Every process that the test begins. One whose `returncode` is known was waited for: it is no zombie."""
    found: list[subprocess.Popen[Any]] = []

    class Noted(subprocess.Popen):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            found.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    return found


@pytest.fixture
def together(begin: Callable[..., Any]) -> Callable[..., str]:
    """`together(script, *words, processes=2)`: as a launcher begins them, but sooner; all end well. What they print."""

    def run(script: Path, *words: object, processes: int = 2) -> str:
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        place |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
        begun = [begin(script, *words, **place, RANK=str(i), LOCAL_RANK=str(i)) for i in range(processes)]
        ended = [process.end() for process in begun]
        told = b"".join(output for _, output in ended).decode()
        assert [code for code, _ in ended] == [0] * processes, told[-3000:]
        return told

    return run
