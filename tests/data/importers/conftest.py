"""`logs`: writers of small valid logs of every kind, which bench/fuzz_importers.py damages, too."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[3] / "bench"


@pytest.fixture(scope="session")
def logs() -> ModuleType:
    return load("sample_logs")


@pytest.fixture(scope="session")
def fuzz(logs: ModuleType) -> ModuleType:
    return load("fuzz_importers")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
