"""Fixtures of the training tests."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest


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
